//! Memberships of our users in rooms that are here. Rooms that are not here are joined over federation.

use millpond_matrix::{CheckedPdu, build::EventDraft};
use millpond_store::{
    Topic, View, WriteTxn, job,
    rows::{EventShort, OutboxItem, Room, RoomShort},
    tables,
};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, MilliSecondsSinceUnixEpoch, OwnedRoomId, OwnedUserId, RoomId, UserId,
    events::{TimelineEventType, room::member::MembershipState},
};

use super::{Rooms, current, endorse, known_room, local};
use crate::{Core, Error};

/// What one user does to another's membership, or to his own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Joins, or changes the profile shown in the room.
    Join,
    /// Asks to be let in.
    Knock,
    /// Leaves, or takes an invite or a knock back.
    Leave,
    /// Invites somebody.
    Invite,
    /// Removes somebody.
    Kick,
    /// Bans somebody.
    Ban,
    /// Lifts a ban.
    Unban,
}

impl Action {
    fn membership(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Knock => "knock",
            Self::Leave | Self::Kick | Self::Unban => "leave",
            Self::Invite => "invite",
            Self::Ban => "ban",
        }
    }
}

impl Rooms {
    /// Whether this node can make member events of a room by itself: one of our users is joined.
    ///
    /// # Errors
    /// Storage errors.
    pub fn is_resident(&self, room_id: &RoomId) -> Result<bool, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let Some(room) = super::rows::room_short(view, room_id)? else { return Ok(false) };
        let ours = view.get(tables::ROOM_SERVERS, (room, self.core.identity().server_name()))?;
        Ok(ours.is_some_and(|members| members > 0))
    }

    /// Changes a membership in a room that is here; `extra` goes into the content of the member event (`reason`,
    /// `is_direct`, `join_authorised_via_users_server`).
    ///
    /// # Errors
    /// 403 when the sender may not; `M_BAD_STATE` for an unban of somebody who is not banned.
    pub async fn change_membership(
        &self,
        sender: &UserId,
        room_id: &RoomId,
        target: &UserId,
        action: Action,
        extra: CanonicalJsonObject,
    ) -> Result<(), Error> {
        self.until_known(room_id, target).await?;
        let change = Change {
            core: self.core.clone(),
            sender: sender.to_owned(),
            room_id: room_id.to_owned(),
            target: target.to_owned(),
            action,
            extra,
            now: self.core.clock().now(),
        };
        for _ in 0..endorse::TRIES {
            let endorsed = self.endorsed(room_id, |view| change.draft(view)).await?;
            if Box::pin(self.try_change(change.clone(), endorsed)).await? {
                return Ok(());
            }
        }
        Err(endorse::too_busy())
    }

    /// Writes a change; `false` when it would be another event than the policy server has endorsed.
    async fn try_change(&self, change: Change, endorsed: Option<CheckedPdu>) -> Result<bool, Error> {
        let write_core = self.core.clone();
        let write = job(
            move |view| {
                let Some(draft) = change.draft(view)? else { return Ok(None) };
                let planned = local::plan(&change.core, view, &change.room_id, draft)?;
                endorse::place(&change.core, view, planned, endorsed.as_ref()).map(Some)
            },
            move |planned: Option<Option<local::Planned>>, txn| {
                let Some(planned) = planned else { return Ok(true) };
                let Some(planned) = planned else { return Ok(false) };
                let (room, pdu) = (planned.room.clone(), planned.pdu.clone());
                let event = local::write(&write_core, txn, planned, None)?;
                after_member_event(&write_core, txn, (room.0, &room.1), &pdu, event)?;
                Ok(true)
            },
        );
        Ok(self.core.write(write).await?.0)
    }

    /// Forgets a room that the user has left: it is shown no more.
    ///
    /// # Errors
    /// 400 when the user has not left it.
    pub async fn forget(&self, user_id: &UserId, room_id: &RoomId) -> Result<(), Error> {
        let (user_id, room_id) = (user_id.to_owned(), room_id.to_owned());
        let key_user = user_id.clone();
        let forget = job(
            move |view| {
                let (short, _) = known_room(view, &room_id)?;
                let row = current::membership(view, short, &user_id)?;
                match row {
                    Some(row) if matches!(row.membership, MembershipState::Leave | MembershipState::Ban) => {
                        Ok((short, row))
                    }
                    Some(_) => Err(Error::unknown("leave the room before you forget it")),
                    None => Err(Error::not_found(format!("you never were in room {room_id}"))),
                }
            },
            move |(short, row): (RoomShort, millpond_store::rows::Membership), txn| {
                let row = millpond_store::rows::Membership { forgotten: true, ..row };
                txn.put(tables::MEMBERSHIPS, (&*key_user, short), &row)?;
                // What syncs keep in memory of the user's rooms holds until a position says that it changed.
                txn.next_position();
                txn.touch(Topic::User(key_user.clone()));
                txn.touch(Topic::UserRooms(key_user.clone()));
                Ok(())
            },
        );
        self.core.write(forget).await?;
        Ok(())
    }

    /// Puts the user's present profile into his member event of every room that he is joined to, in one job.
    ///
    /// # Errors
    /// Storage errors. Rooms whose rules refuse the change keep the old one.
    pub async fn refresh_profile(&self, user_id: &UserId) -> Result<(), Error> {
        for room_id in self.joined(user_id)? {
            let changed =
                self.change_membership(user_id, &room_id, user_id, Action::Join, CanonicalJsonObject::new()).await;
            match changed {
                Err(Error::Matrix { .. }) | Ok(()) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// A change of a membership that is asked for.
#[derive(Clone)]
struct Change {
    core: Core,
    sender: OwnedUserId,
    room_id: OwnedRoomId,
    target: OwnedUserId,
    action: Action,
    extra: CanonicalJsonObject,
    now: MilliSecondsSinceUnixEpoch,
}

impl Change {
    /// The event that makes it; none where nothing would change.
    fn draft(&self, view: View<'_>) -> Result<Option<EventDraft>, Error> {
        let (short, _) = known_room(view, &self.room_id)?;
        let before = current::membership(view, short, &self.target)?.map(|row| row.membership);
        check_state(self.action, before.as_ref(), &self.target)?;
        let mut content = match self.action {
            Action::Join | Action::Knock | Action::Invite => profile(&self.core, view, &self.target)?,
            _ => CanonicalJsonObject::new(),
        };
        content.extend(self.extra.clone());
        content.insert("membership".to_owned(), CanonicalJsonValue::String(self.action.membership().to_owned()));
        if is_unchanged(view, short, &self.target, before.as_ref(), self.action, &content)? {
            return Ok(None);
        }
        let draft = EventDraft::new(TimelineEventType::RoomMember, content, self.sender.clone(), self.now);
        Ok(Some(EventDraft { state_key: Some(self.target.to_string()), ..draft }))
    }
}

fn check_state(action: Action, before: Option<&MembershipState>, target: &UserId) -> Result<(), Error> {
    let bad_state =
        |message: String| Error::matrix(http::StatusCode::FORBIDDEN, ruma::api::error::ErrorKind::BadState, message);
    match (action, before) {
        (Action::Unban, Some(MembershipState::Ban)) => Ok(()),
        (Action::Unban, _) => Err(bad_state(format!("{target} is not banned"))),
        (Action::Kick, Some(MembershipState::Join | MembershipState::Invite | MembershipState::Knock)) => Ok(()),
        (Action::Kick, _) => Err(Error::forbidden(format!("{target} is not in the room"))),
        (Action::Leave, None) => Err(Error::not_found("you are not in this room")),
        (Action::Invite, Some(MembershipState::Join)) => {
            Err(Error::forbidden(format!("{target} is in the room already")))
        }
        _ => Ok(()),
    }
}

/// Joining where one is joined with the same profile, or leaving twice, writes nothing.
fn is_unchanged(
    view: View<'_>,
    room: RoomShort,
    target: &UserId,
    before: Option<&MembershipState>,
    action: Action,
    content: &CanonicalJsonObject,
) -> Result<bool, Error> {
    Ok(match (action, before) {
        (Action::Leave, Some(MembershipState::Leave)) => true,
        (Action::Join, Some(MembershipState::Join)) => {
            let shown: Option<CanonicalJsonObject> = current::content(view, room, "m.room.member", target.as_str())?;
            let same = |key: &str| shown.as_ref().and_then(|shown| shown.get(key)) == content.get(key);
            same("displayname") && same("avatar_url")
        }
        _ => false,
    })
}

/// `displayname` and `avatar_url` of one of our users, for the content of a member event; empty for others.
///
/// # Errors
/// Storage errors.
pub(crate) fn profile(core: &Core, view: View<'_>, user_id: &UserId) -> Result<CanonicalJsonObject, Error> {
    if core.identity().is_our_user(user_id) {
        crate::profile::shown(view, user_id)
    } else {
        Ok(CanonicalJsonObject::new())
    }
}

/// What a member event of ours brings about beside the state: an invited user of another node is sent the invite.
pub(crate) fn after_member_event(
    core: &Core,
    txn: &mut WriteTxn<'_>,
    (short, room): (RoomShort, &Room),
    pdu: &CheckedPdu,
    event: EventShort,
) -> Result<(), millpond_store::Error> {
    if *pdu.kind() != TimelineEventType::RoomMember {
        return Ok(());
    }
    let Some(Ok(target)) = pdu.state_key().map(OwnedUserId::try_from) else { return Ok(()) };
    let membership = current::membership(txn.view(), short, &target)?.map(|row| row.membership);
    if membership != Some(MembershipState::Invite) || core.identity().is_our_user(&target) {
        return Ok(());
    }
    let server = target.server_name().to_owned();
    let route = crate::peers::route(txn.view(), core.identity(), &server)?;
    if route.is_some_and(|route| !route.carries(room)) {
        return Ok(());
    }
    let position = txn.next_position().0;
    txn.put(tables::OUTBOX, (&*server, position), &OutboxItem::Invite(event))?;
    txn.touch(Topic::Outbox(server));
    Ok(())
}
