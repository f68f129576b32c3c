//! Judging the staged PDUs of one room: signatures first, in parallel and off the writer; then slices of decisions, each in
//! one commit. What needs a state resolution leaves the writer for it and comes again with the result.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use millpond_matrix::{
    CheckedPdu, Verdict,
    check::RawPdu,
    decide::{Append, Given},
    rules::{RoomRules, rules},
    state::{Resolution, StateSet},
};
use millpond_store::{
    WriteTxn, job,
    rows::{Room, RoomShort, StagedPdu},
    tables,
};
use ruma::{OwnedRoomId, RoomId, ServerName, events::room::server_acl::RoomServerAclEventContent};
use serde::Deserialize;

use super::{Inbox, parked, parked::Parking, unstage};
use crate::{
    Error,
    classic::{KeyRing, needed},
    receipts,
    rooms::{
        apply::{self, Context, Owed},
        current, local,
        reader::StoredRoom,
        rows,
    },
};

/// PDUs decided and written in one commit: bounds how long others wait for the writer.
const SLICE: usize = 32;

/// The room that a staged PDU says it is of.
pub(super) fn room_of(json: &str) -> Option<OwnedRoomId> {
    #[derive(Deserialize)]
    struct Head {
        room_id: OwnedRoomId,
    }
    // A create event of version 12 has no room id; it comes with a join, never through the inbox.
    serde_json::from_str::<Head>(json).ok().map(|head| head.room_id)
}

/// A PDU that passed the checks that need no room.
pub(super) struct Ready {
    pub(super) position: u64,
    pub(super) staged: StagedPdu,
    pub(super) pdu: CheckedPdu,
    /// The room's policy server does not recommend it.
    pub(super) unwanted: bool,
}

/// What a slice left to do.
#[derive(Default)]
struct Outcome {
    /// How many were done.
    done: usize,
    /// The next one needs these states resolved.
    resolve: Option<Vec<StateSet>>,
    /// Something was parked.
    parked: bool,
}

impl Inbox {
    pub(super) async fn judge_room(&self, room_id: &RoomId, staged: Vec<(u64, StagedPdu)>) -> Result<(), Error> {
        let Some((short, room)) = self.resident_room(room_id)? else {
            return self.discard(staged.into_iter().map(|(position, _)| position).collect()).await;
        };
        let Ok(rules) = rules(&room.version) else { return Ok(()) };
        let room = Arc::new(room);
        let ready = self.check(rules, short, staged).await?;
        let ready = self.recommended((short, &room), rules, ready).await?;
        let mut rest = Arc::new(ready);
        let mut from = 0;
        let mut resolutions: Vec<Resolution> = Vec::new();
        while from < rest.len() {
            let outcome = self.write_slice((short, room.clone()), rest.clone(), from, resolutions.clone()).await?;
            from += outcome.done;
            if outcome.parked {
                self.gaps.mark(room_id);
            }
            match outcome.resolve {
                Some(sets) => resolutions.push(self.resolve((short, &room), rules, sets, &rest[from].pdu)?),
                None => resolutions.clear(),
            }
        }
        rest = Arc::default();
        drop(rest);
        Ok(())
    }

    /// The room, if one of our users is in it.
    fn resident_room(&self, room_id: &RoomId) -> Result<Option<(RoomShort, Room)>, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let Some((short, room)) = rows::room(view, room_id)? else { return Ok(None) };
        let ours = view.get(tables::ROOM_SERVERS, (short, self.core.identity().server_name()))?;
        Ok(ours.is_some_and(|members| members > 0).then_some((short, room)))
    }

    /// Steps 1 to 3 of the checks on receipt; what fails is dropped.
    async fn check(
        &self,
        rules: &'static RoomRules,
        room: RoomShort,
        staged: Vec<(u64, StagedPdu)>,
    ) -> Result<Vec<Ready>, Error> {
        let mut raw = Vec::with_capacity(staged.len());
        let (mut dropped, mut needs) = (Vec::new(), BTreeMap::<_, Vec<_>>::new());
        let acl = self.server_acl(room)?;
        for (position, staged) in staged {
            let allowed = acl.as_ref().is_none_or(|acl| acl.is_allowed(&staged.origin));
            let parsed = RawPdu::parse(&staged.json).and_then(|pdu| pdu.required_keys(rules).map(|keys| (pdu, keys)));
            match parsed {
                Ok((pdu, keys)) if allowed => {
                    needs.entry(staged.origin.clone()).or_default().push((keys, pdu.made_at_ms()));
                    raw.push((position, staged, pdu));
                }
                _ => dropped.push(position),
            }
        }
        let mut keys = KeyRing::default();
        for (carrier, needs) in needs {
            keys.merge(self.peers.keys(needed(needs), &carrier).await?);
        }
        let checked = tokio::task::spawn_blocking(move || {
            let check = |(position, staged, pdu): (u64, StagedPdu, RawPdu)| match keys.check(rules, pdu) {
                Ok(pdu) => Ok(Ready { position, staged, pdu, unwanted: false }),
                Err(error) => {
                    tracing::debug!(%error, "dropped a PDU");
                    Err(position)
                }
            };
            in_parallel(raw, check)
        });
        let checked = checked.await.map_err(|e| Error::internal(format!("checking PDUs: {e}")))?;
        let mut ready = Vec::with_capacity(checked.len());
        for outcome in checked {
            match outcome {
                Ok(pdu) => ready.push(pdu),
                Err(position) => dropped.push(position),
            }
        }
        self.discard(dropped).await?;
        Ok(ready)
    }

    fn server_acl(&self, room: RoomShort) -> Result<Option<RoomServerAclEventContent>, Error> {
        let snapshot = self.core.snapshot()?;
        Ok(current::content(snapshot.view(), room, "m.room.server_acl", "")?)
    }

    async fn write_slice(
        &self,
        (short, room): (RoomShort, Arc<Room>),
        ready: Arc<Vec<Ready>>,
        from: usize,
        resolutions: Vec<Resolution>,
    ) -> Result<Outcome, Error> {
        let (core, now) = (self.core.clone(), self.core.clock().now_ms());
        let write = job(
            |_| Ok::<_, Error>(()),
            move |(), txn| {
                let mut outcome = Outcome::default();
                let mut parking = Parking::new(&room.room_id);
                for pdu in ready.iter().skip(from).take(SLICE) {
                    let given = Given { resolutions: &resolutions, ..Given::default() };
                    let verdict =
                        apply::verdict(txn.view(), (short, &room), &pdu.pdu, &given).map_err(apply::store_error)?;
                    match verdict {
                        Verdict::Resolve(sets) => {
                            outcome.resolve = Some(sets);
                            return Ok(outcome);
                        }
                        Verdict::Park(missing) => {
                            parking.park(txn, pdu, &missing, now)?;
                            outcome.parked = true;
                        }
                        Verdict::Append(Append { placement, .. }) if pdu.unwanted => {
                            let why = "the room's policy server does not recommend it".to_owned();
                            let verdict = Verdict::SoftFail { why, placement };
                            write_verdict(txn, &core, (short, &room), pdu, verdict)?;
                        }
                        verdict => write_verdict(txn, &core, (short, &room), pdu, verdict)?,
                    }
                    unstage(txn, pdu.position, &pdu.staged.origin)?;
                    outcome.done += 1;
                }
                Ok(outcome)
            },
        );
        Ok(self.core.write(write).await?.0)
    }

    /// Resolves states on a snapshot, off the writer. The job that uses the result decides anew, and uses it only where the
    /// very same states are to be resolved.
    pub(super) fn resolve(
        &self,
        (short, room): (RoomShort, &Room),
        rules: &RoomRules,
        sets: Vec<StateSet>,
        pdu: &CheckedPdu,
    ) -> Result<Resolution, Error> {
        let snapshot = self.core.snapshot()?;
        let reader = StoredRoom::new(snapshot.view(), short, room);
        tokio::task::block_in_place(|| millpond_matrix::state::resolve(&reader, rules, sets, Some(pdu)))
            .map_err(local::state_error)
    }
}

/// Writes a verdict on a peer's PDU, owes it to those whom its sender does not serve, and wakes what waited for it.
pub(super) fn write_verdict(
    txn: &mut WriteTxn<'_>,
    core: &crate::Core,
    (short, room): (RoomShort, &Room),
    ready: &Ready,
    verdict: Verdict,
) -> Result<(), millpond_store::Error> {
    let served = served(&ready.staged, &ready.pdu);
    let now_ms = core.clock().now_ms();
    let context = Context { owed: Owed::Onward(served), now_ms, ..Context::default() };
    if !matches!(verdict, Verdict::Duplicate) {
        let applied = apply::write(txn, core.identity(), (short, room), &ready.pdu, verdict, &context)?;
        if applied.appended {
            receipts::take_early(txn, short, ready.pdu.event_id())?;
        }
    }
    parked::wake(txn, ready.pdu.event_id())
}

/// Who has the event already, or gets it from its sender.
pub(super) fn served(staged: &StagedPdu, pdu: &CheckedPdu) -> BTreeSet<ruma::OwnedServerName> {
    let sender: &ServerName = pdu.sender().server_name();
    staged.via.iter().cloned().chain([staged.origin.clone(), sender.to_owned()]).collect()
}

/// Maps on two threads where it pays; the order stays.
fn in_parallel<T: Send, R: Send>(mut items: Vec<T>, map: impl Fn(T) -> R + Sync) -> Vec<R> {
    const WORTH: usize = 16;
    if items.len() < WORTH {
        return items.into_iter().map(map).collect();
    }
    let second = items.split_off(items.len() / 2);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| second.into_iter().map(&map).collect::<Vec<_>>());
        let mut done: Vec<R> = items.into_iter().map(&map).collect();
        done.extend(other.join().expect("a check does not panic"));
        done
    })
}
