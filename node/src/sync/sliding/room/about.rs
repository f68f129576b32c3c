//! What a room's object says of the room itself: name, avatar, who is in it, what is unread, when it was last active.

use millpond_store::{View, rows::RoomShort, tables};
use serde::Deserialize;

use crate::{
    Error,
    json::{comma, key, plain_member, text_member},
    rooms::current,
    sync::{
        sliding::{request::MEMBER, required::Entries, sweep::Sweep},
        summary,
    },
};

/// Whether a change of the state shows in the room's own fields.
pub(super) fn tells(changes: &Entries) -> bool {
    changes.keys().any(|(kind, _)| matches!(kind.as_str(), NAME | AVATAR | MEMBER | "m.room.canonical_alias"))
}

/// Appends what differs after some changes of the state, or (`initial`) everything.
pub(super) fn write(
    sweep: &Sweep<'_>,
    out: &mut Vec<u8>,
    room: RoomShort,
    initial: bool,
    changes: &Entries,
) -> Result<(), Error> {
    let view = sweep.view;
    let changed = |kind: &str| changes.keys().any(|(changed, _)| changed == kind);
    for (name, kind, field) in [("name", NAME, "name"), ("avatar", AVATAR, "url")] {
        if initial || changed(kind) {
            match content_text(view, room, kind, field)? {
                Some(text) => text_member(out, name, &text),
                None if initial => {}
                None => plain_member(out, name, "null"),
            }
        }
    }
    if initial || changed(MEMBER) {
        let counts = view.get(tables::ROOM_COUNTS, room)?.unwrap_or_default();
        plain_member(out, "joined_count", counts.joined);
        plain_member(out, "invited_count", counts.invited);
    }
    if initial || changed(MEMBER) || changed(NAME) || changed("m.room.canonical_alias") {
        write_heroes(sweep, out, room)?;
    }
    let unread = sweep.sync.push.unread(view, sweep.who.user, room)?.main;
    plain_member(out, "notification_count", unread.notification);
    plain_member(out, "highlight_count", unread.highlight);
    let heads = sweep.sync.heads.heads(sweep.sync.core.notifier(), view, std::iter::once(room))?;
    plain_member(out, "bump_stamp", heads[0].bump);
    Ok(())
}

/// A text in the content of an entry of the state; none if it is empty or something else.
fn content_text(view: View<'_>, room: RoomShort, kind: &str, field: &str) -> Result<Option<String>, Error> {
    let content = current::content::<serde_json::Map<String, serde_json::Value>>(view, room, kind, "")?;
    let text = content.and_then(|content| content.get(field)?.as_str().map(str::to_owned));
    Ok(text.filter(|text| !text.is_empty()))
}

fn write_heroes(sweep: &Sweep<'_>, out: &mut Vec<u8>, room: RoomShort) -> Result<(), Error> {
    #[derive(Default, Deserialize)]
    struct Member {
        #[serde(default)]
        displayname: Option<String>,
        #[serde(default)]
        avatar_url: Option<String>,
    }
    let heroes = summary::heroes(sweep.view, room, sweep.who.user)?;
    if heroes.is_empty() {
        return Ok(());
    }
    key(out, "heroes");
    out.push(b'[');
    for hero in heroes {
        let member = current::content::<Member>(sweep.view, room, MEMBER, hero.as_str())?.unwrap_or_default();
        comma(out);
        out.push(b'{');
        text_member(out, "user_id", hero.as_str());
        for (name, value) in [("displayname", member.displayname), ("avatar_url", member.avatar_url)] {
            if let Some(value) = value {
                text_member(out, name, &value);
            }
        }
        out.push(b'}');
    }
    out.push(b']');
    Ok(())
}

const NAME: &str = "m.room.name";
const AVATAR: &str = "m.room.avatar";
