//! Users who were deactivated with the wish to be forgotten (client-server API, "Account deactivation"): whoever was not in
//! the room when they spoke gets their events redacted.

use std::collections::BTreeSet;

use millpond_matrix::{Pdu, redact::redact, rules::rules};
use millpond_store::{
    Error, View,
    rows::{EventRow, RoomShort},
    tables,
};
use ruma::OwnedUserId;

use crate::{json::unquote, rooms::rows};

/// The users who were erased: few, on a node of a few people.
pub(crate) fn erased(view: View<'_>) -> Result<BTreeSet<OwnedUserId>, Error> {
    let mut users = BTreeSet::new();
    for row in view.scan(tables::ACCOUNT_MARKS, ())? {
        let (user, marks) = row?;
        if marks.erased {
            users.insert(user);
        }
    }
    Ok(users)
}

/// Whether an event is one that an erased user's wish is about: state stays, the room would not be the same without it.
pub(crate) fn is_of(users: &BTreeSet<OwnedUserId>, row: &EventRow) -> bool {
    !users.is_empty()
        && row.header.state_key.is_none()
        && users.iter().any(|user| *user == *unquote(row.header.sender.of(&row.json)))
}

/// The event as it would be if it were redacted.
pub(crate) fn redacted(view: View<'_>, room: RoomShort, row: &EventRow) -> Result<EventRow, Error> {
    let corrupt = |why: String| Error::Corrupt { table: "EVENTS", why };
    let known = view.get(tables::ROOMS, room)?.ok_or_else(|| rows::dangling("ROOMS", room.0))?;
    let rules = rules(&known.version).map_err(|e| corrupt(e.to_string()))?;
    let pdu: std::sync::Arc<Pdu> = rows::pdu(&known.room_id, row.clone())?;
    let after = redact(&pdu, rules).map_err(|e| corrupt(e.to_string()))?;
    Ok(EventRow { meta: row.meta.clone(), header: after.header().clone(), json: after.json().into() })
}
