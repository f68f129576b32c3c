//! What a gateway has not been told yet: the events behind the pusher's cursor that the push rules notify about.

use std::ops::Bound;

use millpond_store::{
    View,
    rows::{EventRow, Membership, Pusher, RoomShort},
    tables,
};
use ruma::{
    UserId,
    events::room::member::MembershipState,
    push::{Action, Tweak},
};
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use super::gateway::{Event, Rest};
use crate::{
    Error,
    json::unquote,
    push::{Ear, Heard, Push, Told, Wishes},
    rooms::{current, rows},
};

/// Something to tell.
#[derive(Clone, Debug, Default)]
pub(super) struct Due {
    /// The position of the event; 0 for a count alone.
    pub(super) position: u64,
    pub(super) event: Event,
    pub(super) tweaks: Map<String, Value>,
}

/// The rooms that a user is in or invited to.
pub(super) fn rooms(view: View<'_>, user: &UserId) -> Result<Vec<(RoomShort, Membership)>, Error> {
    let mut rooms = Vec::new();
    for row in view.scan(tables::MEMBERSHIPS, (user,))? {
        let ((_, room), row) = row?;
        if matches!(row.membership, MembershipState::Join | MembershipState::Invite) {
            rooms.push((room, row));
        }
    }
    Ok(rooms)
}

/// How many messages a user has not read, in all rooms.
pub(super) fn unread(view: View<'_>, push: &Push, user: &UserId) -> Result<u64, Error> {
    let mut unread = 0;
    for (room, row) in rooms(view, user)? {
        if row.membership == MembershipState::Join {
            unread += push.unread(view, user, room)?.total().notification;
        }
    }
    Ok(unread)
}

/// What is due of some rooms, in order; where very much is, the newest of it. What the user has read meanwhile is not.
pub(super) fn due(
    view: View<'_>,
    user: &UserId,
    pusher: &Pusher,
    (after, up_to): (u64, u64),
    rooms: &[(RoomShort, Membership)],
) -> Result<Vec<Due>, Error> {
    let wishes = Wishes::of(view, user)?;
    let id_only = serde_json::from_str::<Format>(&pusher.data).is_ok_and(|data| data.format == "event_id_only");
    let mut due = Vec::new();
    for (room, row) in rooms {
        match (&row.membership, row.event) {
            (MembershipState::Join, _) => of_room(view, user, &wishes, (after, up_to, *room), id_only, &mut due)?,
            (MembershipState::Invite, Some(event)) if row.position > after => {
                let event = rows::event(view, event)?;
                let mut ear = Ear::new(view, user, *room, &wishes)?;
                if let Heard::Told(told) = ear.hear(i64::MAX, &event)? {
                    due.push(made(view, user, (*room, row.position), &event, &told, id_only)?);
                }
            }
            // The invite of a server whose room is not here.
            (MembershipState::Invite, None) if row.position > after => {
                due.extend(outside_invite(view, user, *room, row.position, &wishes, id_only)?);
            }
            _ => {}
        }
    }
    due.sort_by_key(|due| due.position);
    Ok(due.split_off(due.len().saturating_sub(AT_ONCE)))
}

#[derive(Deserialize)]
struct Format {
    format: String,
}

fn of_room(
    view: View<'_>,
    user: &UserId,
    wishes: &Wishes,
    (after, up_to, room): (u64, u64, RoomShort),
    id_only: bool,
    due: &mut Vec<Due>,
) -> Result<(), Error> {
    let timeline = |position: u64| millpond_store::Position(position).as_timeline();
    let (from, to) = (Bound::Excluded((room, timeline(after))), Bound::Included((room, timeline(up_to))));
    let mut ear = None;
    // From the newest backwards: a long absence is not made up for by a flood.
    let mut left = AT_ONCE;
    for row in view.range(tables::TIMELINE, from, to)?.rev().take(WALK_MAX) {
        let ((_, position), event) = row?;
        let event = rows::event(view, event)?;
        if ear.is_none() {
            ear = Some(Ear::new(view, user, room, wishes)?);
        }
        let Some(ear) = &mut ear else { break };
        match ear.hear(position, &event)? {
            Heard::OwnJoin => break,
            Heard::Told(told) if !told.read => {
                let position = u64::try_from(position).unwrap_or_default();
                due.push(made(view, user, (room, position), &event, &told, id_only)?);
                left -= 1;
                if left == 0 {
                    break;
                }
            }
            Heard::Told(_) | Heard::Nothing => {}
        }
    }
    Ok(())
}

fn made(
    view: View<'_>,
    user: &UserId,
    (room, position): (RoomShort, u64),
    event: &EventRow,
    told: &Told,
    id_only: bool,
) -> Result<Due, Error> {
    let tweaks = tweaks(&told.actions);
    let mut due = Due { position, tweaks, ..Due::default() };
    due.event.event_id = Some(event.header.event_id.clone());
    due.event.room_id = Some(rows::room_id(view, room)?);
    if id_only {
        return Ok(due);
    }
    let kind = unquote(event.header.kind.of(&event.json)).into_owned();
    let sender = unquote(event.header.sender.of(&event.json)).into_owned();
    let state_key = event.header.state_key.map(|key| unquote(key.of(&event.json)).into_owned());
    let content = RawValue::from_string(event.header.content.of(&event.json).to_owned());
    let about = About { kind, sender, state_key, content: content.map_err(|e| Error::internal(e.to_string()))? };
    due.event.rest = Some(rest(view, user, room, about, &due.tweaks)?);
    Ok(due)
}

/// An event as it is told of.
#[derive(Deserialize)]
struct About {
    #[serde(rename = "type")]
    kind: String,
    sender: String,
    state_key: Option<String>,
    content: Box<RawValue>,
}

fn rest(
    view: View<'_>,
    user: &UserId,
    room: RoomShort,
    about: About,
    tweaks: &Map<String, Value>,
) -> Result<Rest, Error> {
    #[derive(Deserialize)]
    struct Name {
        name: Option<String>,
    }
    #[derive(Deserialize)]
    struct Alias {
        alias: Option<String>,
    }
    #[derive(Deserialize)]
    struct Member {
        displayname: Option<String>,
    }
    let member: Option<Member> = current::content(view, room, "m.room.member", &about.sender)?;
    let name: Option<Name> = current::content(view, room, "m.room.name", "")?;
    let alias: Option<Alias> = current::content(view, room, "m.room.canonical_alias", "")?;
    // Whose words cannot be judged may be mentioned; a phone is not woken for the rest.
    let high = about.kind == "m.room.encrypted" || tweaks.contains_key("sound") || tweaks.contains_key("highlight");
    Ok(Rest {
        sender_display_name: member.and_then(|member| member.displayname),
        room_name: name.and_then(|name| name.name),
        room_alias: alias.and_then(|alias| alias.alias),
        user_is_target: about.kind == "m.room.member" && about.state_key.as_deref() == Some(user.as_str()),
        prio: if high { "high" } else { "low" },
        kind: about.kind,
        sender: about.sender,
        content: about.content,
    })
}

/// An invite of which we have the stripped event only: its id is not known.
fn outside_invite(
    view: View<'_>,
    user: &UserId,
    room: RoomShort,
    position: u64,
    wishes: &Wishes,
    id_only: bool,
) -> Result<Option<Due>, Error> {
    let shown = view.get(tables::STRIPPED, (user, room))?.unwrap_or_default();
    let events = serde_json::from_str::<Vec<Box<RawValue>>>(&shown).unwrap_or_default();
    for event in events {
        let Ok(about) = serde_json::from_str::<About>(event.get()) else { continue };
        if about.kind != "m.room.member" || about.state_key.as_deref() != Some(user.as_str()) {
            continue;
        }
        let Some(actions) = wishes.actions_for(view, user, room, &about.sender, &event)? else { return Ok(None) };
        let mut due = Due { position, tweaks: tweaks(&actions), ..Due::default() };
        due.event.room_id = Some(rows::room_id(view, room)?);
        if !id_only {
            due.event.rest = Some(rest(view, user, room, about, &due.tweaks)?);
        }
        return Ok(Some(due));
    }
    Ok(None)
}

fn tweaks(actions: &[Action]) -> Map<String, Value> {
    let tweak = |action: &Action| match action {
        Action::SetTweak(tweak) => Some(entry(tweak)),
        _ => None,
    };
    actions.iter().filter_map(tweak).collect()
}

fn entry(tweak: &Tweak) -> (String, Value) {
    let value = tweak.value().and_then(|value| serde_json::from_str(value.get()).ok());
    // A highlight without a value is one.
    (tweak.set_tweak().to_owned(), value.unwrap_or(Value::Bool(true)))
}

/// What is told in one go: of a longer absence the newest.
const AT_ONCE: usize = 50;
/// Events of a room looked at in one go.
const WALK_MAX: usize = 2000;
