//! What is over goes: closed mailboxes with all that is in them, bodies of boxes that were taken, boxes.

use super::{Due, HostRows, HostStoreError, PickupRow, PickupState, owner};
use crate::{host_protocol::BoxId, time::UtcDay};

/// Removes some of what is over. True: there may be more.
pub(super) fn remove_due(rows: &mut dyn HostRows, today: UtcDay) -> Result<bool, HostStoreError> {
    let due = rows.due(today, AT_ONCE)?;
    let more = due.len() == AT_ONCE;
    for what in due {
        match what {
            Due::Mailbox(id) => {
                if let Some(row) = rows.mailbox(&id)? {
                    owner::close(rows, &id, &row)?;
                }
            }
            Due::Box(id) => remove_box(rows, &id, today)?,
        }
    }
    Ok(more)
}

fn remove_box(rows: &mut dyn HostRows, id: &BoxId, today: UtcDay) -> Result<(), HostStoreError> {
    let Some(row) = rows.pickup(id)? else { return Ok(()) };
    if today < row.expires {
        return rows.put_pickup(id, &PickupRow { expires: row.expires, state: PickupState::Tombstone });
    }
    rows.remove_pickup(id)?;
    let mut totals = rows.totals()?;
    totals.boxes = totals.boxes.saturating_sub(1);
    rows.put_totals(&totals)
}

/// Mailboxes and boxes in one call; a full mailbox takes tens of milliseconds to remove.
const AT_ONCE: usize = 4;
