//! A file of layout 1, written by hand as that program wrote it, comes through the migration with all that it held.

use std::path::Path;

use millpond_store::{
    Store, check,
    rows::{
        EventShort, ParkedPdu, Relation, Room, RoomShort, StagedPdu, StateGroup, StateGroupRow, StateKeyName,
        StateKeyShort, txn_key,
    },
    tables,
    value::Value,
};
use redb::TableDefinition;
use ruma::{EventId, OwnedEventId, device_id, event_id, owned_room_id, room_id, server_name, user_id};

use crate::support::{inline, value};

type Row = (&'static str, Vec<u8>, Vec<u8>);

const ROOM: RoomShort = RoomShort(1);

/// A string as a key: its bytes, then `00 01`.
fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0, 1]].concat()
}

fn number(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

/// An event's row: `1 | five numbers | txn | header | JSON`.
fn event(id: &str, position: i64, group: u64, txn: &str, json: &str) -> Vec<u8> {
    let mut header = vec![1, 0];
    for place in [0_u16, 3, 4, 7, 8, 10, 0, 0, 0, 0] {
        header.extend_from_slice(&place.to_le_bytes());
    }
    for number in [1_700_000_000_000_u64, 9] {
        header.extend_from_slice(&number.to_le_bytes());
    }
    header.extend_from_slice(id.as_bytes());
    let mut row = vec![1];
    for number in [ROOM.0, position as u64, group, 0, 0] {
        row.extend_from_slice(&number.to_be_bytes());
    }
    for part in [txn.as_bytes(), &header] {
        row.extend_from_slice(&u16::try_from(part.len()).unwrap().to_be_bytes());
        row.extend_from_slice(part);
    }
    row.extend_from_slice(json.as_bytes());
    row
}

/// A state group was a CBOR map of its three names.
fn group(parent: Option<u64>, depth: u32, changes: &[(u64, Option<u64>)]) -> Vec<u8> {
    #[derive(serde::Serialize)]
    struct Group<'a> {
        parent: Option<u64>,
        depth: u32,
        changes: &'a [(u64, Option<u64>)],
    }
    serde_cbor::to_vec(&Group { parent, depth, changes }).unwrap()
}

fn hash_id() -> OwnedEventId {
    EventId::parse("$YJ9Vq8H2Xx3mA0cC-_Zz1b2n3M4l5K6j7h8G9f0D1s0").unwrap()
}

fn json() -> String {
    format!(r#"{{"auth_events":["{}"],"content":{{"body":"hello"}},"type":"m.room.message"}}"#, hash_id())
}

fn rows() -> Vec<Row> {
    let (id, old, room) = (hash_id(), "$old:there", "!room:here");
    let room_row = Room { room_id: owned_room_id!("!room:here"), version: ruma::RoomVersionId::V11, overlay: false };
    let parked = ParkedPdu {
        json: "{}".to_owned(),
        origin: "there".try_into().unwrap(),
        received_at_ms: 0,
        missing: vec![event_id!("$missing:there").to_owned()],
    };
    let relation = Relation {
        rel_type: "m.annotation".to_owned(),
        kind: "m.reaction".to_owned(),
        event: EventShort(3),
        sender: user_id!("@alice:here").to_owned(),
        key: None,
    };
    let name = StateKeyName { kind: "m.x".to_owned(), state_key: String::new() };
    let txn = |scope: &str| [text("@alice:here"), text("A"), text(scope)].concat();
    let before = |id: &str| [number(ROOM.0), text(id)].concat();
    let staged = StagedPdu { origin: "there".try_into().unwrap(), via: Vec::new(), json: "{}".to_owned() };
    vec![
        ("INBOX", number(15), staged.encode().into_owned()),
        ("INBOX", number(16), staged.encode().into_owned()),
        ("META", text("layout"), number(1)),
        ("META", text("position"), number(20)),
        ("ROOM_IDS", text(room), number(ROOM.0)),
        ("ROOMS", number(ROOM.0), room_row.encode().into_owned()),
        ("EVENT_IDS", text(old), number(2)),
        ("EVENT_IDS", text(id.as_str()), number(3)),
        ("EVENTS", number(2), event(old, -1, 10, "", "{}")),
        ("EVENTS", number(3), event(id.as_str(), 4, 11, "A\0m/1", &json())),
        ("TIMELINE", [number(ROOM.0), number((-1_i64 as u64) ^ (1 << 63))].concat(), number(2)),
        ("TIMELINE", [number(ROOM.0), number(4 ^ (1 << 63))].concat(), number(3)),
        ("STATE_KEYS", [text("m.x"), text("")].concat(), number(5)),
        ("STATE_KEY_NAMES", number(5), name.encode().into_owned()),
        ("STATE_GROUPS", number(10), group(None, 0, &[(5, Some(2))])),
        ("STATE_GROUPS", number(11), group(Some(10), 1, &[(5, None)])),
        ("BACKWARD", before("$missing:there"), number(8)),
        ("SUCCESSORS", [before("$missing:there"), number(3)].concat(), Vec::new()),
        ("EARLY_REDACTIONS", before(id.as_str()), number(2)),
        ("PARKED", [text(room), text("$parked:there")].concat(), parked.encode().into_owned()),
        ("PARKED_ON", [text("$missing:there"), text("$parked:there")].concat(), room.as_bytes().to_vec()),
        ("RELATIONS", [text(id.as_str()), number(4 ^ (1 << 63))].concat(), relation.encode().into_owned()),
        ("TXN_IDS", txn("!room:here/m.room.message//m/1"), id.as_bytes().to_vec()),
        ("TXN_IDS", txn("sendToDevice/m.x/1"), Vec::new()),
    ]
}

fn by_hand(path: &Path) {
    let db = redb::Database::create(path).unwrap();
    let txn = db.begin_write().unwrap();
    for (table, key, value) in rows() {
        let mut table = txn.open_table(TableDefinition::<&[u8], &[u8]>::new(table)).unwrap();
        table.insert(key.as_slice(), value.as_slice()).unwrap();
    }
    txn.commit().unwrap();
}

#[test]
fn a_file_of_layout_1_is_brought_to_the_newest_and_lacks_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    by_hand(&path);
    let store = Store::open(&path, inline()).unwrap();
    let snapshot = store.snapshot().unwrap();
    let view = snapshot.view();
    assert_eq!(check::check(view).unwrap().findings, [""; 0]);
    assert_eq!(value(view, "layout"), Some(3_u64.to_be_bytes().to_vec()));
    let (id, old, missing) = (hash_id(), event_id!("$old:there"), event_id!("$missing:there"));

    assert_eq!(view.get(tables::EVENT_IDS, &*id).unwrap(), Some(EventShort(3)));
    assert_eq!(view.get(tables::EVENT_IDS, old).unwrap(), Some(EventShort(2)));
    let row = view.get(tables::EVENTS, EventShort(3)).unwrap().unwrap();
    assert_eq!((&*row.json, row.meta.txn.as_deref(), row.meta.position), (json().as_str(), Some("A\0m/1"), Some(4)));
    assert_eq!((row.header.content.of(&row.json), row.header.event_id), (&json()[8..10], id.clone()));
    assert_eq!(view.get(tables::EVENTS, EventShort(2)).unwrap().unwrap().meta.position, Some(-1));
    let child = view.get(tables::STATE_GROUPS, StateGroup(11)).unwrap();
    let expected = StateGroupRow { parent: Some(StateGroup(10)), depth: 1, changes: vec![(StateKeyShort(5), None)] };
    assert_eq!(child, Some(expected));

    assert_eq!(view.get(tables::BACKWARD, (ROOM, missing)).unwrap(), Some(8));
    assert!(view.contains(tables::SUCCESSORS, (ROOM, missing, EventShort(3))).unwrap());
    assert_eq!(view.get(tables::EARLY_REDACTIONS, (ROOM, &*id)).unwrap(), Some(EventShort(2)));
    assert!(view.contains(tables::PARKED, (room_id!("!room:here"), event_id!("$parked:there"))).unwrap());
    assert!(view.contains(tables::PARKED_ON, (missing, event_id!("$parked:there"))).unwrap());
    assert_eq!(view.get(tables::RELATIONS, (&*id, 4)).unwrap().unwrap().event, EventShort(3));

    let (alice, device) = (user_id!("@alice:here"), device_id!("A"));
    let sent = txn_key(alice, device, "!room:here/m.room.message//m/1");
    assert_eq!(view.get(tables::TXNS, sent).unwrap(), Some(EventShort(3)));
    assert_eq!(view.get(tables::TXNS, txn_key(alice, device, "sendToDevice/m.x/1")).unwrap(), Some(EventShort(0)));
    assert_eq!(view.get(tables::TIMELINE, (ROOM, -1)).unwrap(), Some(EventShort(2)));
    assert_eq!(view.get(tables::INBOX_WAITING, server_name!("there")).unwrap(), Some(2));
    drop((snapshot, store));
    use redb::{ReadableDatabase as _, TableHandle as _};
    let db = redb::Database::open(&path).unwrap();
    let names: Vec<_> = db.begin_read().unwrap().list_tables().unwrap().map(|table| table.name().to_owned()).collect();
    assert!(!names.contains(&"TXN_IDS".to_owned()), "{names:?}");
}
