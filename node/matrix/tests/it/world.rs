//! Servers with real keys, and a room in memory that stores what `decide` says: the smallest complete user of the
//! crate.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use millpond_matrix::{
    CheckedPdu, Pdu, PduFlags, ReadError, RoomReader, RoomRules, StateGroup, StateMap, Verdict,
    build::{self, EventDraft, Parents, Signer},
    check::RawPdu,
    create_room::{self, NewRoom},
    decide::{Given, Placement, StateSource, decide},
    rules,
    state::{self, Resolution},
};
use ruma::{
    CanonicalJsonObject, EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId,
    RoomVersionId, ServerName, UInt, UserId,
    api::client::room::create_room::v3::RoomPreset,
    events::StateEventType,
    serde::Base64,
    signatures::{Ed25519KeyPair, PublicKeyMap, PublicKeySet},
};
use serde_json::{Value, json};

/// A server with a key that depends on nothing but its name.
pub struct Server {
    pub name: OwnedServerName,
    pub key: Ed25519KeyPair,
}

impl Server {
    pub fn new(name: &str) -> Self {
        // PKCS#8 version 1 around a 32-byte Ed25519 seed.
        let mut der =
            vec![0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
        der.extend(name.bytes().cycle().take(32));
        Self { name: ServerName::parse(name).unwrap(), key: Ed25519KeyPair::from_der(&der, "1".to_owned()).unwrap() }
    }

    pub fn signer(&self) -> Signer<'_> {
        Signer { server: &self.name, key: &self.key }
    }
}

/// The server of a user, made on the spot.
pub fn server_of(user: &UserId) -> Server {
    Server::new(user.server_name().as_str())
}

/// The public keys of these servers.
pub fn keys(servers: &[&Server]) -> PublicKeyMap {
    let set =
        |server: &Server| PublicKeySet::from([("ed25519:1".to_owned(), Base64::new(server.key.public_key().to_vec()))]);
    servers.iter().map(|server| (server.name.to_string(), set(server))).collect()
}

pub fn user(name: &str) -> OwnedUserId {
    UserId::parse(format!("@{name}:{name}.example")).unwrap()
}

pub fn content(value: &Value) -> CanonicalJsonObject {
    build::content(value.to_string().as_bytes()).unwrap()
}

pub fn ts(ms: u32) -> MilliSecondsSinceUnixEpoch {
    MilliSecondsSinceUnixEpoch(UInt::from(ms))
}

/// A message draft.
pub fn message(sender: &UserId, body: &str, at: u32) -> EventDraft {
    let content = content(&json!({"msgtype": "m.text", "body": body}));
    EventDraft::new("m.room.message".into(), content, sender.to_owned(), ts(at))
}

/// A state draft.
pub fn state_event(sender: &UserId, kind: &str, key: &str, value: &Value, at: u32) -> EventDraft {
    EventDraft {
        state_key: Some(key.to_owned()),
        ..EventDraft::new(kind.into(), content(value), sender.to_owned(), ts(at))
    }
}

pub fn member(sender: &UserId, target: &UserId, membership: &str, at: u32) -> EventDraft {
    state_event(sender, "m.room.member", target.as_str(), &json!({"membership": membership}), at)
}

/// Signs a draft at a given place.
pub fn sign_at(rules: &RoomRules, room_id: Option<&ruma::RoomId>, draft: EventDraft, parents: Parents) -> CheckedPdu {
    let server = server_of(&draft.sender);
    build::sign(rules, room_id, draft, parents, &server.signer()).unwrap()
}

/// What a `createRoom` of `@alice:alice.example` with this preset asks for.
pub fn new_room(preset: RoomPreset) -> NewRoom {
    NewRoom {
        creator: user("alice"),
        creator_profile: content(&json!({"displayname": "Alice"})),
        preset,
        creation_content: CanonicalJsonObject::new(),
        power_levels: CanonicalJsonObject::new(),
        alias: None,
        initial_state: Vec::new(),
        name: None,
        topic: None,
        invite: Vec::new(),
        is_direct: false,
        now: ts(1),
    }
}

/// The signed first events of a room.
pub fn first_events(version: &RoomVersionId, room: NewRoom) -> Vec<CheckedPdu> {
    let rules = rules::rules(version).unwrap();
    let alice = Server::new("alice.example");
    let room_id: OwnedRoomId = "!room:alice.example".try_into().unwrap();
    create_room::sign(rules, &room_id, create_room::plan(rules, room).unwrap(), &alice.signer()).unwrap()
}

/// One server's view of one room.
pub struct Room {
    pub rules: &'static RoomRules,
    pub room_id: OwnedRoomId,
    pub events: HashMap<OwnedEventId, Arc<Pdu>>,
    pub after: HashMap<OwnedEventId, StateGroup>,
    pub states: Vec<Arc<StateMap>>,
    pub extremities: BTreeSet<OwnedEventId>,
    pub current: Option<StateGroup>,
    pub parked: Vec<CheckedPdu>,
    pub timeline: Vec<OwnedEventId>,
    /// Reads that still succeed; `None` for all of them.
    pub reads_left: Cell<Option<usize>>,
}

impl Room {
    pub fn new(version: &RoomVersionId, room_id: OwnedRoomId) -> Self {
        Self {
            rules: rules::rules(version).unwrap(),
            room_id,
            events: HashMap::new(),
            after: HashMap::new(),
            states: Vec::new(),
            extremities: BTreeSet::new(),
            current: None,
            parked: Vec::new(),
            timeline: Vec::new(),
            reads_left: Cell::new(None),
        }
    }

    /// A public room of alice's in which these users joined.
    pub fn public(version: &RoomVersionId, joined: &[&str]) -> Self {
        let mut asked = new_room(RoomPreset::PublicChat);
        // Everybody may do what state resolution is about; the scenarios take it away again.
        asked.power_levels = content(&json!({"state_default": 0}));
        let events = first_events(version, asked);
        let mut room = Self::new(version, events[0].room_id().to_owned());
        events.iter().for_each(|event| room.accept(event));
        for (n, name) in joined.iter().enumerate() {
            let user = user(name);
            room.send(member(&user, &user, "join", 100 + u32::try_from(n).unwrap()));
        }
        room
    }

    /// A second server with the same history.
    pub fn replica(&self) -> Self {
        let mut other = Self::new(&self.rules.version, self.room_id.clone());
        for id in &self.timeline {
            other.accept(&self.checked(id));
        }
        other
    }

    /// Builds, signs, decides and stores an event of a user.
    pub fn send(&mut self, draft: EventDraft) -> CheckedPdu {
        let server = server_of(&draft.sender);
        let pdu = build::next(self, self.rules, &self.room_id, draft, &server.signer()).unwrap();
        self.accept(&pdu);
        pdu
    }

    /// Receives an event that must be appended.
    pub fn accept(&mut self, pdu: &CheckedPdu) {
        let verdict = self.receive(pdu);
        assert!(matches!(verdict, Verdict::Append(_)), "{} {}: {verdict:?}", pdu.kind(), pdu.json());
    }

    /// Receives an event, and then those that waited for it.
    pub fn receive(&mut self, pdu: &CheckedPdu) -> Verdict {
        let verdict = self.receive_one(pdu);
        if matches!(verdict, Verdict::Park(_)) {
            if self.parked.iter().all(|parked| parked.event_id() != pdu.event_id()) {
                self.parked.push(pdu.clone());
            }
            return verdict;
        }
        let mut progress = true;
        while progress {
            progress = false;
            for parked in std::mem::take(&mut self.parked) {
                match self.receive_one(&parked) {
                    Verdict::Park(_) => self.parked.push(parked),
                    _ => progress = true,
                }
            }
        }
        verdict
    }

    fn receive_one(&mut self, pdu: &CheckedPdu) -> Verdict {
        let verdict = self.verdict(pdu).unwrap();
        self.store(pdu, &verdict);
        verdict
    }

    /// What `decide` says once everything it asks for is resolved.
    pub fn verdict(&self, pdu: &CheckedPdu) -> Result<Verdict, ReadError> {
        let mut resolutions: Vec<Resolution> = Vec::new();
        loop {
            let given = Given { resolutions: &resolutions, ..Given::default() };
            match decide(pdu, self, self.rules, &given)? {
                Verdict::Resolve(sets) => resolutions.push(state::resolve(self, self.rules, sets, Some(pdu)).unwrap()),
                verdict => return Ok(verdict),
            }
        }
    }

    fn store(&mut self, pdu: &CheckedPdu, verdict: &Verdict) {
        match verdict {
            Verdict::Append(append) => {
                self.place(pdu, &append.placement, verdict.flags());
                self.extremities = append.extremities.iter().cloned().collect();
                self.timeline.push(pdu.owned_event_id());
                if let Some(current) = &append.current {
                    let before = self.current_map();
                    self.current = Some(self.group(&current.to, pdu.event_id()));
                    assert_eq!(current.changes, millpond_matrix::decide::changes(&before, &self.current_map()));
                }
            }
            Verdict::SoftFail { placement, .. } | Verdict::Reject { placement, .. } => {
                self.place(pdu, placement, verdict.flags());
            }
            Verdict::Park(_) | Verdict::Duplicate => {}
            Verdict::Resolve(_) => unreachable!("resolved before"),
        }
    }

    fn place(&mut self, pdu: &CheckedPdu, placement: &Placement, flags: PduFlags) {
        let before = self.group(&placement.before, pdu.event_id());
        let after = match &placement.sets {
            None => before,
            Some(key) => {
                let mut state = StateMap::clone(&self.states[before.0 as usize]);
                state.insert(key.clone(), pdu.owned_event_id());
                self.new_group(Arc::new(state))
            }
        };
        self.events.insert(pdu.owned_event_id(), pdu.with_flags(flags));
        self.after.insert(pdu.owned_event_id(), after);
    }

    fn group(&mut self, source: &StateSource, this: &EventId) -> StateGroup {
        match source {
            StateSource::Empty => self.new_group(Arc::default()),
            StateSource::Group(group) => *group,
            StateSource::Map { state, .. } => self.new_group(state.clone()),
            StateSource::AfterThis => self.after[this],
        }
    }

    fn new_group(&mut self, state: Arc<StateMap>) -> StateGroup {
        self.states.push(state);
        StateGroup(self.states.len() as u64 - 1)
    }

    pub fn current_map(&self) -> StateMap {
        self.current.map(|group| StateMap::clone(&self.states[group.0 as usize])).unwrap_or_default()
    }

    /// The event that holds an entry of the current state.
    pub fn entry(&self, kind: &str, key: &str) -> Option<Arc<Pdu>> {
        let id = self.current_map().get(&(kind.into(), key.to_owned())).cloned()?;
        Some(self.events[&id].clone())
    }

    /// A stored event as it would arrive from another server.
    pub fn checked(&self, id: &EventId) -> CheckedPdu {
        let pdu = &self.events[id];
        let server = server_of(pdu.sender());
        RawPdu::parse(pdu.json()).unwrap().check(self.rules, &keys(&[&server])).unwrap()
    }

    /// Everything that must not depend on the order of arrival.
    pub fn outcome(&self) -> Outcome {
        let sorted =
            |state: &StateMap| state.iter().map(|(key, id)| (key.clone(), id.clone())).collect::<BTreeMap<_, _>>();
        Outcome {
            current: sorted(&self.current_map()),
            extremities: self.extremities.clone(),
            rejected: self.flagged(|flags| flags.rejected),
            after: self.after.iter().map(|(id, group)| (id.clone(), sorted(&self.states[group.0 as usize]))).collect(),
        }
    }

    pub fn flagged(&self, flag: impl Fn(PduFlags) -> bool) -> BTreeSet<OwnedEventId> {
        self.events.values().filter(|pdu| flag(pdu.flags())).map(|pdu| pdu.owned_event_id()).collect()
    }

    fn read<T>(&self, value: T) -> Result<T, ReadError> {
        match self.reads_left.get() {
            Some(0) => Err(ReadError::new("the disk is on fire")),
            left => {
                self.reads_left.set(left.map(|left| left - 1));
                Ok(value)
            }
        }
    }
}

/// See [`Room::outcome`].
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub current: BTreeMap<(StateEventType, String), OwnedEventId>,
    pub extremities: BTreeSet<OwnedEventId>,
    pub rejected: BTreeSet<OwnedEventId>,
    pub after: BTreeMap<OwnedEventId, BTreeMap<(StateEventType, String), OwnedEventId>>,
}

impl RoomReader for Room {
    fn pdu(&self, id: &EventId) -> Result<Option<Arc<Pdu>>, ReadError> {
        self.read(self.events.get(id).cloned())
    }

    fn state_after(&self, id: &EventId) -> Result<Option<StateGroup>, ReadError> {
        self.read(self.after.get(id).copied())
    }

    fn state_entry(
        &self,
        group: StateGroup,
        kind: &StateEventType,
        key: &str,
    ) -> Result<Option<OwnedEventId>, ReadError> {
        self.read(self.states[group.0 as usize].get(&(kind.clone(), key.to_owned())).cloned())
    }

    fn state(&self, group: StateGroup) -> Result<Arc<StateMap>, ReadError> {
        self.read(self.states[group.0 as usize].clone())
    }

    fn current_state(&self) -> Result<Option<StateGroup>, ReadError> {
        self.read(self.current)
    }

    fn extremities(&self) -> Result<Vec<OwnedEventId>, ReadError> {
        self.read(self.extremities.iter().cloned().collect())
    }

    fn has_successors(&self, id: &EventId) -> Result<bool, ReadError> {
        let accepted = |pdu: &&Arc<Pdu>| pdu.flags() == PduFlags::default() && self.after.contains_key(pdu.event_id());
        self.read(self.events.values().filter(accepted).any(|pdu| pdu.prev_events().iter().any(|prev| prev == id)))
    }
}
