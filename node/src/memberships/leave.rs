//! Leaving and knocking over federation (server-server spec, "Leaving Rooms" and "Knocking upon a room").

use futures::FutureExt;
use millpond_matrix::{
    CheckedPdu,
    rules::SUPPORTED,
    template::{self, Expected},
};
use millpond_store::{
    Topic, WriteTxn, job,
    rows::{InviteSnapshot, Membership, Room, RoomShort},
    tables,
};
use ruma::{
    CanonicalJsonObject, OwnedServerName, RoomId, RoomVersionId, ServerName, UserId,
    api::federation::membership::{
        RawStrippedState, create_knock_event, create_leave_event, prepare_knock_event, prepare_leave_event,
    },
    events::room::member::MembershipState,
};
use serde_json::value::RawValue;

use super::{Memberships, in_turn, join::supported, membership};
use crate::{
    Error,
    peers::PATIENCE,
    rooms::{self, known_room, local, policy, rows, stripped},
};

impl Memberships {
    /// Takes back an invite or a knock. The user is out at once; that the room hears of it is tried, not waited for.
    pub(super) async fn leave_remote(
        &self,
        user: &UserId,
        room_id: &RoomId,
        extra: CanonicalJsonObject,
    ) -> Result<(), Error> {
        let before = {
            let snapshot = self.core.snapshot()?;
            membership(snapshot.view(), user, room_id)?
        };
        match before {
            None => return Err(Error::not_found("you are not in this room, nor invited")),
            Some(MembershipState::Leave | MembershipState::Ban) => return Ok(()),
            Some(_) => {}
        }
        let attempt = |server: OwnedServerName| {
            let extra = extra.clone();
            async move { self.leave_through(&server, user, room_id, extra).await }.boxed()
        };
        let servers = self.candidates(user, room_id, Vec::new()).unwrap_or_default();
        if let Err(error) = in_turn(servers, |_| false, attempt).await {
            tracing::debug!(%error, "no server took the leave");
        }
        self.set_left(user, room_id).await?;
        self.forget_snapshot(user, room_id).await
    }

    async fn leave_through(
        &self,
        server: &ServerName,
        user: &UserId,
        room_id: &RoomId,
        extra: CanonicalJsonObject,
    ) -> Result<(), Error> {
        let request = prepare_leave_event::v1::Request::new(room_id.to_owned(), user.to_owned());
        let answer = self.peers.ask(server, request, PATIENCE).await?;
        let version = answer.room_version.unwrap_or(RoomVersionId::V1);
        let leave = self.sign(&version, room_id, user, MembershipState::Leave, &answer.event, extra)?;
        let (room, event_id) = (room_id.to_owned(), leave.owned_event_id());
        let request = |pdu| create_leave_event::v2::Request::new(room, event_id, pdu);
        self.peers.bring(server, self.sendable(room_id, &leave)?, request, PATIENCE).await?;
        Ok(())
    }

    pub(super) async fn knock_remote(
        &self,
        user: &UserId,
        room_id: &RoomId,
        via: Vec<OwnedServerName>,
        extra: CanonicalJsonObject,
    ) -> Result<(), Error> {
        let attempt = |server: OwnedServerName| {
            let extra = extra.clone();
            async move { self.knock_through(&server, user, room_id, extra).await }.boxed()
        };
        in_turn(self.candidates(user, room_id, via)?, |_| false, attempt).await
    }

    async fn knock_through(
        &self,
        server: &ServerName,
        user: &UserId,
        room_id: &RoomId,
        extra: CanonicalJsonObject,
    ) -> Result<(), Error> {
        let mut request = prepare_knock_event::v1::Request::new(room_id.to_owned(), user.to_owned());
        request.ver = SUPPORTED.to_vec();
        let answer = self.peers.ask(server, request, PATIENCE).await?;
        let version = answer.room_version;
        let knock = self.sign(&version, room_id, user, MembershipState::Knock, &answer.event, extra)?;
        let (room, event_id) = (room_id.to_owned(), knock.owned_event_id());
        let request = |pdu| create_knock_event::v1::Request::new(room, event_id, pdu);
        let answer = self.peers.bring(server, self.sendable(room_id, &knock)?, request, PATIENCE).await?;
        let shown = shown_state(&answer.knock_room_state, knock.json());
        let overlay = stripped::is_overlay(&shown);
        policy::check_enters(&self.core, overlay)?;
        self.peers.check_route(server, overlay)?;
        let room = Room { room_id: room_id.to_owned(), version, overlay };
        self.show_outside(user, room, (MembershipState::Knock, None), shown).await
    }

    fn sign(
        &self,
        version: &RoomVersionId,
        room_id: &RoomId,
        user: &UserId,
        wanted: MembershipState,
        event: &RawValue,
        extra: CanonicalJsonObject,
    ) -> Result<CheckedPdu, Error> {
        let rules = supported(version)?;
        let expected = Expected { room_id, user, membership: &wanted };
        let template = template::check(event.get(), &expected).map_err(|e| Error::unreachable(e.to_string()))?;
        let signer = rooms::signer(&self.core);
        template.sign(rules, &expected, extra, self.core.clock().now(), &signer).map_err(local::build_error)
    }

    /// Makes a room known by what outsiders are shown of it, with the membership of a user who is such an outsider and what
    /// came with his invite.
    pub(crate) async fn show_outside(
        &self,
        user: &UserId,
        room: Room,
        (membership, kept): (MembershipState, Option<InviteSnapshot>),
        shown: String,
    ) -> Result<(), Error> {
        let user = user.to_owned();
        let write = job(
            |_| Ok::<_, Error>(()),
            move |(), txn| {
                let short = rows::intern_room(txn, &room)?;
                match &kept {
                    Some(kept) => txn.put(tables::INVITE_SNAPSHOTS, (&*user, &*room.room_id), kept)?,
                    None => drop(txn.remove(tables::INVITE_SNAPSHOTS, (&*user, &*room.room_id))?),
                }
                set_outside(txn, short, &user, &membership, Some(&shown))
            },
        );
        self.core.write(write).await?;
        Ok(())
    }

    /// The user has left a room that is not here.
    async fn set_left(&self, user: &UserId, room_id: &RoomId) -> Result<(), Error> {
        let (user, room_id) = (user.to_owned(), room_id.to_owned());
        let write = job(
            move |view| known_room(view, &room_id).map(|(short, _)| short),
            move |short, txn| set_outside(txn, short, &user, &MembershipState::Leave, None),
        );
        self.core.write(write).await?;
        Ok(())
    }
}

fn set_outside(
    txn: &mut WriteTxn<'_>,
    room: RoomShort,
    user: &UserId,
    membership: &MembershipState,
    shown: Option<&String>,
) -> Result<(), millpond_store::Error> {
    let position = txn.next_position().0;
    let row = Membership { membership: membership.clone(), event: None, position, forgotten: false };
    txn.put(tables::MEMBERSHIPS, (user, room), &row)?;
    match shown {
        Some(shown) => txn.put(tables::STRIPPED, (user, room), shown)?,
        None => drop(txn.remove(tables::STRIPPED, (user, room))?),
    }
    txn.touch(Topic::User(user.to_owned()));
    txn.touch(Topic::UserRooms(user.to_owned()));
    Ok(())
}

/// What a peer shows of a room as a JSON array of stripped events, `own` (the invite or the knock) at its end.
pub(crate) fn shown_state(state: &[RawStrippedState], own: &str) -> String {
    #[allow(deprecated, reason = "servers from before Matrix 1.16 send stripped events")]
    let jsons = state.iter().take(MAX_SHOWN).filter_map(|event| match event {
        RawStrippedState::Stripped(raw) => Some(raw.json().get()),
        RawStrippedState::Pdu(raw) => Some(raw.get()),
        _ => None,
    });
    stripped::of_jsons(jsons.chain([own]))
}

/// Events of stripped state that we keep.
const MAX_SHOWN: usize = 100;
