//! What users keep: account data and receipts against their logs, media ids that wait for their upload.

use super::Report;
use crate::{Error, View, tables};

pub(super) fn check(view: View<'_>, report: &mut Report) -> Result<(), Error> {
    account_data(view, report)?;
    receipts(view, report)?;
    for row in view.scan(tables::DIRECTORY_WORDS, ())? {
        let (_, user) = row?;
        let named = view.contains(tables::DIRECTORY_NAMES, &*user)?;
        report.expect(named, || "the user directory has a word of a user whom it does not know".to_owned());
    }
    for row in view.scan(tables::DELAYED_EVENTS, ())? {
        let (id, row) = row?;
        let due = view.contains(tables::DELAYED_DUE, (row.due_ms(), id.as_str()))?;
        report.expect(due == row.end.is_none(), || "a delayed event waits and is not due, or the other way".to_owned());
        let listed = view.contains(tables::DELAYED_OF, (&*row.user_id, id.as_str()))?;
        report.expect(listed, || "a delayed event is not in its user's list".to_owned());
    }
    for row in view.scan(tables::DELAYED_DUE, ())? {
        let ((_, id), ()) = row?;
        let there = view.contains(tables::DELAYED_EVENTS, id.as_str())?;
        report.expect(there, || "a delayed event is due that is not there".to_owned());
    }
    for row in view.scan(tables::DELAYED_OF, ())? {
        let ((_, id), ()) = row?;
        let there = view.contains(tables::DELAYED_EVENTS, id.as_str())?;
        report.expect(there, || "a list of delayed events names one that is not there".to_owned());
    }
    for row in view.scan(tables::MEDIA_PENDING, ())? {
        let ((creator, id), _) = row?;
        let media = view.get(tables::MEDIA, (creator.server_name(), id.as_str()))?;
        let waits = media.is_some_and(|row| row.content.is_none() && row.creator.as_ref() == Some(&creator));
        report.expect(waits, || format!("media {id} is noted to wait for its upload, and does not"));
    }
    Ok(())
}

fn account_data(view: View<'_>, report: &mut Report) -> Result<(), Error> {
    for row in view.scan(tables::ACCOUNT_DATA_LOG, ())? {
        let ((user, position), key) = row?;
        let data = view.get(tables::ACCOUNT_DATA, (&*user, key.room_id.as_str(), key.kind.as_str()))?;
        report.expect(data.is_some_and(|data| data.position == position), || {
            format!("the account data log at {position} names {}, which is not of that position", key.kind)
        });
    }
    for row in view.scan(tables::ACCOUNT_DATA, ())? {
        let ((user, _, kind), data) = row?;
        report.expect(view.contains(tables::ACCOUNT_DATA_LOG, (&*user, data.position))?, || {
            format!("account data {kind} at {} is not in the log: no sync would show it", data.position)
        });
    }
    Ok(())
}

fn receipts(view: View<'_>, report: &mut Report) -> Result<(), Error> {
    for row in view.scan(tables::RECEIPT_LOG, ())? {
        let ((room, position), key) = row?;
        let row = view.get(tables::RECEIPTS, (room, &*key.user_id, key.kind.as_str(), key.thread.as_str()))?;
        report.expect(row.is_some_and(|row| row.position == position), || {
            format!("the receipt log of room {} at {position} names no receipt", room.0)
        });
    }
    for row in view.scan(tables::EARLY_RECEIPTS, ())? {
        let ((room, user, _), _) = row?;
        report.expect(view.contains(tables::ROOMS, room)?, || format!("a receipt of {user} waits in an unknown room"));
    }
    for row in view.scan(tables::RECEIPTS, ())? {
        let ((room, _, kind, _), receipt) = row?;
        report.expect(view.contains(tables::RECEIPT_LOG, (room, receipt.position))?, || {
            format!("a receipt {kind} of room {} at {} is not in the log", room.0, receipt.position)
        });
    }
    Ok(())
}
