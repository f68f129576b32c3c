//! Invites of users of ours into rooms of other servers (server-server spec, "Inviting to a room").
//!
//! Only contacts invite, and not too often; to anybody else every user looks the same, there or not. The invite is
//! signed, kept and shown in one commit.

use http::StatusCode;
use millpond_matrix::{
    build,
    check::RawPdu,
    rules::{RoomRules, rules},
};
use millpond_store::{View, rows::Room, tables};
use ruma::{
    EventId, OwnedUserId, RoomId, RoomVersionId, UserId,
    api::{error::ErrorKind, federation::membership::RawStrippedState},
    events::room::member::MembershipState,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Door, Federation, Origin, Snapshot, limits::Act, member_events};
use crate::{
    Error, invite_permission,
    memberships::shown_state,
    rooms::{self, local, policy, stripped},
};

/// An invite as a peer brings it.
pub struct Invite<'a> {
    /// The room, by the path.
    pub room_id: &'a RoomId,
    /// The event, by the path.
    pub event_id: &'a EventId,
    /// The room's version, by the inviter's word; the create event must agree.
    pub version: RoomVersionId,
    /// The invite.
    pub event: Box<RawValue>,
    /// What the invited user is shown of the room.
    pub shown: &'a [RawStrippedState],
    /// The whole room, if the inviter describes it.
    pub snapshot: Option<Snapshot>,
}

impl Federation {
    /// Takes an invite; gives the event with our signature. On return it is durable.
    ///
    /// # Errors
    /// 403 unless the peer is a contact, 429 for too many, 404 for a user who is not here, 403 `M_INVITE_BLOCKED` for
    /// one who takes none, `M_INCOMPATIBLE_ROOM_VERSION`,
    /// 400 for an event that is not what it should be, 403 for rooms that a node named by its key cannot be in.
    pub async fn invite(&self, origin: &Origin, invite: Invite<'_>) -> Result<Box<RawValue>, Error> {
        if !origin.is_contact() && origin.door != Door::Classic {
            return Err(Error::forbidden("invites are taken from contacts only: exchange contact links first"));
        }
        let act = if origin.door == Door::Classic { Act::ClassicInvite } else { Act::Invite };
        self.limits.take(&origin.server, act)?;
        let Ok(rules) = rules(&invite.version) else { return Err(member_events::incompatible(invite.version)) };
        let head = member_events::head(&invite.event, invite.room_id, &MembershipState::Invite)?;
        if head.sender.server_name() != origin.server {
            return Err(Error::forbidden("the inviter is not a user of your server"));
        }
        {
            let snapshot = self.core.snapshot()?;
            self.core.guard().check_user(snapshot.view(), &head.sender)?;
            self.core.guard().check_room(snapshot.view(), invite.room_id)?;
        }
        if origin.door == Door::Classic {
            self.limits.take(&head.sender, Act::InviteOfUser)?;
        }
        let target = OwnedUserId::try_from(head.state_key)
            .map_err(|_| Error::invalid_param("the event's state key is not a user id"))?;
        let raw = RawPdu::parse(invite.event.get()).map_err(|e| Error::bad_json(e.to_string()))?;
        if raw.event_id(rules).ok().as_deref() != Some(invite.event_id) {
            return Err(Error::invalid_param("the event id in the path is not that of the event"));
        }
        check_create(rules, invite.room_id, invite.shown)?;
        self.check_target(&target)?;
        let checked = self.parts.inbox.check_all(rules, &origin.server, vec![invite.event.clone()]).await?.pop();
        let pdu = checked.ok_or_else(|| Error::forbidden("the event's form or signature is not valid"))?;
        let signed = build::add_signature(rules, &pdu, &rooms::signer(&self.core)).map_err(local::build_error)?;
        let shown = shown_state(invite.shown, signed.json());
        let answer = member_events::raw(signed.json().into())?;
        self.keep(origin, invite, (&head.sender, &target), shown, &answer).await?;
        Ok(answer)
    }

    async fn keep(
        &self,
        origin: &Origin,
        invite: Invite<'_>,
        (sender, target): (&UserId, &UserId),
        shown: String,
        signed: &RawValue,
    ) -> Result<(), Error> {
        let (resident, ignored) = {
            let snapshot = self.core.snapshot()?;
            let view = snapshot.view();
            (self.resident(view, origin, invite.room_id).is_ok(), is_ignored(view, target, sender)?)
        };
        if resident {
            // In a room that is here an invite is an event like any other; it comes by both ways.
            return self.parts.inbox.stage(&origin.server, &[signed.to_owned()]).await;
        }
        let overlay = stripped::is_overlay(&shown);
        origin.check_door(overlay)?;
        policy::check_enters(&self.core, overlay)?;
        if ignored {
            // The sender does not learn that nobody sees it.
            return Ok(());
        }
        let room = Room { room_id: invite.room_id.to_owned(), version: invite.version.clone(), overlay };
        let kept = match invite.snapshot.filter(|_| overlay) {
            Some(snapshot) => self.parts.memberships.checked_snapshot(&origin.server, &room, signed, snapshot).await?,
            None => None,
        };
        self.parts.memberships.show_outside(target, room, (MembershipState::Invite, kept), shown).await
    }

    fn check_target(&self, user: &UserId) -> Result<(), Error> {
        let snapshot = self.core.snapshot()?;
        let account = snapshot.view().get(tables::ACCOUNTS, user)?;
        if self.core.identity().is_our_user(user) && account.is_some_and(|account| !account.deactivated) {
            return invite_permission::check(snapshot.view(), user);
        }
        Err(Error::not_found(format!("{user} is not a user of this server")))
    }
}

/// From version 12 on the room id is the hash of the create event, so the inviter cannot show another one.
fn check_create(rules: &RoomRules, room_id: &RoomId, shown: &[RawStrippedState]) -> Result<(), Error> {
    let missing = |message: &str| Error::matrix(StatusCode::BAD_REQUEST, ErrorKind::MissingParam, message);
    let creates = shown.iter().filter_map(|event| match event {
        RawStrippedState::Pdu(json) => RawPdu::parse(json.get()).ok().filter(|pdu| pdu.kind() == Some("m.room.create")),
        _ => None,
    });
    let creates: Vec<RawPdu> = creates.collect();
    let [create] = &creates[..] else {
        return Err(missing("`invite_room_state` must hold the room's one create event as it is signed"));
    };
    if !rules.create_is_room_id() {
        return if create.room_id() == Some(room_id) {
            Ok(())
        } else {
            Err(missing("the create event is of another room"))
        };
    }
    let hash = create.event_id(rules).map_err(|e| Error::bad_json(e.to_string()))?;
    if hash.as_str().get(1..) == Some(room_id.strip_sigil()) {
        return Ok(());
    }
    Err(missing("the create event in `invite_room_state` is not that of the room"))
}

/// Whether a user ignores another one (client-server spec, "Ignoring users").
fn is_ignored(view: View<'_>, user: &UserId, other: &UserId) -> Result<bool, Error> {
    #[derive(Deserialize)]
    struct Content {
        ignored_users: std::collections::BTreeMap<OwnedUserId, serde::de::IgnoredAny>,
    }
    let row = view.get(tables::ACCOUNT_DATA, (user, "", "m.ignored_user_list"))?;
    let content: Option<Content> = row.and_then(|row| serde_json::from_str(&row.content).ok());
    Ok(content.is_some_and(|content| content.ignored_users.contains_key(other)))
}
