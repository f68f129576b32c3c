//! What is no part of a room's history: to-device messages, end-to-end encryption, account data, receipts, typing.

use std::collections::BTreeSet;

use millpond_matrix::client::write_string;
use millpond_store::Position;
use ruma::OwnedEventId;
use serde_json::value::RawValue;

use super::{
    lists::Selected,
    request::{Request, ToDevice},
    sweep::{Sweep, Visited},
};
use crate::{
    Error,
    json::{any_key, comma, key, object_member, raw, text_member},
    receipts,
    sync::{account_data, devices},
    to_device,
};

/// The token of to-device messages: a position.
///
/// # Errors
/// 400 `M_INVALID_PARAM`.
pub(super) fn messages_since(asked: &ToDevice) -> Result<Option<Position>, Error> {
    let Some(since) = &asked.since else { return Ok(None) };
    let number = since.parse().ok().filter(|_| since.bytes().all(|byte| byte.is_ascii_digit()));
    let number = number.ok_or_else(|| {
        Error::invalid_param("`since` of to_device is not a token of this server: ask without it to get all that waits")
    })?;
    Ok(Some(Position(number)))
}

/// Appends the extensions that are asked for; says whether there is anything new.
pub(super) fn write(
    sweep: &Sweep<'_>,
    out: &mut Vec<u8>,
    request: &Request,
    selected: &Selected,
    visited: &[Visited],
) -> Result<bool, Error> {
    let asked = &request.extensions;
    let mut news = false;
    if asked.to_device.enabled == Some(true) {
        news |= write_messages(sweep, out, &asked.to_device)?;
    }
    if asked.e2ee.enabled == Some(true) {
        news |= write_e2ee(sweep, out)?;
    }
    if asked.account_data.is_on() {
        news |= write_account_data(sweep, out, selected, visited)?;
    }
    if asked.receipts.is_on() {
        news |= write_receipts(sweep, out, selected, visited)?;
    }
    if asked.typing.is_on() {
        news |= write_typing(sweep, out, selected, visited)?;
    }
    Ok(news)
}

fn write_messages(sweep: &Sweep<'_>, out: &mut Vec<u8>, asked: &ToDevice) -> Result<bool, Error> {
    let limit = asked.limit.map_or(MESSAGES_MAX, |limit| usize::try_from(limit).unwrap_or(MESSAGES_MAX));
    let limit = limit.clamp(1, MESSAGES_MAX);
    // A token from before a restored backup would hide what came since.
    let since = messages_since(asked)?.filter(|since| *since <= sweep.position).unwrap_or_default();
    let waiting = to_device::pending(sweep.view, sweep.who.user, sweep.device, since, limit)?;
    let next = waiting.last().filter(|_| waiting.len() == limit).map_or(sweep.position, |(position, _)| *position);
    object_member(out, "to_device", |out| {
        text_member(out, "next_batch", &next.0.to_string());
        key(out, "events");
        out.push(b'[');
        for (_, message) in &waiting {
            comma(out);
            raw(out, message.json().get());
        }
        out.push(b']');
        Ok::<_, Error>(())
    })?;
    Ok(!waiting.is_empty())
}

fn write_e2ee(sweep: &Sweep<'_>, out: &mut Vec<u8>) -> Result<bool, Error> {
    let (view, user) = (sweep.view, sweep.who.user);
    let mut news = false;
    object_member(out, "e2ee", |out| {
        if let Some(since) = sweep.since {
            news |= devices::write_lists_since(view, user, Position(since), sweep.company_changed()?, out)?;
        }
        news |= devices::write_counts_since(view, user, sweep.device, sweep.since.unwrap_or(0), out)?;
        Ok::<_, Error>(())
    })?;
    Ok(news)
}

fn write_account_data(
    sweep: &Sweep<'_>,
    out: &mut Vec<u8>,
    selected: &Selected,
    visited: &[Visited],
) -> Result<bool, Error> {
    object_member(out, "account_data", |out| {
        let global = sweep.account_data.get("").map(Vec::as_slice).unwrap_or_default();
        if !global.is_empty() {
            key(out, "global");
            out.push(b'[');
            for (kind, data) in global {
                account_data::write(out, kind, &data.content);
            }
            out.push(b']');
        }
        of_rooms(out, |out| {
            for visit in visited.iter().filter(|visit| selected.asked[visit.asked].extensions.account_data) {
                let current = visit.told.is_some() && visit.told == sweep.since;
                if current && sweep.account_data.keys().all(String::is_empty) {
                    continue;
                }
                let room_id = &sweep.sync.heads.nature(sweep.view, visit.room)?.room_id;
                let changed = match visit.told.filter(|_| !current) {
                    _ if current => sweep.account_data.get(room_id.as_str()).cloned().unwrap_or_default(),
                    told => account_data::of_room(sweep.view, sweep.who.user, room_id, told.unwrap_or(0))?,
                };
                if changed.is_empty() {
                    continue;
                }
                any_key(out, room_id.as_str());
                out.push(b'[');
                for (kind, data) in &changed {
                    account_data::write(out, kind, &data.content);
                }
                out.push(b']');
            }
            Ok(())
        })
    })
}

fn write_receipts(
    sweep: &Sweep<'_>,
    out: &mut Vec<u8>,
    selected: &Selected,
    visited: &[Visited],
) -> Result<bool, Error> {
    object_member(out, "receipts", |out| {
        of_rooms(out, |out| {
            let asked = |visit: &&Visited| selected.asked[visit.asked].extensions.receipts && visit.joined;
            for visit in visited.iter().filter(asked).filter(|visit| visit.written) {
                let since = Position(visit.told.unwrap_or(0));
                let Some(event) = receipts::since(sweep.view, visit.room, since, sweep.who.user)? else { continue };
                let json = match visit.told {
                    Some(_) => Some(event.json().get().to_owned()),
                    None => of_events(event.json(), &visit.events, sweep.who.user.as_str()),
                };
                if let Some(json) = json {
                    any_key(out, sweep.sync.heads.nature(sweep.view, visit.room)?.room_id.as_str());
                    raw(out, &json);
                }
            }
            Ok(())
        })
    })
}

/// The receipts on some events, and the user's own: a client that sees a room for the first time has no use for others.
fn of_events(event: &RawValue, events: &[OwnedEventId], user: &str) -> Option<String> {
    let mut event: serde_json::Value = serde_json::from_str(event.get()).ok()?;
    let shown: BTreeSet<&str> = events.iter().map(|id| id.as_str()).collect();
    let content = event.get_mut("content")?.as_object_mut()?;
    content.retain(|event_id, kinds| {
        if shown.contains(event_id.as_str()) {
            return true;
        }
        let Some(kinds) = kinds.as_object_mut() else { return false };
        kinds.retain(|_, users| {
            let Some(users) = users.as_object_mut() else { return false };
            users.retain(|id, _| id == user);
            !users.is_empty()
        });
        !kinds.is_empty()
    });
    (!content.is_empty()).then(|| event.to_string())
}

fn write_typing(sweep: &Sweep<'_>, out: &mut Vec<u8>, selected: &Selected, visited: &[Visited]) -> Result<bool, Error> {
    object_member(out, "typing", |out| {
        of_rooms(out, |out| {
            for visit in visited.iter().filter(|visit| selected.asked[visit.asked].extensions.typing && visit.joined) {
                let since = visit.told.and(sweep.turn.pos).map(|pos| pos.typing);
                let Some(users) = sweep.sync.typing.since(visit.room, since) else { continue };
                any_key(out, sweep.sync.heads.nature(sweep.view, visit.room)?.room_id.as_str());
                raw(out, "{\"content\":{\"user_ids\":[");
                for user in users.iter().filter(|user| !sweep.who.ignored.contains(*user)) {
                    comma(out);
                    write_string(out, user.as_str());
                }
                raw(out, "]},\"type\":\"m.typing\"}");
            }
            Ok(())
        })
    })
}

/// Appends `rooms` with what `write` appends, if that is anything.
fn of_rooms(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>) -> Result<(), Error> {
    object_member(out, "rooms", write)?;
    Ok(())
}

/// To-device messages of one answer.
const MESSAGES_MAX: usize = 100;
