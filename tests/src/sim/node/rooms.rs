//! What users do, and what comes in: staged items are worked off one by one, each in one commit with all that follows from it, as the
//! node's inbox and funnel do.

use std::collections::BTreeSet;

use millpond_mailbox::item::Item;
use millpond_matrix::{
    CheckedPdu, Verdict,
    build::{self, EventDraft},
};
use ruma::{MilliSecondsSinceUnixEpoch, OwnedEventId, UInt, UserId};
use serde::Deserialize;
use serde_json::{json, value::RawValue};

use super::{Node, Step};
use crate::sim::{
    disk::{Owed, Parked},
    fate::Killed,
    plan::DAY,
    room::{Applied, Room, Snapshot},
};

/// The draft of a membership.
#[must_use]
pub fn member(sender: &UserId, target: &UserId, membership: &str, at: u64) -> EventDraft {
    let content = build::content(json!({"membership": membership}).to_string().as_bytes()).expect("a content");
    let at = MilliSecondsSinceUnixEpoch(UInt::new_saturating(at));
    let mut draft = EventDraft::new("m.room.member".into(), content, sender.to_owned(), at);
    draft.state_key = Some(target.to_string());
    draft
}

/// An event and who brought it.
struct Coming {
    from: usize,
    via: BTreeSet<usize>,
    json: String,
}

#[derive(Deserialize)]
struct Transaction {
    #[serde(default)]
    pdus: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Edu {
    content: EduContent,
}

#[derive(Deserialize)]
struct EduContent {
    message_id: String,
}

impl Node {
    /// The user says something; once this returns an id it is durable.
    ///
    /// # Errors
    /// When it dies.
    pub fn say(&mut self, room: usize, draft: EventDraft, step: &mut Step<'_>) -> Result<Option<OwnedEventId>, Killed> {
        let Some(held) = self.disk.rooms.get(&room) else { return Ok(None) };
        let pdu = held.build(draft, &step.fixed.people[self.index]);
        let verdict = held.verdict(&pdu);
        if !matches!(verdict, Verdict::Append(_)) {
            return Ok(None);
        }
        step.fate.step()?;
        self.write(room, &pdu, &verdict, BTreeSet::from([self.index]), step);
        step.stats.events += 1;
        let id = pdu.owned_event_id();
        step.trace.note(step.now, format_args!("{} says {id} in {room}", self.index));
        Ok(Some(id))
    }

    /// After what was said: a step of its own, because the answer to the client is given between them.
    ///
    /// # Errors
    /// When it dies.
    pub fn tell(&mut self, step: &mut Step<'_>) -> Result<(), Killed> {
        step.fate.step()?;
        self.post_all(step)?;
        self.set_wake(step);
        Ok(())
    }

    /// The user sends a to-device message.
    ///
    /// # Errors
    /// When it dies.
    pub fn send_to_device(&mut self, peer: usize, message: u64, step: &mut Step<'_>) -> Result<(), Killed> {
        step.fate.step()?;
        self.disk.owe(peer, Owed::ToDevice(message));
        step.stats.messages += 1;
        step.trace.note(step.now, format_args!("{} -> {peer}: message {message:x}", self.index));
        Ok(())
    }

    /// Works off what is staged.
    ///
    /// # Errors
    /// When it dies.
    pub fn work(&mut self, step: &mut Step<'_>) -> Result<(), Killed> {
        let mut any = false;
        while let Some((position, staged)) = self.disk.staged.first_key_value() {
            let (position, staged) = (*position, staged.clone());
            step.fate.step()?;
            match staged.item {
                Item::Transaction { via, body } => {
                    let via = via.iter().filter_map(|name| step.fixed.names.get(name).copied()).collect();
                    self.transaction(staged.from, &via, &body, step);
                }
                Item::ToDevice { body, .. } => self.take_message(staged.from, &body),
                Item::Request(request) => self.enter(staged.from, &request.body, step),
                _ => {}
            }
            self.disk.staged.remove(&position);
            any = true;
            step.fate.step()?;
        }
        if any {
            self.post_all(step)?;
        }
        Ok(())
    }

    /// The user invites somebody; the room goes along, as far as a liar tells it.
    ///
    /// # Errors
    /// When it dies.
    pub fn invite(&mut self, to: usize, room: usize, draft: EventDraft, step: &mut Step<'_>) -> Result<bool, Killed> {
        let Some(held) = self.disk.rooms.get(&room) else { return Ok(false) };
        let invite = held.build(draft, &step.fixed.people[self.index]);
        let verdict = held.verdict(&invite);
        if !matches!(verdict, Verdict::Append(_)) {
            return Ok(false);
        }
        let snapshot = held.snapshot(room, &invite, self.byzantine.then_some(&mut self.rng));
        step.fate.step()?;
        step.trace.note(step.now, format_args!("{} invites {to} to {room} by {}", self.index, invite.event_id()));
        self.write(room, &invite, &verdict, BTreeSet::from([self.index, to]), step);
        self.disk.owe(to, Owed::Invite(snapshot));
        Ok(true)
    }

    /// An invite has come with its room: the user goes in, and everybody with a link is told.
    fn enter(&mut self, from: usize, body: &[u8], step: &mut Step<'_>) {
        let Ok(snapshot) = serde_json::from_slice::<Snapshot>(body) else { return };
        let number = snapshot.room;
        if self.disk.rooms.contains_key(&number) {
            return;
        }
        let rules = step.checks.rules();
        let Some(room) = Room::enter(&snapshot, rules, step.checks) else { return };
        let person = &step.fixed.people[self.index];
        let now = self.clock(step.now).0;
        let join = room.build(member(&person.user, &person.user, "join", now), person);
        let verdict = room.verdict(&join);
        if !matches!(verdict, Verdict::Append(_)) {
            return;
        }
        step.trace.note(step.now, format_args!("{} enters {number} by {}", self.index, join.event_id()));
        self.disk.rooms.insert(number, room);
        self.disk.told_by.insert(number, from);
        self.write(number, &join, &verdict, BTreeSet::from([self.index]), step);
    }

    fn take_message(&mut self, from: usize, body: &[u8]) {
        let Ok(edu) = serde_json::from_slice::<Edu>(body) else { return };
        let Ok(message) = u64::from_str_radix(&edu.content.message_id, 16) else { return };
        if self.disk.taken.insert((from, message)) {
            self.disk.device.push((from, message));
        }
    }

    fn transaction(&mut self, from: usize, via: &BTreeSet<usize>, body: &[u8], step: &mut Step<'_>) {
        let Ok(transaction) = serde_json::from_slice::<Transaction>(body) else { return };
        let coming = |pdu: Box<RawValue>| Coming { from, via: via.clone(), json: pdu.get().to_owned() };
        let mut coming: Vec<Coming> = transaction.pdus.into_iter().map(coming).collect();
        coming.reverse();
        while let Some(next) = coming.pop() {
            coming.extend(self.receive(next, step));
        }
    }

    /// Judges an event and writes the verdict; gives back what waited for it.
    fn receive(&mut self, coming: Coming, step: &mut Step<'_>) -> Vec<Coming> {
        let Some(pdu) = step.checks.check(&coming.json) else { return Vec::new() };
        let Some(room) = step.fixed.rooms.get(pdu.room_id()).copied() else { return Vec::new() };
        let Some(held) = self.disk.rooms.get(&room) else { return Vec::new() };
        let verdict = held.verdict(&pdu);
        if let Verdict::Park(missing) = verdict {
            step.stats.parked += 1;
            let missing = missing.prev_events.into_iter().chain(missing.auth_events).collect();
            let parked = Parked { from: coming.from, json: coming.json, missing };
            self.disk.parked.entry((room, pdu.owned_event_id())).or_insert(parked);
            return Vec::new();
        }
        let mut served = coming.via;
        served.extend([coming.from, self.index]);
        served.extend(step.fixed.people.iter().position(|person| *person.user == *pdu.sender()));
        self.write(room, &pdu, &verdict, served, step);
        let waiting = self.disk.wake(room, &pdu.owned_event_id());
        let coming = |parked: Parked| Coming { from: parked.from, via: BTreeSet::new(), json: parked.json };
        waiting.into_iter().map(coming).collect()
    }

    fn write(
        &mut self,
        room: usize,
        pdu: &CheckedPdu,
        verdict: &Verdict,
        served: BTreeSet<usize>,
        step: &mut Step<'_>,
    ) {
        let Some(held) = self.disk.rooms.get_mut(&room) else { return };
        let applied = held.apply(pdu, verdict);
        if applied != Applied::Duplicate {
            step.stats.received += 1;
            step.trace.note(step.now, format_args!("{} {applied:?} {}", self.index, pdu.event_id()));
        }
        let silent = self.byzantine && served.len() > 1;
        let goes_on = match applied {
            Applied::Appended => true,
            Applied::SoftFailed => held.is_joined(pdu.sender()) && self.may_pass_on(room, pdu.sender(), step.now),
            Applied::Rejected | Applied::Duplicate => false,
        };
        if !goes_on || silent {
            return;
        }
        let position = self.disk.next_position();
        self.disk.written.insert(pdu.owned_event_id(), position);
        let members = &step.fixed.members[room];
        let owed = |peer: &&usize| members.contains(*peer) && !served.contains(*peer);
        let linked: Vec<usize> = self.disk.links.keys().filter(owed).copied().collect();
        for peer in linked {
            self.disk.owe(peer, Owed::Pdu(room, pdu.owned_event_id()));
        }
    }

    /// Whether one more soft-failed event of a sender is passed on today.
    fn may_pass_on(&mut self, room: usize, sender: &UserId, now: u64) -> bool {
        let today = self.clock(now).0 / DAY;
        let (day, count) = self.disk.passed_on.entry((room, sender.to_owned())).or_insert((today, 0));
        if *day != today {
            (*day, *count) = (today, 0);
        }
        *count += 1;
        *count <= MOST_A_DAY
    }

    /// What is missing here, of what parked events wait for.
    #[must_use]
    pub fn gaps(&self, room: usize) -> BTreeSet<OwnedEventId> {
        let of_room = self.disk.parked.iter().filter(|((of, _), _)| *of == room);
        of_room
            .flat_map(|(_, parked)| &parked.missing)
            .filter(|id| !self.disk.parked.contains_key(&(room, (*id).clone())))
            .cloned()
            .collect()
    }
}

/// Soft-failed events of one server that are passed on in one room and day, as in `node/src/rooms/apply/soft_failed.rs`.
const MOST_A_DAY: u64 = 256;
