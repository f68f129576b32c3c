//! Aliases both ways, published rooms, and what outsiders are shown.

use super::Report;
use crate::{Error, View, tables};

pub(super) fn check(view: View<'_>, report: &mut Report) -> Result<(), Error> {
    for row in view.scan(tables::ALIASES, ())? {
        let (alias, row) = row?;
        report.expect(view.contains(tables::ROOM_IDS, &*row.room_id)?, || {
            format!("alias {alias} leads to a room that is not known")
        });
        report.expect(view.contains(tables::ROOM_ALIASES, (&*row.room_id, &*alias))?, || {
            format!("alias {alias} is not in its room's list")
        });
    }
    for row in view.scan(tables::ROOM_ALIASES, ())? {
        let ((room_id, alias), ()) = row?;
        let leads = view.get(tables::ALIASES, &*alias)?;
        report.expect(leads.is_some_and(|row| row.room_id == room_id), || {
            format!("{alias} is in the list of a room that it does not lead to")
        });
    }
    for row in view.scan(tables::PUBLISHED, ())? {
        let (room_id, ()) = row?;
        report.expect(view.contains(tables::ROOM_IDS, &*room_id)?, || format!("{room_id} is published and not known"));
    }
    for row in view.scan(tables::STRIPPED, ())? {
        let ((user, room), _) = row?;
        report.expect(view.contains(tables::MEMBERSHIPS, (&*user, room))?, || {
            format!("a user is shown room {}, and has no membership there", room.0)
        });
    }
    for row in view.scan(tables::MEMBERSHIPS, ())? {
        let ((_, room), row) = row?;
        report.expect(view.contains(tables::ROOMS, room)?, || format!("a membership is of unknown room {}", room.0));
        if let Some(event) = row.event {
            report.expect(view.contains(tables::EVENTS, event)?, || {
                format!("a membership of room {} is of event {}, which is not there", room.0, event.0)
            });
        }
    }
    Ok(())
}
