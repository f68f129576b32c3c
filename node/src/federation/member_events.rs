//! `make_join`, `make_leave`, `make_knock` and their `send_*`: a user of another server enters or leaves a room through us.
//! The event is that server's; we say where it stands, judge it like any other, and send it on to the room.

use std::collections::BTreeSet;

use http::StatusCode;
use millpond_matrix::{
    CheckedPdu,
    build::{self, EventDraft, Parents},
    check::RawPdu,
    rules::{RoomRules, rules},
    template,
};
use millpond_store::{
    View,
    rows::{Room, RoomShort},
};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, EventId, RoomId, RoomVersionId, UserId,
    api::error::{ErrorKind, IncompatibleRoomVersionErrorData},
    events::{TimelineEventType, room::member::MembershipState},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Door, Federation, Origin, check_acl, is_in, limits::Act};
use crate::{
    Error,
    memberships::authorising_user,
    rooms::{self, current, local},
};

/// An unsigned event for another server to sign.
pub struct Template {
    /// The room's version.
    pub version: RoomVersionId,
    /// The event without hashes and signatures.
    pub event: Box<RawValue>,
}

/// A member event of another server's user that is part of the room now.
pub(super) struct Taken {
    pub(super) room: (RoomShort, Room),
    pub(super) pdu: CheckedPdu,
}

const AUTHORISED_VIA: &str = "join_authorised_via_users_server";

impl Federation {
    /// The refusal of a room version that is not spoken here: 400 `M_INCOMPATIBLE_ROOM_VERSION`.
    pub fn incompatible(&self, version: RoomVersionId) -> Error {
        incompatible(version)
    }

    /// Answers `make_join`, `make_leave` and `make_knock`. `versions` are those that the asker speaks; none: any.
    ///
    /// # Errors
    /// 404 for a room that is not here, `M_INCOMPATIBLE_ROOM_VERSION`, 403 when the room does not let the user do it.
    pub fn make(
        &self,
        origin: &Origin,
        room_id: &RoomId,
        user: &UserId,
        membership: MembershipState,
        versions: Option<&[RoomVersionId]>,
    ) -> Result<Template, Error> {
        if user.server_name() != origin.server {
            return Err(Error::forbidden(format!("{user} is not a user of your server")));
        }
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let (short, room) = self.whole(view, origin, room_id)?;
        check_acl(view, short, &origin.server)?;
        check_class(view, short, origin, user)?;
        self.check_guard(view, user, &membership)?;
        if versions.is_some_and(|versions| !versions.contains(&room.version)) {
            return Err(incompatible(room.version));
        }
        let rules = known_rules(&room)?;
        let mut content = CanonicalJsonObject::new();
        content.insert("membership".to_owned(), CanonicalJsonValue::String(membership.to_string()));
        if membership == MembershipState::Join
            && let Some(voucher) = authorising_user(&self.core, view, (short, &room), user)?
        {
            content.insert(AUTHORISED_VIA.to_owned(), CanonicalJsonValue::String(voucher.into()));
        }
        let draft = EventDraft::new(TimelineEventType::RoomMember, content, user.to_owned(), self.core.clock().now());
        let draft = EventDraft { state_key: Some(user.to_string()), ..draft };
        // What would not be let in is not worth a template; what is signed for the test goes nowhere.
        let tried = local::plan(&self.core, view, room_id, draft.clone())?.pdu;
        let parents = Parents {
            prev_events: tried.prev_events().to_vec(),
            depth: tried.depth(),
            auth_events: tried.auth_events().to_vec(),
        };
        let event = template::make(rules, room_id, draft, parents).map_err(local::build_error)?;
        let event = serde_json::value::to_raw_value(&event).map_err(|e| Error::internal(e.to_string()))?;
        Ok(Template { version: room.version, event })
    }

    /// Takes the event that a template became, judges it, writes it and owes it to the rest of the room.
    ///
    /// # Errors
    /// 400 for an event that is not what the path says or was not made on a template of ours, 403 when the room does not
    /// let it in.
    pub(super) async fn take(
        &self,
        origin: &Origin,
        room_id: &RoomId,
        event_id: &EventId,
        event: &RawValue,
        membership: MembershipState,
    ) -> Result<Taken, Error> {
        let (room, rules) = {
            let snapshot = self.core.snapshot()?;
            let room = self.whole(snapshot.view(), origin, room_id)?;
            check_acl(snapshot.view(), room.0, &origin.server)?;
            let rules = known_rules(&room.1)?;
            (room, rules)
        };
        let head = check_head(event, origin, room_id, &membership)?;
        check_class(self.core.snapshot()?.view(), room.0, origin, &head.sender)?;
        self.check_guard(self.core.snapshot()?.view(), &head.sender, &membership)?;
        let event = match head.content.authorised_via {
            Some(voucher) if membership == MembershipState::Join => {
                self.vouch(&room, rules, &head.sender, &voucher, event)?
            }
            _ => event.to_owned(),
        };
        let raw = RawPdu::parse(event.get()).map_err(|e| Error::bad_json(e.to_string()))?;
        if raw.event_id(rules).ok().as_deref() != Some(event_id) {
            return Err(Error::invalid_param("the event id in the path is not that of the event"));
        }
        let checked = self.parts.inbox.check_all(rules, &origin.server, vec![event]).await?.pop();
        let pdu = checked.ok_or_else(|| Error::forbidden("the event's form or signature is not valid"))?;
        let except = BTreeSet::from([origin.server.clone()]);
        self.parts.inbox.append((room.0, &room.1), pdu.clone(), except).await?;
        Ok(Taken { room, pdu })
    }

    /// That somebody who enters, or asks to, is not kept out. Everybody may leave.
    fn check_guard(&self, view: View<'_>, user: &UserId, membership: &MembershipState) -> Result<(), Error> {
        match membership {
            MembershipState::Leave => Ok(()),
            _ => self.core.guard().check_user(view, user),
        }
    }

    /// Signs a restricted join for which a user of ours vouches.
    fn vouch(
        &self,
        (short, room): &(RoomShort, Room),
        rules: &RoomRules,
        user: &UserId,
        voucher: &UserId,
        event: &RawValue,
    ) -> Result<Box<RawValue>, Error> {
        let snapshot = self.core.snapshot()?;
        if !self.core.identity().is_our_user(voucher) {
            return Err(Error::forbidden(format!("{voucher} is not a user of this server and cannot vouch here")));
        }
        // The user must still be in one of the allowed rooms; whether this voucher may invite, the auth rules say.
        authorising_user(&self.core, snapshot.view(), (*short, room), user)?;
        let signed = build::cosign(rules, event.get(), &rooms::signer(&self.core)).map_err(local::build_error)?;
        RawValue::from_string(signed).map_err(|e| Error::internal(e.to_string()))
    }

    /// Answers `send_leave`.
    ///
    /// # Errors
    /// As [`Federation::make`], and 400 for an event that is not what the path says.
    pub async fn send_leave(
        &self,
        origin: &Origin,
        room_id: &RoomId,
        event_id: &EventId,
        event: &RawValue,
    ) -> Result<(), Error> {
        self.take(origin, room_id, event_id, event, MembershipState::Leave).await.map(drop)
    }

    /// Answers `send_knock` with what outsiders are shown of the room.
    ///
    /// # Errors
    /// As [`Federation::send_leave`].
    pub async fn send_knock(
        &self,
        origin: &Origin,
        room_id: &RoomId,
        event_id: &EventId,
        event: &RawValue,
    ) -> Result<Vec<Box<RawValue>>, Error> {
        self.limits.take(&origin.server, Act::Knock)?;
        let taken = self.take(origin, room_id, event_id, event, MembershipState::Knock).await?;
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let shown = rooms::stripped::events(view, taken.room.0, None)?;
        shown.into_iter().map(|event| raw(rooms::rows::event(view, event)?.json)).collect()
    }
}

/// An event as JSON to pass on.
pub(super) fn raw(json: Box<str>) -> Result<Box<RawValue>, Error> {
    RawValue::from_string(json.into()).map_err(|e| Error::internal(format!("a stored event is not JSON: {e}")))
}

/// The rules of a stored room.
pub(super) fn known_rules(room: &Room) -> Result<&'static RoomRules, Error> {
    rules(&room.version).map_err(|e| Error::internal(e.to_string()))
}

/// 400 `M_INCOMPATIBLE_ROOM_VERSION`.
pub(super) fn incompatible(version: RoomVersionId) -> Error {
    let message = format!("that room is of version {version}, which one of the two servers does not speak");
    let kind = ErrorKind::IncompatibleRoomVersion(IncompatibleRoomVersionErrorData::new(version));
    Error::matrix(StatusCode::BAD_REQUEST, kind, message)
}

#[derive(Deserialize)]
pub(super) struct Head {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) room_id: ruma::OwnedRoomId,
    pub(super) sender: ruma::OwnedUserId,
    pub(super) state_key: String,
    pub(super) content: Content,
}

#[derive(Deserialize)]
pub(super) struct Content {
    membership: MembershipState,
    #[serde(default, rename = "join_authorised_via_users_server")]
    authorised_via: Option<ruma::OwnedUserId>,
}

/// What stands in a member event, as far as anybody looks before it is verified.
pub(super) fn head(event: &RawValue, room_id: &RoomId, membership: &MembershipState) -> Result<Head, Error> {
    let head: Head = serde_json::from_str(event.get())
        .map_err(|e| Error::bad_json(format!("the event is not a member event of this room: {e}")))?;
    let fits = head.kind == "m.room.member" && head.room_id == room_id && head.content.membership == *membership;
    if !fits {
        return Err(Error::invalid_param(format!(
            "the event is not a member event of membership {membership} of this room"
        )));
    }
    Ok(head)
}

/// A link by introduction carries what belongs to shared rooms, and the way into a room that its user is invited to.
fn check_class(view: View<'_>, room: RoomShort, origin: &Origin, user: &UserId) -> Result<(), Error> {
    if origin.is_contact() || origin.door == Door::Classic || is_in(view, room, &origin.server)? {
        return Ok(());
    }
    let membership = current::membership(view, room, user)?.map(|row| row.membership);
    if matches!(membership, Some(MembershipState::Invite | MembershipState::Knock)) {
        return Ok(());
    }
    Err(Error::forbidden("only contacts enter a room here that they are not invited to"))
}

fn check_head(
    event: &RawValue,
    origin: &Origin,
    room_id: &RoomId,
    membership: &MembershipState,
) -> Result<Head, Error> {
    let head = head(event, room_id, membership)?;
    if head.sender.server_name() != origin.server {
        return Err(Error::forbidden("the event's sender is not a user of your server"));
    }
    if head.state_key != head.sender.as_str() {
        return Err(Error::invalid_param("the event is about another user than its sender"));
    }
    Ok(head)
}
