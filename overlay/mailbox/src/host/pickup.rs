//! Pickup boxes: one L body under a name that only a contact link gives, read once, then a tombstone until its time is over.
//!
//! ```text
//! Waiting --take(claim)--> Claimed: the same claim may read again until the next day --> Tombstone --> gone after 14 days
//! ```

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{HostLimits, HostRows, HostStoreError, MailboxRow, PickupRow, PickupState};
use crate::{
    host_protocol::{Answer, BoxId, Claim},
    stamp::MailboxId,
    time::UtcDay,
};

/// Lays a box down for the owner of a mailbox. Nothing says afterwards whose it is; the mailbox only counts them.
pub(super) fn lay(
    rows: &mut dyn HostRows,
    (mailbox, mut row): (&MailboxId, MailboxRow),
    id: &BoxId,
    body: Bytes,
    limits: &HostLimits,
    today: UtcDay,
) -> Result<Answer, HostStoreError> {
    if let Some(there) = rows.pickup(id)? {
        let same = matches!(&there.state, PickupState::Waiting(known) if *known == body);
        return Ok(if same { Answer::Done } else { Answer::Refused });
    }
    let mut totals = rows.totals()?;
    if row.boxes >= MAX_BOXES || totals.boxes >= limits.boxes {
        return Ok(Answer::Full);
    }
    row.boxes += 1;
    totals.boxes += 1;
    let expires = UtcDay(today.0.saturating_add(BOX_DAYS));
    rows.put_pickup(id, &PickupRow { expires, state: PickupState::Waiting(body) })?;
    rows.update_mailbox(mailbox, &row)?;
    rows.put_totals(&totals)?;
    Ok(Answer::Done)
}

/// Hands a box out to the first claim.
pub(super) fn take(
    rows: &mut dyn HostRows,
    id: &BoxId,
    claim: &Claim,
    today: UtcDay,
) -> Result<Answer, HostStoreError> {
    let Some(row) = rows.pickup(id)?.filter(|row| today < row.expires) else {
        return Ok(Answer::NoBox);
    };
    let mine: [u8; 32] = Sha256::digest(claim.0).into();
    match row.state {
        PickupState::Waiting(body) => {
            let state = PickupState::Claimed { claim: mine, on: today, body: body.clone() };
            rows.put_pickup(id, &PickupRow { expires: row.expires, state })?;
            Ok(Answer::Box(body))
        }
        PickupState::Claimed { claim, body, .. } if claim == mine => Ok(Answer::Box(body)),
        PickupState::Claimed { .. } | PickupState::Tombstone => Ok(Answer::Taken),
    }
}

/// Days until a box is gone, taken or not.
pub(super) const BOX_DAYS: u32 = 14;
/// Boxes that one mailbox may ever lay down.
const MAX_BOXES: u16 = 64;
