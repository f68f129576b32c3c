//! Deposits. The order of the checks is that of overlay.md, section 3: size (the parser's), mailbox, mac, free serial,
//! signature, quota. Cheap ones come first, and none tells a stranger more than "refused".

use super::{Host, HostRows, HostStoreError, MailboxRow, Stored};
use crate::{
    deposit::{Deposit, deposit_len},
    host_protocol::{Cursor, Purpose},
    stamp::Class,
    time::UnixMillis,
};

impl Host {
    pub(super) fn put(
        &mut self,
        rows: &mut dyn HostRows,
        deposit: &Deposit,
        now: UnixMillis,
    ) -> Result<Stored, HostStoreError> {
        let (header, id) = (deposit.header(), deposit.header().mailbox());
        let Some(mut mailbox) = rows.mailbox(&id)?.filter(|row| row.takes(header.class(), now)) else {
            return Ok(Stored::Refused);
        };
        if !mailbox.key.issued(header) {
            return Ok(Stored::Refused);
        }
        if rows.is_spent(&id, header.serial())? {
            let same = rows.stored(&id, header.serial())? == Some(deposit.digest());
            return Ok(if same && deposit.is_signed_for(&self.key) { Stored::Before } else { Stored::Refused });
        }
        if !deposit.is_signed_for(&self.key) {
            return Ok(Stored::Refused);
        }
        let length = deposit_len(header.class()) as u64;
        if mailbox.envelopes >= mailbox.max_envelopes() || mailbox.bytes + length > MAX_BYTES {
            return Ok(Stored::Full);
        }
        let mut totals = rows.totals()?;
        if totals.bytes + length > self.limits.bytes {
            return Ok(Stored::Full);
        }
        if !self.floods.allow_deposit(&id, now) {
            return Ok(Stored::Busy);
        }
        mailbox.arrived = Cursor(mailbox.arrived.0 + 1);
        mailbox.envelopes += 1;
        mailbox.bytes += length;
        totals.bytes += length;
        rows.put(&id, mailbox.arrived, deposit)?;
        rows.update_mailbox(&id, &mailbox)?;
        rows.put_totals(&totals)?;
        Ok(Stored::Fresh)
    }
}

impl MailboxRow {
    /// Whether the mailbox is open, and for this size.
    fn takes(&self, class: Class, now: UnixMillis) -> bool {
        now.day() <= self.closes && (class == Class::S || self.purpose == Purpose::Ordinary)
    }

    fn max_envelopes(&self) -> u32 {
        match self.purpose {
            Purpose::Ordinary => MAX_ENVELOPES,
            Purpose::Recovery => MAX_RECOVERY_ENVELOPES,
        }
    }
}

/// Bytes of deposits in one mailbox.
pub const MAX_BYTES: u64 = 64 << 20;
/// Envelopes in one mailbox.
pub const MAX_ENVELOPES: u32 = 8_192;
/// Envelopes in a recovery mailbox.
pub const MAX_RECOVERY_ENVELOPES: u32 = 256;
