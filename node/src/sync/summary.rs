//! The room summary (client-server spec, "Room summary" under `/sync`): counts, and who gives a nameless room its name.

use millpond_store::{Error, View, rows::RoomShort, tables};
use ruma::{OwnedUserId, UserId, events::room::member::MembershipState};
use serde::Deserialize;

use crate::{
    json::{comma, key, object_member, plain_member},
    rooms::current,
};

/// The heroes of a room; none if it has a name or an alias.
pub(super) fn heroes(view: View<'_>, room: RoomShort, user: &UserId) -> Result<Vec<OwnedUserId>, Error> {
    #[derive(Deserialize)]
    struct Name {
        #[serde(default)]
        name: String,
    }
    #[derive(Deserialize)]
    struct Alias {
        #[serde(default)]
        alias: Option<String>,
    }
    let name = current::content::<Name>(view, room, "m.room.name", "")?;
    let alias = current::content::<Alias>(view, room, "m.room.canonical_alias", "")?;
    if name.is_some_and(|name| !name.name.is_empty())
        || alias.and_then(|alias| alias.alias).is_some_and(|alias| !alias.is_empty())
    {
        return Ok(Vec::new());
    }
    let (mut present, mut gone) = (Vec::new(), Vec::new());
    for row in view.scan(tables::ROOM_STATE, (room, "m.room.member"))?.take(MEMBERS_MAX) {
        let ((_, _, member), _) = row?;
        let Ok(member) = OwnedUserId::try_from(member) else { continue };
        if member == user {
            continue;
        }
        let Some(row) = current::membership(view, room, &member)? else { continue };
        match row.membership {
            MembershipState::Join | MembershipState::Invite => present.push((row.position, member)),
            MembershipState::Leave | MembershipState::Ban => gone.push((row.position, member)),
            _ => {}
        }
    }
    let mut chosen = if present.is_empty() { gone } else { present };
    chosen.sort();
    chosen.truncate(HEROES_MAX);
    Ok(chosen.into_iter().map(|(_, member)| member).collect())
}

/// Appends `summary`.
pub(super) fn write(out: &mut Vec<u8>, view: View<'_>, room: RoomShort, heroes: &[OwnedUserId]) -> Result<(), Error> {
    let counts = view.get(tables::ROOM_COUNTS, room)?.unwrap_or_default();
    object_member(out, "summary", |out| {
        if !heroes.is_empty() {
            key(out, "m.heroes");
            out.push(b'[');
            for hero in heroes {
                comma(out);
                millpond_matrix::client::write_string(out, hero.as_str());
            }
            out.push(b']');
        }
        plain_member(out, "m.joined_member_count", counts.joined);
        plain_member(out, "m.invited_member_count", counts.invited);
        Ok::<_, Error>(())
    })?;
    Ok(())
}

/// Heroes of a room (spec: the first five).
const HEROES_MAX: usize = 5;
/// Members looked at: a nameless room of more people is no conversation that is named after them.
const MEMBERS_MAX: usize = 200;
