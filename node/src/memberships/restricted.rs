//! Restricted rooms (room version 8 on): a member of an allowed room may join when a user with invite power of a resident
//! server vouches for it.

use millpond_matrix::power::Powers;
use millpond_store::{
    View,
    rows::{Room, RoomShort},
    tables,
};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedRoomId, OwnedUserId, RoomId, UserId,
    events::room::member::MembershipState,
};
use serde::Deserialize;

use super::{Memberships, membership};
use crate::{
    Core, Error,
    rooms::{current, known_room, rows},
};

#[derive(Deserialize)]
struct JoinRules {
    join_rule: String,
    #[serde(default)]
    allow: Vec<Allow>,
}

#[derive(Deserialize)]
struct Allow {
    #[serde(rename = "type")]
    kind: String,
    room_id: Option<OwnedRoomId>,
}

impl Memberships {
    pub(super) fn with_authorising_user(
        &self,
        user: &UserId,
        room_id: &RoomId,
        mut extra: CanonicalJsonObject,
    ) -> Result<CanonicalJsonObject, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let (short, room) = known_room(view, room_id)?;
        if let Some(voucher) = authorising_user(&self.core, view, (short, &room), user)? {
            let key = "join_authorised_via_users_server".to_owned();
            extra.insert(key, CanonicalJsonValue::String(voucher.into()));
        }
        Ok(extra)
    }
}

/// The local user who vouches for a join, if the room's rule asks for one.
///
/// # Errors
/// 403 when the rule is restricted and the user is in none of the allowed rooms; `M_UNABLE_TO_AUTHORISE_JOIN` when we are
/// in none of them and cannot know; `M_UNABLE_TO_GRANT_JOIN` when none of our users may invite.
pub(crate) fn authorising_user(
    core: &Core,
    view: View<'_>,
    (short, room): (RoomShort, &Room),
    user: &UserId,
) -> Result<Option<OwnedUserId>, Error> {
    let rule: Option<JoinRules> = current::content(view, short, "m.room.join_rules", "")?;
    let Some(rule) = rule.filter(|rule| matches!(rule.join_rule.as_str(), "restricted" | "knock_restricted")) else {
        return Ok(None);
    };
    let before = current::membership(view, short, user)?.map(|row| row.membership);
    if matches!(before, Some(MembershipState::Join | MembershipState::Invite)) {
        return Ok(None);
    }
    let (mut allowed, mut known) = (false, false);
    for entry in rule.allow.iter().filter(|entry| entry.kind == "m.room_membership") {
        let Some(other) = &entry.room_id else { continue };
        // What we know of a room that we have left is old.
        if !is_resident(core, view, other)? {
            continue;
        }
        known = true;
        allowed = allowed || membership(view, user, other)? == Some(MembershipState::Join);
    }
    if !allowed && !known && !core.identity().is_our_user(user) {
        return Err(Error::matrix(
            http::StatusCode::BAD_REQUEST,
            ruma::api::error::ErrorKind::UnableToAuthorizeJoin,
            "this server is in none of the rooms whose members may join that one; ask another server",
        ));
    }
    if !allowed {
        return Err(Error::forbidden("you are in none of the rooms whose members may join this one"));
    }
    let pdu = |kind| -> Result<_, Error> {
        Ok(current::entry_row(view, short, kind, "")?.map(|row| rows::pdu(&room.room_id, row)).transpose()?)
    };
    let rules = millpond_matrix::rules::rules(&room.version).map_err(|e| Error::internal(e.to_string()))?;
    let create = pdu("m.room.create")?.ok_or_else(|| Error::internal("a room without its create event"))?;
    let levels = pdu("m.room.power_levels")?;
    let powers = Powers::of(rules, &create, levels.as_deref()).map_err(Error::internal)?;
    let joined = current::members(view, short, |membership| *membership == MembershipState::Join)?;
    let voucher = joined.into_iter().find(|member| core.identity().is_our_user(member) && powers.may_invite(member));
    match voucher {
        Some(voucher) => Ok(Some(voucher)),
        None => Err(Error::matrix(
            http::StatusCode::BAD_REQUEST,
            ruma::api::error::ErrorKind::UnableToGrantJoin,
            "no user of this server may let others into that room",
        )),
    }
}

fn is_resident(core: &Core, view: View<'_>, room_id: &RoomId) -> Result<bool, Error> {
    let Some(room) = rows::room_short(view, room_id)? else { return Ok(false) };
    let ours = view.get(tables::ROOM_SERVERS, (room, core.identity().server_name()))?;
    Ok(ours.is_some_and(|members| members > 0))
}
