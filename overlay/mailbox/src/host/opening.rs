//! Making mailboxes: grants into tokens, tokens into mailboxes. Both steps may be repeated after a lost answer.

use rand_core::CryptoRng;
use sha2::{Digest, Sha256};

use super::{Host, HostRows, HostStoreError, MailboxRow, Rate};
use crate::{
    host_protocol::{Answer, Creation, Cursor, Purpose, SignedRequest},
    mailbox::HostNonce,
    time::{UnixMillis, UtcDay},
    token::{Element, Grant},
};

impl Host {
    /// A grant is good for one set of blinded tokens, however often it is sent.
    pub(super) fn evaluate(
        &mut self,
        rows: &mut dyn HostRows,
        grant: &Grant,
        blinded: &[Element],
        now: UnixMillis,
        rng: &mut impl CryptoRng,
    ) -> Result<Answer, HostStoreError> {
        if !self.tokens.granted(grant) {
            return Ok(Answer::TokenRefused);
        }
        if !self.floods.allow(Rate::Tokens, now) {
            return Ok(Answer::Busy);
        }
        let asked: [u8; 32] = Sha256::digest(blinded.as_flattened()).into();
        let mark = grant.spent_mark();
        match rows.spent(&mark)? {
            Some(before) if before != asked => return Ok(Answer::TokenRefused),
            Some(_) => {}
            None => rows.spend(&mark, &asked)?,
        }
        match self.tokens.evaluate(blinded, rng) {
            Ok(evaluated) => Ok(Answer::Tokens(evaluated)),
            // The grant stays good for nothing else: who sends no group elements is not an honest owner.
            Err(error) => Ok(Answer::Malformed(error.to_string())),
        }
    }

    pub(super) fn create(
        &mut self,
        rows: &mut dyn HostRows,
        request: &SignedRequest<Creation>,
        nonce: &HostNonce,
        now: UnixMillis,
    ) -> Result<Answer, HostStoreError> {
        let creation = &request.content;
        if !request.is_signed_by(&creation.read_key, &self.key, nonce) {
            return Ok(Answer::Refused);
        }
        if let Some(row) = rows.mailbox(&creation.mailbox)? {
            return Ok(if row.is_made_from(creation) { Answer::Done } else { Answer::Refused });
        }
        let mark = creation.token.spent_mark();
        if !self.tokens.holds(&creation.token) || rows.spent(&mark)?.is_some() {
            return Ok(Answer::TokenRefused);
        }
        let mut totals = rows.totals()?;
        if totals.mailboxes >= self.limits.mailboxes {
            return Ok(Answer::Full);
        }
        totals.mailboxes += 1;
        rows.spend(&mark, &[0; 32])?;
        rows.create_mailbox(&creation.mailbox, &MailboxRow::new(creation, now.day()))?;
        rows.put_totals(&totals)?;
        Ok(Answer::Done)
    }
}

impl MailboxRow {
    fn new(creation: &Creation, today: UtcDay) -> Self {
        let days = match creation.purpose {
            Purpose::Ordinary => ORDINARY_DAYS,
            Purpose::Recovery => RECOVERY_DAYS,
        };
        Self {
            purpose: creation.purpose,
            key: creation.key.clone(),
            read_key: creation.read_key,
            closes: UtcDay(today.0.saturating_add(days)),
            arrived: Cursor(0),
            envelopes: 0,
            bytes: 0,
            boxes: 0,
        }
    }

    fn is_made_from(&self, creation: &Creation) -> bool {
        self.purpose == creation.purpose
            && self.read_key == creation.read_key
            && self.key.as_bytes() == creation.key.as_bytes()
    }
}

/// Days until an ordinary mailbox closes: 7 in use and 30 to be emptied.
pub const ORDINARY_DAYS: u32 = 37;
/// Days until a recovery mailbox closes.
pub const RECOVERY_DAYS: u32 = 400;
