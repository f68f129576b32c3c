//! Joining a room over federation: a template from a resident server, checked before it is signed; then the room's state,
//! every event of it checked before it is believed (server-server spec, "Joining Rooms").

use std::time::Duration;

use futures::FutureExt;
use millpond_matrix::{
    CheckedPdu,
    join::{self, AcceptedState, RoomAnswer},
    rules::{RoomRules, SUPPORTED, rules},
    template::{self, Expected},
};
use millpond_store::{
    job,
    rows::{Partial, Room, RoomShort},
};
use ruma::{
    CanonicalJsonObject, EventId, OwnedServerName, RoomId, RoomVersionId, ServerName, UserId,
    api::federation::membership::{create_join_event, prepare_join_event},
    events::{StateEventType, room::member::MembershipState},
};
use serde_json::value::RawValue;

use super::{Memberships, in_turn};
use crate::{
    Error,
    classic::AnyPdu,
    inbox::{Entered, known_pdu},
    peers::{PATIENCE, Route},
    rooms::{self, local, policy, rows},
};

impl Memberships {
    pub(super) async fn join_remote(
        &self,
        user: &UserId,
        room_id: &RoomId,
        via: Vec<OwnedServerName>,
        extra: CanonicalJsonObject,
    ) -> Result<(), Error> {
        let _held = self.inbox.hold(room_id);
        let kept = self.kept_snapshot(user, room_id)?;
        // With the room at hand a resident server that answers decides; nobody need be waited for who is not there.
        let is_final = |error: &Error| kept.is_some() && !is_absence(error);
        let has_room = kept.is_some();
        let attempt = |server: OwnedServerName| {
            let extra = extra.clone();
            let join = async move {
                let patience = if has_room && !self.peers.is_connected(&server) { PROBE } else { PATIENCE };
                self.join_through(&server, patience, user, room_id, extra).await
            };
            join.boxed()
        };
        match in_turn(self.candidates(user, room_id, via)?, is_final, attempt).await {
            Ok(()) => self.forget_snapshot(user, room_id).await,
            Err(error) => match kept {
                Some(kept) if is_absence(&error) => self.join_by_snapshot(user, room_id, &kept, extra).await,
                _ => Err(error),
            },
        }
    }

    async fn join_through(
        &self,
        server: &ServerName,
        patience: Duration,
        user: &UserId,
        room_id: &RoomId,
        extra: CanonicalJsonObject,
    ) -> Result<(), Error> {
        // 1. A template from a server that is in the room.
        let mut request = prepare_join_event::v1::Request::new(room_id.to_owned(), user.to_owned());
        request.ver = SUPPORTED.to_vec();
        let answer = self.peers.ask(server, request, patience).await?;
        let version = answer.room_version.unwrap_or(RoomVersionId::V1);
        let rules = supported(&version)?;
        // 2. What we sign is what we asked for.
        let expected = Expected { room_id, user, membership: &MembershipState::Join };
        let template = template::check(answer.event.get(), &expected).map_err(|e| Error::unreachable(e.to_string()))?;
        let mut content = self.profile_content(user)?;
        content.extend(extra);
        let now = self.core.clock().now();
        let signer = rooms::signer(&self.core);
        let join = template.sign(rules, &expected, content, now, &signer).map_err(local::build_error)?;
        // 3. The room's state for it.
        let (room, event_id) = (room_id.to_owned(), join.owned_event_id());
        // Classic rooms may be large, and their members come behind.
        let omits = self.peers.route(server)? == Route::Classic;
        let request = |pdu| {
            let mut request = create_join_event::v2::Request::new(room, event_id, pdu);
            request.omit_members = omits;
            request
        };
        let answer = self.peers.bring(server, self.sendable(room_id, &join)?, request, JOIN_PATIENCE).await?.room_state;
        let part = (omits && answer.members_omitted).then(|| answer.servers_in_room.unwrap_or_default());
        // With a restricted join the resident server has added its signature; the event id is the same.
        let join = self.signed_by_resident(rules, server, join, answer.event).await?;
        let state = self.inbox.check_all(rules, server, answer.state).await?;
        let auth_chain = self.inbox.check_all(rules, server, answer.auth_chain).await?;
        let part = part.map(|servers| {
            let mark = Partial {
                join: join.owned_event_id(),
                us: self.core.identity().server_name().to_owned(),
                from: server.to_owned(),
                since_ms: self.core.clock().now_ms(),
            };
            Entered::new(mark, &servers)
        });
        self.enter((server, part), rules, room_id, join, RoomAnswer { state, auth_chain }).await
    }

    /// An event that enters or leaves a room, with what is known of the room's policy.
    pub(super) fn sendable(&self, room_id: &RoomId, pdu: &CheckedPdu) -> Result<AnyPdu, Error> {
        let json = RawValue::from_string(pdu.json().to_owned()).map_err(|e| Error::internal(e.to_string()))?;
        self.sendable_json(room_id, json)
    }

    /// The same for what becomes an event of the room elsewhere.
    pub(super) fn sendable_json(&self, room_id: &RoomId, json: Box<RawValue>) -> Result<AnyPdu, Error> {
        let snapshot = self.core.snapshot()?;
        let room = rows::room(snapshot.view(), room_id)?.map(|(_, room)| room);
        Ok(AnyPdu::outside(room.as_ref(), json))
    }

    pub(super) fn profile_content(&self, user: &UserId) -> Result<CanonicalJsonObject, Error> {
        let snapshot = self.core.snapshot()?;
        rooms::profile_content(&self.core, snapshot.view(), user)
    }

    async fn signed_by_resident(
        &self,
        rules: &'static RoomRules,
        server: &ServerName,
        join: CheckedPdu,
        returned: Option<Box<RawValue>>,
    ) -> Result<CheckedPdu, Error> {
        let Some(returned) = returned else { return Ok(join) };
        let checked = self.inbox.check_all(rules, server, vec![returned]).await?.pop();
        Ok(checked.filter(|pdu| pdu.event_id() == join.event_id()).unwrap_or(join))
    }

    /// Checks the room that a server describes, and stores it with our join on top.
    async fn enter(
        &self,
        (server, part): (&ServerName, Option<Entered>),
        rules: &'static RoomRules,
        room_id: &RoomId,
        join: CheckedPdu,
        answer: RoomAnswer,
    ) -> Result<(), Error> {
        let (accepted, overlay) = self.judge((server, part.is_some()), rules, room_id, &join, answer)?;
        policy::check_enters(&self.core, overlay)?;
        self.peers.check_route(server, overlay)?;
        let room = Room { room_id: room_id.to_owned(), version: rules.version.clone(), overlay };
        let short = self.know_room(room.clone()).await?;
        self.inbox.write_outliers(short, &accepted).await?;
        if self.inbox.write_on_state((short, &room), join, accepted, (server, part)).await? {
            return Ok(());
        }
        Err(Error::internal("the join refers to events that did not come with it"))
    }

    /// The part of a described room that holds, and whether it is an overlay room.
    fn judge(
        &self,
        (server, in_part): (&ServerName, bool),
        rules: &RoomRules,
        room_id: &RoomId,
        join: &CheckedPdu,
        answer: RoomAnswer,
    ) -> Result<(AcceptedState, bool), Error> {
        let refused =
            |e: join::JoinError| Error::unreachable(format!("the room that {server} describes is not valid: {e}"));
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let short = rows::room_short(view, room_id)?;
        let known = |id: &EventId| short.and_then(|short| known_pdu(view, short, room_id, id));
        let accepted = join::accept_state(rules, room_id, answer, known).map_err(refused)?;
        match in_part {
            true => join::check_partial_join(rules, join, &accepted, known),
            false => join::check_join(rules, join, &accepted, known),
        }
        .map_err(refused)?;
        let create = accepted.state.get(&(StateEventType::RoomCreate, String::new()));
        let create = create
            .and_then(|id| accepted.outliers.iter().find(|pdu| pdu.event_id() == id).cloned().or_else(|| known(id)));
        let overlay = create.is_some_and(|create| rooms::is_overlay_content(create.content().get()));
        Ok((accepted, overlay))
    }

    async fn know_room(&self, room: Room) -> Result<RoomShort, Error> {
        let write = job(
            |_| Ok::<_, Error>(()),
            move |(), txn| {
                let short = rows::intern_room(txn, &room)?;
                // An invite could only guess what the create event says.
                txn.put(millpond_store::tables::ROOMS, short, &room)?;
                Ok(short)
            },
        );
        Ok(self.core.write(write).await?.0)
    }
}

/// How long a server that is not connected is tried when the room can be entered without it.
const PROBE: Duration = Duration::from_secs(3);

/// Whether an error says that a server was not there, rather than what it thinks.
fn is_absence(error: &Error) -> bool {
    matches!(error, Error::Matrix { status, .. } if status.is_server_error())
}

/// The rules of a version that we speak.
pub(super) fn supported(version: &RoomVersionId) -> Result<&'static RoomRules, Error> {
    rules(version).map_err(|e| {
        let kind = ruma::api::error::ErrorKind::UnsupportedRoomVersion;
        Error::matrix(http::StatusCode::BAD_REQUEST, kind, e.to_string())
    })
}

/// How long a resident server may take to describe a room: some hold hundreds of thousands of events of state.
const JOIN_PATIENCE: Duration = Duration::from_secs(120);
