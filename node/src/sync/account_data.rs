//! Account data in `/sync`: what changed, global and by room; everything of a room that the user has just joined.

use std::{collections::BTreeMap, ops::Bound};

use millpond_matrix::client::write_string;
use millpond_store::{View, rows::AccountData, tables};
use ruma::{RoomId, UserId};

use super::answer::Sweep;
use crate::{
    Error,
    account_data::PUSH_RULES,
    json::{comma, events_member, key, raw},
    push_rules,
    timeline::select::{Select, takes_kind},
};

/// Changed account data: (room id or empty) to (type, row).
pub(super) type Changes = BTreeMap<String, Vec<(String, AccountData)>>;

/// What changed after a position; without one, everything.
pub(super) fn changes(view: View<'_>, user: &UserId, since: Option<u64>) -> Result<Changes, Error> {
    let mut changes = Changes::new();
    let Some(since) = since else {
        for row in view.scan(tables::ACCOUNT_DATA, (user,))? {
            let ((_, room, kind), data) = row?;
            changes.entry(room).or_default().push((kind, data));
        }
        // Clients count on the rules of a user who never changed any.
        let global = changes.entry(String::new()).or_default();
        if global.iter().all(|(kind, _)| kind != PUSH_RULES) {
            let content = push_rules::content(&push_rules::ruleset(view, user)?);
            global.push((PUSH_RULES.to_owned(), AccountData { position: 0, content }));
        }
        return Ok(changes);
    };
    let (from, to) = (Bound::Excluded((user, since)), Bound::Included((user, u64::MAX)));
    for row in view.range(tables::ACCOUNT_DATA_LOG, from, to)? {
        let (_, key) = row?;
        if let Some(data) = view.get(tables::ACCOUNT_DATA, (user, &key.room_id, &key.kind))? {
            changes.entry(key.room_id).or_default().push((key.kind, data));
        }
    }
    Ok(changes)
}

/// Appends the global `account_data`; says whether there was any.
pub(super) fn write_global(sweep: &Sweep<'_>, out: &mut Vec<u8>) -> Result<bool, Error> {
    let filter = &sweep.request.filter.account_data;
    events_member(out, "account_data", |out| {
        for (kind, data) in sweep.account_data.get("").into_iter().flatten() {
            if takes_kind(filter.types.as_deref(), &filter.not_types, kind) {
                write(out, kind, &data.content);
            }
        }
        Ok(())
    })
}

/// Appends the `account_data` of a room: what changed, or (`whole`) all; says whether there was any.
pub(super) fn write_room(sweep: &Sweep<'_>, out: &mut Vec<u8>, room_id: &RoomId, whole: bool) -> Result<bool, Error> {
    let filter = Select::new(&sweep.request.filter.room.account_data);
    if !filter.takes_room(room_id) {
        return Ok(false);
    }
    events_member(out, "account_data", |out| {
        if whole {
            for row in sweep.view.scan(tables::ACCOUNT_DATA, (sweep.who.user, room_id.as_str()))? {
                let ((.., kind), data) = row?;
                if filter.takes_kind(&kind) {
                    write(out, &kind, &data.content);
                }
            }
            return Ok(());
        }
        for (kind, data) in sweep.account_data.get(room_id.as_str()).into_iter().flatten() {
            if filter.takes_kind(kind) {
                write(out, kind, &data.content);
            }
        }
        Ok(())
    })
}

/// What of a room changed after a position; from 0, everything.
pub(super) fn of_room(
    view: View<'_>,
    user: &UserId,
    room_id: &RoomId,
    since: u64,
) -> Result<Vec<(String, AccountData)>, Error> {
    let mut found = Vec::new();
    for row in view.scan(tables::ACCOUNT_DATA, (user, room_id.as_str()))? {
        let ((.., kind), data) = row?;
        if data.position > since || since == 0 {
            found.push((kind, data));
        }
    }
    Ok(found)
}

/// Appends an event of account data.
pub(super) fn write(out: &mut Vec<u8>, kind: &str, content: &str) {
    comma(out);
    out.push(b'{');
    key(out, "content");
    raw(out, content);
    key(out, "type");
    write_string(out, kind);
    out.push(b'}');
}
