//! What the owner of a mailbox asks. An unknown mailbox and a signature that is not the owner's get the same refusal.

use super::{Host, HostRows, HostStoreError, MailboxRow, StreamId, pickup};
use crate::{
    host_protocol::{Answer, Fetched, MAX_PAGE_LEN, OwnerAsk, OwnerRequest, Purpose, Quota, SignedRequest},
    mailbox::HostNonce,
    stamp::{MailboxId, Serial},
    time::UnixMillis,
};

impl Host {
    pub(super) fn owner(
        &mut self,
        rows: &mut dyn HostRows,
        stream: StreamId,
        request: SignedRequest<OwnerRequest>,
        nonce: &HostNonce,
        now: UnixMillis,
    ) -> Result<Answer, HostStoreError> {
        let id = request.content.mailbox;
        let Some(row) = rows.mailbox(&id)?.filter(|row| now.day() <= row.closes) else {
            return Ok(Answer::Refused);
        };
        if !request.is_signed_by(&row.read_key, &self.key, nonce) {
            return Ok(Answer::Refused);
        }
        match request.content.ask {
            OwnerAsk::Fetch { after } => {
                let listed = rows.list(&id, after, MAX_PAGE_LEN)?;
                let next = listed.deposits.last().map_or(after, |(cursor, _)| *cursor);
                let deposits = listed.deposits.into_iter().map(|(_, deposit)| deposit).collect();
                Ok(Answer::Page(Fetched { deposits, next, more: listed.more }))
            }
            OwnerAsk::Delete { serials } => delete(rows, &id, row, &serials),
            OwnerAsk::Announce => Ok(self.watch(stream, id)),
            OwnerAsk::Close => close(rows, &id, &row),
            OwnerAsk::Quota => {
                Ok(Answer::Quota(Quota { envelopes: row.envelopes, bytes: row.bytes, closes: row.closes }))
            }
            OwnerAsk::Box { id: pickup, body } => {
                if row.purpose != Purpose::Ordinary {
                    return Ok(Answer::Refused);
                }
                pickup::lay(rows, (&id, row), &pickup, body, &self.limits, now.day())
            }
        }
    }
}

/// Serials that lie here go; others are passed over, so that a repeated delete is answered alike.
fn delete(
    rows: &mut dyn HostRows,
    id: &MailboxId,
    mut row: MailboxRow,
    serials: &[Serial],
) -> Result<Answer, HostStoreError> {
    let mut freed = 0;
    for serial in serials {
        if let Some(bytes) = rows.delete(id, *serial)? {
            row.envelopes = row.envelopes.saturating_sub(1);
            row.bytes = row.bytes.saturating_sub(bytes);
            freed += bytes;
        }
    }
    if freed > 0 {
        let mut totals = rows.totals()?;
        totals.bytes = totals.bytes.saturating_sub(freed);
        rows.put_totals(&totals)?;
        rows.update_mailbox(id, &row)?;
    }
    Ok(Answer::Done)
}

/// Removes a mailbox and all that is in it.
pub(super) fn close(rows: &mut dyn HostRows, id: &MailboxId, row: &MailboxRow) -> Result<Answer, HostStoreError> {
    rows.remove_mailbox(id)?;
    let mut totals = rows.totals()?;
    totals.bytes = totals.bytes.saturating_sub(row.bytes);
    totals.mailboxes = totals.mailboxes.saturating_sub(1);
    rows.put_totals(&totals)?;
    Ok(Answer::Done)
}
