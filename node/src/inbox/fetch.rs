//! Closing gaps: what a parked PDU misses is asked for, first as events, then, where that does not connect, as the state
//! before the PDU. The answers enter by the same door as everything else.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use millpond_matrix::{
    CheckedPdu, Pdu, Verdict,
    check::RawPdu,
    decide::Given,
    join::{self, AcceptedState, RoomAnswer},
    rules::{RoomRules, rules},
    state::Resolution,
};
use millpond_store::{
    job,
    rows::{Room, RoomShort, StagedPdu},
    tables,
};
use ruma::{
    EventId, OwnedEventId, OwnedServerName, RoomId, ServerName, UInt,
    api::federation::{
        authorization::get_event_authorization,
        event::{get_missing_events, get_room_state},
    },
};
use serde_json::value::RawValue;

use super::{Inbox, MAX_PDUS, complete::Entered, judge, parked};
use crate::{
    Error,
    classic::needed,
    peers::{PATIENCE, PeerError, Route, route},
    rooms::{
        apply::{self, Context, Owed},
        rows,
    },
};

/// Events of a state or an auth chain that are taken at once.
pub(crate) const MAX_STATE: usize = 50_000;
/// Classic servers that are asked for one thing, beside the one that showed it.
const MAX_CLASSIC: usize = 4;
/// Outliers written in one commit.
pub(crate) const OUTLIER_SLICE: usize = 128;

/// What an event refers to.
#[derive(Default, serde::Deserialize)]
struct Earlier {
    prev_events: Vec<OwnedEventId>,
}

impl Inbox {
    /// The origin, then other members: those with a link, and in a classic room some of those that are reached by the
    /// classic route.
    pub(crate) fn who_to_ask(&self, room: RoomShort, origin: &ServerName) -> Result<Vec<OwnedServerName>, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let Some(row) = view.get(tables::ROOMS, room)? else { return Ok(Vec::new()) };
        let us = self.core.identity();
        let (mut linked, mut classic) = (Vec::new(), Vec::new());
        for server in view.scan(tables::ROOM_SERVERS, (room,))?.map(|row| row.map(|((_, server), _)| server)) {
            let server = server?;
            match route(view, us, &server)?.filter(|route| route.carries(&row)) {
                Some(Route::Link) if server != origin => linked.push(server),
                Some(Route::Classic) if server != origin && classic.len() < MAX_CLASSIC => classic.push(server),
                _ => {}
            }
        }
        let mut servers = Vec::new();
        if route(view, us, origin)?.is_some_and(|route| route.carries(&row)) {
            servers.push(origin.to_owned());
        }
        servers.extend(linked);
        servers.extend(classic);
        Ok(servers)
    }

    /// Asks for the events between ours and the parked one; says whether any came that are new. None: the server is asked over
    /// mailboxes, and its answer comes later.
    pub(super) async fn walk(
        &self,
        (short, room): (RoomShort, &Room),
        from: &ServerName,
        event_id: &EventId,
        missing: &[OwnedEventId],
    ) -> Result<Option<bool>, Error> {
        // Over mailboxes the question must be the same when its answer is read, and ours ends may be others by then.
        let earliest = if self.peers.asks_by_mail(from) {
            Vec::new()
        } else {
            let snapshot = self.core.snapshot()?;
            let view = snapshot.view();
            let mut ids = Vec::new();
            for row in view.scan(tables::EXTREMITIES, (short,))?.take(20) {
                ids.push(rows::event_id(view, row?.0.1)?);
            }
            ids
        };
        let mut request =
            get_missing_events::v1::Request::new(room.room_id.clone(), earliest, vec![event_id.to_owned()]);
        request.limit = UInt::from(MAX_PDUS as u32);
        let mut answer = match self.peers.ask(from, request, PATIENCE).await {
            Ok(answer) => answer,
            Err(PeerError::Later) => return Ok(None),
            Err(_) => return Ok(Some(false)),
        };
        answer.events.truncate(MAX_PDUS);
        let Ok(rules) = rules(&room.version) else { return Ok(Some(false)) };
        let fresh = self.unknown(room, rules, missing, answer.events)?;
        self.stage(from, &fresh).await?;
        Ok(Some(!fresh.is_empty()))
    }

    /// Those of the events that are of this room, neither stored nor parked, and lead from `ends` back to what is here. What
    /// lies beyond that is history, and no news: it is fetched for who scrolls there.
    pub(super) fn unknown(
        &self,
        room: &Room,
        rules: &RoomRules,
        ends: &[OwnedEventId],
        events: Vec<Box<RawValue>>,
    ) -> Result<Vec<Box<RawValue>>, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let (mut order, mut given) = (Vec::new(), HashMap::new());
        for event in events {
            let Ok(raw) = RawPdu::parse(event.get()) else { continue };
            let Ok(id) = raw.event_id(rules) else { continue };
            let stored = rows::event_by_id(view, &id)?.is_some_and(|(_, row)| row.meta.state_after.is_some());
            if raw.room_id() == Some(&*room.room_id) && !stored {
                order.push(id.clone());
                given.insert(id, event);
            }
        }
        let mut led_to = HashSet::new();
        let mut next = ends.to_vec();
        while let Some(id) = next.pop() {
            let Some(event) = given.get(&id).filter(|_| led_to.insert(id)) else { continue };
            let earlier: Earlier = serde_json::from_str(event.get()).unwrap_or_default();
            next.extend(earlier.prev_events);
        }
        let mut fresh = Vec::new();
        for id in order {
            let wanted = led_to.contains(&id) && !view.contains(tables::PARKED, (&*room.room_id, &*id))?;
            fresh.extend(given.remove(&id).filter(|_| wanted));
        }
        Ok(fresh)
    }

    /// Takes the state before the parked PDU from a peer and judges the PDU by it; what lies between stays a gap in the
    /// timeline until somebody scrolls there.
    pub(super) async fn bridge(
        &self,
        room: (RoomShort, &Room),
        from: &ServerName,
        event_id: &EventId,
    ) -> Result<bool, Error> {
        let Ok(rules) = rules(&room.1.version) else { return Ok(false) };
        let Some(accepted) = self.state_from(room, rules, from, event_id).await? else { return Ok(false) };
        let row = {
            let snapshot = self.core.snapshot()?;
            snapshot.view().get(tables::PARKED, (&*room.1.room_id, event_id))?
        };
        let Some(row) = row else { return Ok(true) };
        let raw: Box<RawValue> = serde_json::from_str(&row.json).map_err(|e| Error::internal(e.to_string()))?;
        let Some(pdu) = self.check_all(rules, &row.origin, vec![raw]).await?.pop() else { return Ok(false) };
        self.write_outliers(room.0, &accepted).await?;
        let staged = StagedPdu { origin: row.origin, via: Vec::new(), json: row.json };
        self.write_bridged(room, judge::Ready { position: 0, staged, pdu, unwanted: false }, accepted).await
    }

    /// The state before an event as a peer describes it, as far as it holds; `None` where it cannot be had.
    pub(super) async fn state_from(
        &self,
        room: (RoomShort, &Room),
        rules: &'static RoomRules,
        from: &ServerName,
        event_id: &EventId,
    ) -> Result<Option<AcceptedState>, Error> {
        let request = get_room_state::v1::Request::new(event_id.to_owned(), room.1.room_id.clone());
        let Ok(answer) = self.peers.ask(from, request, PATIENCE).await else { return Ok(None) };
        let state = self.check_all(rules, from, answer.pdus).await?;
        let auth_chain = self.check_all(rules, from, answer.auth_chain).await?;
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let known = |id: &EventId| known_pdu(view, room.0, &room.1.room_id, id);
        Ok(join::accept_state(rules, &room.1.room_id, RoomAnswer { state, auth_chain }, known).ok())
    }

    /// Checks PDUs that a peer has named (steps 1 to 3); those that fail are left out.
    pub(crate) async fn check_all(
        &self,
        rules: &'static RoomRules,
        from: &ServerName,
        mut pdus: Vec<Box<RawValue>>,
    ) -> Result<Vec<CheckedPdu>, Error> {
        pdus.truncate(2 * MAX_STATE);
        let mut raw = Vec::with_capacity(pdus.len());
        let mut needs = Vec::new();
        for pdu in &pdus {
            let Ok(pdu) = RawPdu::parse(pdu.get()) else { continue };
            let Ok(keys) = pdu.required_keys(rules) else { continue };
            needs.push((keys, pdu.made_at_ms()));
            raw.push(pdu);
        }
        let keys = self.peers.keys(needed(needs), from).await?;
        let check = move || raw.into_iter().filter_map(|pdu| keys.check(rules, pdu).ok()).collect();
        tokio::task::spawn_blocking(check).await.map_err(|e| Error::internal(format!("checking PDUs: {e}")))
    }

    /// Stores the state and auth chain that a peer has named, as outliers.
    pub(crate) async fn write_outliers(&self, room: RoomShort, accepted: &AcceptedState) -> Result<(), Error> {
        for slice in accepted.outliers.chunks(OUTLIER_SLICE) {
            self.write_outlier_slice(room, slice.to_vec()).await?;
        }
        Ok(())
    }

    /// Stores some outliers in one commit.
    pub(super) async fn write_outlier_slice(&self, room: RoomShort, slice: Vec<Arc<Pdu>>) -> Result<(), Error> {
        let write = job(
            |_| Ok::<_, Error>(()),
            move |(), txn| slice.iter().try_for_each(|pdu| apply::write_outlier(txn, room, pdu).map(drop)),
        );
        self.core.write(write).await?;
        Ok(())
    }

    /// Asks for the auth events of a parked PDU, and theirs; says whether any of them was missing.
    pub(super) async fn fetch_auth(
        &self,
        (short, room): (RoomShort, &Room),
        from: &ServerName,
        event_id: &EventId,
    ) -> Result<bool, Error> {
        let Ok(rules) = rules(&room.version) else { return Ok(false) };
        let request = get_event_authorization::v1::Request::new(room.room_id.clone(), event_id.to_owned());
        let Ok(answer) = self.peers.ask(from, request, PATIENCE).await else { return Ok(false) };
        let checked = self.check_all(rules, from, answer.auth_chain).await?;
        let outliers = {
            let snapshot = self.core.snapshot()?;
            let known = |id: &EventId| known_pdu(snapshot.view(), short, &room.room_id, id);
            join::accept_outliers(rules, &room.room_id, checked, known)
        };
        let any = !outliers.is_empty();
        for slice in outliers.chunks(OUTLIER_SLICE) {
            let slice = slice.to_vec();
            let write = job(
                |_| Ok::<_, Error>(()),
                move |(), txn| {
                    for pdu in &slice {
                        apply::write_outlier(txn, short, pdu)?;
                        parked::wake(txn, pdu.event_id())?;
                    }
                    Ok(())
                },
            );
            self.core.write(write).await?;
        }
        Ok(any)
    }

    async fn write_bridged(
        &self,
        room: (RoomShort, &Room),
        ready: judge::Ready,
        accepted: AcceptedState,
    ) -> Result<bool, Error> {
        let owed = Owed::Onward(judge::served(&ready.staged, &ready.pdu));
        self.write_with_state(room, ready.pdu, accepted, owed, Entering::No).await
    }

    /// Writes our own join on the state that a server has described, or on the part of it that it has sent.
    ///
    /// # Errors
    /// Storage errors.
    pub(crate) async fn write_on_state(
        &self,
        room: (RoomShort, &Room),
        pdu: CheckedPdu,
        accepted: AcceptedState,
        (resident, part): (&ServerName, Option<Entered>),
    ) -> Result<bool, Error> {
        // The resident server sends it out in a classic room.
        let owed = Owed::Onward(BTreeSet::from([resident.to_owned()]));
        let written = self.write_with_state(room, pdu, accepted, owed, Entering::By(part.map(Arc::new))).await?;
        self.completing.note();
        Ok(written)
    }

    /// Writes the invite by which we enter a room on the state that came with it. Everybody in the room has it already.
    ///
    /// # Errors
    /// Storage errors.
    pub(crate) async fn write_described(
        &self,
        room: (RoomShort, &Room),
        invite: CheckedPdu,
        accepted: AcceptedState,
    ) -> Result<bool, Error> {
        self.write_with_state(room, invite, accepted, Owed::Nobody, Entering::By(None)).await
    }

    /// Decides on an event by a state that a peer has named, and writes it.
    async fn write_with_state(
        &self,
        (short, room): (RoomShort, &Room),
        pdu: CheckedPdu,
        accepted: AcceptedState,
        owed: Owed,
        enters: Entering,
    ) -> Result<bool, Error> {
        let Ok(rules) = rules(&room.version) else { return Ok(false) };
        let room = Arc::new(room.clone());
        let before = Arc::new(accepted.state);
        let mut resolutions: Vec<Resolution> = Vec::new();
        loop {
            let (core, job_pdu, job_room, before) = (self.core.clone(), pdu.clone(), room.clone(), before.clone());
            let now_ms = core.clock().now_ms();
            let (resolved, context) =
                (resolutions.clone(), Context { owed: owed.clone(), now_ms, ..Context::default() });
            let enters = enters.clone();
            let write = job(
                |_| Ok::<_, Error>(()),
                move |(), txn| {
                    let room = (short, &*job_room);
                    // Another user of ours may have joined in between: then the room is here, and goes on as it is.
                    let part = match &enters {
                        Entering::By(part) if !is_resident(txn.view(), short, &core)? => Some(part.as_ref()),
                        _ => None,
                    };
                    let (entering, part) = (part.is_some(), part.flatten());
                    part.map(|part| part.write(txn, short)).transpose()?;
                    let state_before = Some(before.clone());
                    let given = Given { resolutions: &resolved, state_before, entering, backfill: false };
                    let verdict = apply::verdict(txn.view(), room, &job_pdu, &given).map_err(apply::store_error)?;
                    if part.is_some() && !matches!(verdict, Verdict::Append(_)) {
                        Entered::undo(txn, short)?;
                    }
                    match verdict {
                        Verdict::Resolve(sets) => return Ok(Err(sets)),
                        Verdict::Park(_) => return Ok(Ok(false)),
                        Verdict::Duplicate => {}
                        verdict => drop(apply::write(txn, core.identity(), room, &job_pdu, verdict, &context)?),
                    }
                    parked::unpark(txn, &job_room.room_id, job_pdu.event_id())?;
                    parked::wake(txn, job_pdu.event_id())?;
                    Ok(Ok(true))
                },
            );
            match self.core.write(write).await?.0 {
                Ok(done) => return Ok(done),
                Err(sets) => resolutions.push(self.resolve((short, &room), rules, sets, &pdu)?),
            }
        }
    }
}

/// Whether an event is the one by which we enter a room.
#[derive(Clone)]
enum Entering {
    No,
    /// It is; with a part of the state only where there is something.
    By(Option<Arc<Entered>>),
}

fn is_resident(
    view: millpond_store::View<'_>,
    room: RoomShort,
    core: &crate::Core,
) -> Result<bool, millpond_store::Error> {
    let ours = view.get(tables::ROOM_SERVERS, (room, core.identity().server_name()))?;
    Ok(ours.is_some_and(|members| members > 0))
}

/// An event of a room that is stored; storage errors count as unknown here, the write that follows meets them again.
pub(crate) fn known_pdu(
    view: millpond_store::View<'_>,
    room: RoomShort,
    room_id: &RoomId,
    id: &EventId,
) -> Option<Arc<Pdu>> {
    let (_, row) = rows::event_in_room(view, room, id).ok()??;
    rows::pdu(room_id, row).ok()
}
