//! What the node answered, and when: after which sync of its disk.

use std::collections::BTreeMap;

use millpond_node::{NodeHandle, rooms::rows};
use millpond_store::{View, rows::OutboxItem, tables};
use ruma::{OwnedDeviceId, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId};
use sha2::{Digest, Sha256};

/// Something that a user or a peer can see.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seen {
    /// The account is there.
    Account(OwnedUserId),
    /// Whom an access token stands for.
    Token(String),
    /// The content of account data.
    AccountData(OwnedUserId, String),
    /// The event is in its room's timeline.
    Event(OwnedEventId),
    /// The redaction of an event.
    RedactedBy(OwnedEventId),
    /// The event of the current state.
    State(OwnedRoomId, String, String),
    /// Where a user has read to.
    Receipt(OwnedRoomId, OwnedUserId),
    /// How many to-device messages wait.
    ToDevice(OwnedUserId, OwnedDeviceId),
    /// The events and messages owed to a server, in their order.
    Outbox(OwnedServerName),
    /// A peer's PDU is staged or stored.
    Taken(OwnedEventId),
}

/// What the node answered to one request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The syncs that were done by then.
    pub syncs: usize,
    /// The request.
    pub request: String,
    /// What is to be seen from now on.
    pub seen: Vec<(Seen, String)>,
}

/// All answers, in their order.
#[derive(Clone, Debug, Default)]
pub struct Book {
    /// The answers.
    pub answers: Vec<Answer>,
}

impl Book {
    /// What is wrong with a node that was opened after the power went at `syncs`. Of the request that was cut off, which
    /// was not answered, all or nothing may be there.
    pub fn faults(&self, syncs: usize, node: &NodeHandle) -> Vec<String> {
        let snapshot = node.core.snapshot().unwrap();
        let view = snapshot.view();
        let mut faults = millpond_store::check::check(view).unwrap().findings;
        let answered = self.answers.partition_point(|answer| answer.syncs <= syncs);
        let mut expected: BTreeMap<&Seen, (&str, &Answer)> = BTreeMap::new();
        for answer in &self.answers[..answered] {
            expected.extend(answer.seen.iter().map(|(seen, value)| (seen, (value.as_str(), answer))));
        }
        let cut_off = self.answers.get(answered);
        for (seen, (value, answer)) in expected {
            let found = look(view, seen);
            let may_be = cut_off.into_iter().flat_map(|cut| &cut.seen).find(|(other, _)| other == seen);
            if found != value && may_be.is_none_or(|(_, value)| found != *value) {
                faults.push(format!("{seen:?} is `{found}`; `{value}` was answered to: {}", answer.request));
            }
        }
        for row in view.scan(tables::TIMELINE, ()).unwrap() {
            let event = rows::event(view, row.unwrap().1).unwrap();
            if event.json.contains(REFUSED) {
                faults.push(format!("{} was refused and is there", event.header.event_id));
            }
        }
        faults
    }
}

/// In the content of every event that the node must refuse.
pub const REFUSED: &str = "this must be refused";

/// What is to be seen, as text.
pub fn look(view: View<'_>, seen: &Seen) -> String {
    match seen {
        Seen::Account(user) => view.contains(tables::ACCOUNTS, &**user).unwrap().to_string(),
        Seen::Token(token) => {
            let hash: [u8; 32] = Sha256::digest(token).into();
            view.get(tables::TOKENS, hash).unwrap().map_or(NONE.to_owned(), |owner| owner.user_id.to_string())
        }
        Seen::AccountData(user, kind) => {
            let row = view.get(tables::ACCOUNT_DATA, (&**user, "", kind.as_str())).unwrap();
            row.map_or(NONE.to_owned(), |row| row.content)
        }
        Seen::Event(id) => {
            let row = rows::event_by_id(view, id).unwrap();
            row.is_some_and(|(_, row)| row.meta.position.is_some()).to_string()
        }
        Seen::RedactedBy(id) => {
            let by = rows::event_by_id(view, id).unwrap().and_then(|(_, row)| row.meta.redacted_by);
            by.map_or(NONE.to_owned(), |by| rows::event_id(view, by).unwrap().to_string())
        }
        Seen::State(room, kind, state_key) => {
            let short = rows::room_short(view, room).unwrap();
            let key = short.map(|short| (short, kind.as_str(), state_key.as_str()));
            let event = key.and_then(|key| view.get(tables::ROOM_STATE, key).unwrap());
            event.map_or(NONE.to_owned(), |event| rows::event_id(view, event).unwrap().to_string())
        }
        Seen::Receipt(room, user) => {
            let short = rows::room_short(view, room).unwrap();
            let key = short.map(|short| (short, &**user, "m.read", ""));
            let receipt = key.and_then(|key| view.get(tables::RECEIPTS, key).unwrap());
            receipt.map_or(NONE.to_owned(), |receipt| receipt.event_id.to_string())
        }
        Seen::ToDevice(user, device) => view.scan(tables::TO_DEVICE, (&**user, &**device)).unwrap().count().to_string(),
        Seen::Outbox(server) => owed(view, server).join(" "),
        Seen::Taken(id) => {
            let stored = rows::event_by_id(view, id).unwrap().is_some();
            let staged = |json: &str| crate::peer::event_id(json) == *id;
            let staged = view.scan(tables::INBOX, ()).unwrap().any(|row| staged(&row.unwrap().1.json));
            (stored || staged).to_string()
        }
    }
}

fn owed(view: View<'_>, server: &ruma::ServerName) -> Vec<String> {
    let rows = view.scan(tables::OUTBOX, (server,)).unwrap();
    rows.map(|row| match row.unwrap().1 {
        OutboxItem::Pdu(event) | OutboxItem::Invite(event) => rows::event_id(view, event).unwrap().to_string(),
        OutboxItem::Edu(_) => "edu".to_owned(),
        OutboxItem::Response(_) => "response".to_owned(),
        OutboxItem::Question => "question".to_owned(),
    })
    .collect()
}

/// Nothing is to be seen.
pub const NONE: &str = "none";
