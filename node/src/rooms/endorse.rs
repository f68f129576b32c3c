//! Events of ours in rooms with a policy server: it is asked to sign each before it is written (server-server API, "Policy
//! Servers"). Without its signature other servers would not show the event.
//!
//! It signs what would be written now; when the room has gone on meanwhile, what is written is another event, and it is asked
//! again.

use std::sync::Arc;

use futures::future::BoxFuture;
use millpond_matrix::{
    CheckedPdu,
    build::EventDraft,
    policy_server::{PolicyServer, needs_endorsement},
    rules::{RoomRules, rules},
};
use millpond_store::{View, rows::RoomShort, tables};
use ruma::{RoomId, ServerName};
use serde_json::value::RawValue;

use super::{Rooms, current, local, rows};
use crate::{Core, Error, classic::AnyPdu};

/// How often a policy server is asked about one event of a room that goes on all the while.
pub(super) const TRIES: usize = 5;

/// Asks policy servers.
pub trait Endorser: Send + Sync {
    /// The signature of a policy server on an event.
    fn endorse<'a>(&'a self, via: &'a ServerName, pdu: AnyPdu) -> BoxFuture<'a, Result<String, Error>>;
}

/// The policy server of a room, if it names one that is in it.
pub(crate) fn policy_server(core: &Core, view: View<'_>, room: RoomShort) -> Result<Option<PolicyServer>, Error> {
    let Some(row) = current::entry_row(view, room, "m.room.policy", "")? else { return Ok(None) };
    let Some(server) = PolicyServer::of_content(row.header.content.of(&row.json)) else { return Ok(None) };
    let members = view.get(tables::ROOM_SERVERS, (room, server.via()))?;
    // Whose members are not here yet is in the room by the word of who described it.
    let present = members.is_some_and(|members| members > 0 || !core.identity().is_ours(server.via()));
    // We are none: a room that says so goes on without.
    let counts = present && !core.identity().is_ours(server.via());
    Ok(counts.then_some(server))
}

impl Rooms {
    /// Says who asks policy servers; the first one given stays.
    pub fn use_endorser(&self, endorser: Arc<dyn Endorser>) {
        // A second one would ask the same.
        let _ = self.endorser.set(endorser);
    }

    /// The event that a draft becomes now, with the signature of the room's policy server; none where the room has none, or
    /// the draft makes no event.
    ///
    /// # Errors
    /// 403 when the policy server refuses the event; 504 when it cannot be asked. As [`local::plan`].
    pub(super) async fn endorsed(
        &self,
        room_id: &RoomId,
        draft: impl FnOnce(View<'_>) -> Result<Option<EventDraft>, Error>,
    ) -> Result<Option<CheckedPdu>, Error> {
        match self.to_endorse(room_id, draft)? {
            // Rare, and on the heap so that all other sends are as small as before.
            Some(asked) => Box::pin(self.ask_endorser(asked)).await.map(Some),
            None => Ok(None),
        }
    }

    /// What is to be endorsed by whom, if anything.
    fn to_endorse(
        &self,
        room_id: &RoomId,
        draft: impl FnOnce(View<'_>) -> Result<Option<EventDraft>, Error>,
    ) -> Result<Option<Asked>, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let Some((short, room)) = rows::room(view, room_id)? else { return Ok(None) };
        let Some(server) = policy_server(&self.core, view, short)? else { return Ok(None) };
        let Some(draft) = draft(view)? else { return Ok(None) };
        let pdu = local::plan(&self.core, view, room_id, draft)?.pdu;
        if !needs_endorsement(&pdu) {
            return Ok(None);
        }
        let rules = rules(&room.version).map_err(|e| Error::internal(e.to_string()))?;
        let json = RawValue::from_string(pdu.json().to_owned()).map_err(|e| Error::internal(e.to_string()))?;
        Ok(Some(Asked { server, rules, pdu, sendable: AnyPdu::of(&room, json) }))
    }

    async fn ask_endorser(&self, asked: Asked) -> Result<CheckedPdu, Error> {
        let Asked { server, rules, pdu, sendable } = asked;
        let nobody = || Error::unreachable("the room's policy server cannot be asked now");
        let endorser = self.endorser.get().ok_or_else(nobody)?;
        let signature = endorser.endorse(server.via(), sendable).await?;
        let wrong = || Error::unreachable("the room's policy server answered with a signature that does not hold");
        server.endorsed(rules, &pdu, &signature).ok_or_else(wrong)
    }
}

/// An event that a policy server is asked about.
struct Asked {
    server: PolicyServer,
    rules: &'static RoomRules,
    pdu: CheckedPdu,
    sendable: AnyPdu,
}

/// Puts the endorsed event in the place of the planned one: they differ in a signature. None: the room has gone on, or has a
/// policy server by now.
pub(super) fn place(
    core: &Core,
    view: View<'_>,
    mut planned: local::Planned,
    endorsed: Option<&CheckedPdu>,
) -> Result<Option<local::Planned>, Error> {
    match endorsed {
        Some(endorsed) if endorsed.event_id() == planned.pdu.event_id() => {
            planned.pdu = endorsed.clone();
            Ok(Some(planned))
        }
        Some(_) => Ok(None),
        None => {
            let missing = needs_endorsement(&planned.pdu) && policy_server(core, view, planned.room.0)?.is_some();
            Ok((!missing).then_some(planned))
        }
    }
}

/// What a client is told when a room goes on faster than its policy server answers.
pub(super) fn too_busy() -> Error {
    Error::unreachable("the room goes on faster than its policy server answers: try again")
}
