//! The beginning: nodes with mailboxes, links by the whole first contact, stamps over the first stream, rooms in which all have joined.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use millpond_mailbox::{
    link::Link,
    schedule::Mode,
    session::{InEvent, MapRows, OutEvent, Session},
    time::UnixMillis,
};
use millpond_matrix::{
    Verdict,
    build::{self, Signer},
    create_room::{self, NewRoom},
    rules,
};
use ruma::{
    CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedRoomId, RoomVersionId, UInt,
    api::client::room::create_room::v3::RoomPreset,
};
use serde_json::json;

use super::{Happening, World, acts::NEWCOMER};
use crate::sim::{
    checks::Checks,
    fate::Fate,
    host::{MailHost, Temper},
    ledger::Ledger,
    node::{Fixed, Node, member},
    people::{Person, linked, public_keys},
    plan::{DAY, HOUR, Plan},
    random::SimRng,
    room::Room,
    stats::Stats,
    trace::Trace,
};

/// 2027-01-15T00:00:00Z, in milliseconds.
pub const START: u64 = 1_799_971_200_000;

impl World {
    /// The world of a plan, before anything has happened.
    #[must_use]
    pub fn new(plan: Plan, aloud: bool) -> Self {
        let mut rng = SimRng::new(plan.seed.wrapping_add(1) << 8);
        let people: Vec<Person> = (0..plan.nodes).map(|_| Person::new(&mut rng)).collect();
        let members = members(&plan, &mut rng);
        let rooms: Vec<Room> =
            members.iter().enumerate().map(|(number, of)| room(number, of, &people, plan.faults.newcomer)).collect();
        let hosts = hosts(&plan, &mut rng);
        let mut nodes: Vec<Node> = (0..plan.nodes).map(|index| node(index, &plan, &mut rng)).collect();
        for (number, (room, of)) in rooms.iter().zip(&members).enumerate() {
            of.iter().for_each(|member| drop(nodes[*member].disk.rooms.insert(number, room.clone())));
        }
        if plan.faults.newcomer {
            nodes[NEWCOMER].disk.rooms.remove(&0);
        }
        let fate = Fate::new(rng.fork(), plan.faults.kill, plan.faults.disk);
        let ids = rooms.iter().map(|room| room.room_id().clone());
        let fixed = Fixed {
            names: people.iter().enumerate().map(|(index, person)| (person.name(), index)).collect(),
            rooms: ids.enumerate().map(|(number, id): (usize, OwnedRoomId)| (id, number)).collect(),
            members,
            hosts: hosts.iter().map(|host| host.key).collect(),
            lazy: plan.faults.lazy,
            people,
        };
        let rules = rules::rules(&RoomVersionId::V12).expect("version 12 is supported");
        let checks = Checks::new(rules, public_keys(&fixed.people));
        let mut world = Self {
            plan,
            now: START,
            nodes,
            hosts,
            ledger: Ledger::default(),
            trace: Trace::new(aloud),
            stats: Stats::default(),
            queue: BTreeMap::new(),
            next: 0,
            checks,
            fate,
            rng: rng.fork(),
            owners: HashMap::new(),
            cuts: BTreeMap::new(),
            away: BTreeMap::new(),
            backups: BTreeMap::new(),
            healed: None,
            fixed,
        };
        world.open_mailboxes();
        world.link_all(&mut rng);
        world.schedule();
        world
    }

    fn open_mailboxes(&mut self) {
        for node in 0..self.nodes.len() {
            for host in self.nodes[node].hosts.clone() {
                for recovery in [false, true] {
                    self.nodes[node].open_mailbox(host, &mut self.hosts[host], recovery, self.now);
                }
            }
            self.owners.extend(self.nodes[node].disk.mailboxes.keys().map(|id| (*id, node)));
        }
    }

    /// A ring holds all together, also without the Byzantine one; some more links make it wide.
    fn link_all(&mut self, rng: &mut SimRng) {
        let count = self.nodes.len();
        let honest = if self.plan.faults.byzantine_member { count - 1 } else { count };
        let mut pairs: BTreeSet<(usize, usize)> = BTreeSet::new();
        for node in 0..honest {
            pairs.insert(ordered(node, (node + 1) % honest));
        }
        for node in 0..count {
            for _ in 0..self.plan.links {
                pairs.insert(ordered(node, rng.index(count)));
            }
            // The Byzantine one is well connected.
            if node >= honest {
                pairs.extend((0..3).map(|_| ordered(node, rng.index(honest))));
            }
        }
        pairs.retain(|(one, other)| one != other);
        for (one, other) in pairs {
            self.link(one, other, rng);
        }
        for node in 0..count {
            self.step(node, Node::start);
        }
    }

    fn link(&mut self, one: usize, other: usize, rng: &mut SimRng) {
        let people = &self.fixed.people;
        let links = linked(&people[one], &people[other], UnixMillis(self.now), rng);
        self.take_links((one, other), links);
    }

    /// Both sides of a new link, with stamps as over its first stream.
    pub(super) fn take_links(&mut self, (one, other): (usize, usize), (at_one, at_other): (Link, Link)) {
        let people = &self.fixed.people;
        for (node, peer, mut link) in [(one, other, at_one), (other, one, at_other)] {
            let rows = begin(&mut link, &people[node], self.nodes[node].clock(self.now));
            self.nodes[node].disk.sessions.insert(peer, rows);
            let since = self.nodes[node].disk.next_position();
            self.nodes[node].disk.links.insert(peer, since);
        }
        // As over a stream of the link, in one go on both sides.
        for (from, to) in [(one, other), (other, one)] {
            let grants = self.nodes[from].first_stamps(to);
            self.nodes[from].prepare(to, InEvent::GivenStamps(grants.clone()), &self.fixed, self.now);
            self.nodes[to].prepare(from, InEvent::PeerStamps(grants), &self.fixed, self.now);
        }
    }

    fn schedule(&mut self) {
        let plan = self.plan.clone();
        let end = START + plan.days * DAY;
        for node in 0..plan.nodes {
            let first = START + self.rng.below(4 * HOUR);
            self.at(first, Happening::Look { node });
        }
        self.at(START + DAY, Happening::Day);
        self.at(end, Happening::Heal);
        self.plan_acts(end);
        self.plan_faults(end);
    }
}

fn begin(link: &mut Link, person: &Person, now: UnixMillis) -> MapRows {
    let session = Session::begin(link, &person.name(), Vec::new(), now).expect("an established link");
    let mut rows = MapRows::default();
    if let OutEvent::Persist(commit) = session.first_commit() {
        rows.apply(&commit);
    }
    rows
}

fn ordered(one: usize, other: usize) -> (usize, usize) {
    (one.min(other), one.max(other))
}

fn members(plan: &Plan, rng: &mut SimRng) -> Vec<BTreeSet<usize>> {
    let mut members = vec![(0..plan.nodes).collect::<BTreeSet<usize>>()];
    for _ in 1..plan.rooms {
        // Neighbours in the ring, so that those who are in it can reach each other.
        let (first, len) = (rng.index(plan.nodes), plan.nodes.div_ceil(2).max(2));
        let honest = if plan.faults.byzantine_member { plan.nodes - 1 } else { plan.nodes };
        members.push((first..first + len).map(|member| member % honest).collect());
    }
    members
}

fn hosts(plan: &Plan, rng: &mut SimRng) -> Vec<MailHost> {
    let host = |number: usize| {
        let byzantine = plan.faults.byzantine_host && number + 1 == plan.hosts;
        let temper = byzantine.then(|| Temper::draw(rng));
        MailHost::new(u8::try_from(number + 1).unwrap_or(u8::MAX), rng.fork(), temper)
    };
    (0..plan.hosts).map(host).collect()
}

fn node(index: usize, plan: &Plan, rng: &mut SimRng) -> Node {
    let first = rng.index(plan.hosts);
    let second = (first + 1 + rng.index(plan.hosts.saturating_sub(1).max(1))) % plan.hosts;
    let hosts = if first == second { vec![first] } else { vec![first, second] };
    let mode = match rng.below(4) {
        0 => Mode::Instant,
        1 => Mode::Paced { mains: true },
        _ => Mode::Paced { mains: false },
    };
    let most = plan.faults.skew;
    let skew = i64::try_from(rng.below(2 * most + 1)).unwrap_or(0) - i64::try_from(most).unwrap_or(0);
    let mut node = Node::new(index, hosts, mode, skew, rng.fork());
    node.byzantine = plan.faults.byzantine_member && index + 1 == plan.nodes;
    node
}

/// A public room in which everybody has joined, and may set what is not reserved.
fn room(number: usize, members: &BTreeSet<usize>, people: &[Person], newcomer: bool) -> Room {
    let rules = rules::rules(&RoomVersionId::V12).expect("version 12 is supported");
    let creator = &people[members.first().copied().unwrap_or(0)];
    let made = START - DAY + number as u64;
    let asked = NewRoom {
        creator: creator.user.clone(),
        creator_profile: CanonicalJsonObject::new(),
        preset: RoomPreset::PublicChat,
        creation_content: content(&json!({"org.millpond.federation": "overlay"})),
        power_levels: content(&json!({"state_default": 0})),
        alias: None,
        initial_state: Vec::new(),
        name: None,
        topic: None,
        invite: Vec::new(),
        is_direct: false,
        now: timestamp(made),
    };
    let signer = Signer { server: &creator.server, key: &creator.key };
    let placeholder: OwnedRoomId = "!unused:example.org".try_into().expect("a room id");
    let plan = create_room::plan(rules, asked).expect("a room that can be made");
    let events = create_room::sign(rules, &placeholder, plan, &signer).expect("events that can be signed");
    let mut room = Room::new(rules, events[0].room_id().to_owned());
    for event in &events {
        let verdict = room.verdict(event);
        room.apply(event, &verdict);
    }
    let others = members
        .iter()
        .filter(|member| !(number == 0 && newcomer && **member == NEWCOMER))
        .map(|member| &people[*member])
        .filter(|person| person.user != creator.user);
    for (count, person) in others.enumerate() {
        let draft = member(&person.user, &person.user, "join", made + 10 + count as u64);
        let event = room.build(draft, person);
        let verdict = room.verdict(&event);
        assert!(matches!(verdict, Verdict::Append(_)), "everybody may join: {verdict:?}");
        room.apply(&event, &verdict);
    }
    room
}

pub(super) fn content(value: &serde_json::Value) -> CanonicalJsonObject {
    build::content(value.to_string().as_bytes()).expect("content of an event")
}

pub(super) fn timestamp(ms: u64) -> MilliSecondsSinceUnixEpoch {
    MilliSecondsSinceUnixEpoch(UInt::new_saturating(ms))
}
