//! Keys and scans against a simple model: a `BTreeMap` of the values themselves.

use std::{collections::BTreeMap, ops::Bound};

use millpond_store::{
    Store,
    key::{AsKey, Key},
    tables,
};
use proptest::{collection::vec, prelude::*};
use ruma::OwnedUserId;

use crate::support::{inline, write};

/// The model of `ROOM_STATE`, whose key has a number and two strings of any content.
type Rows = BTreeMap<(u64, String, String), u64>;

/// Strings that are prefixes of each other, hold the escape's own bytes, and end in the highest ones.
fn awkward() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\0"),
        Just("\u{1}"),
        Just("\0\u{1}"),
        Just("a"),
        Just("ab"),
        Just("\u{7f}"),
        Just("\u{80}"),
        Just("\u{ff}"),
        Just("\u{10ffff}"),
        Just("/"),
    ];
    vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(1), Just(255), Just(256), Just(u64::MAX - 1), Just(u64::MAX), any::<u64>()]
}

fn fill(rows: &Rows) -> Store {
    let store = Store::in_memory(inline()).unwrap();
    let rows = rows.clone();
    write(&store, move |txn| {
        for ((room, kind, state_key), event) in &rows {
            let key = (millpond_store::rows::RoomShort(*room), kind.as_str(), state_key.as_str());
            txn.put(tables::ROOM_STATE, key, &millpond_store::rows::EventShort(*event))?;
        }
        Ok(())
    })
    .unwrap();
    store
}

fn flat(
    row: ((millpond_store::rows::RoomShort, String, String), millpond_store::rows::EventShort),
) -> ((u64, String, String), u64) {
    let ((room, kind, state_key), event) = row;
    ((room.0, kind, state_key), event.0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn scans_by_prefix_find_what_a_filter_finds(
        rows in vec(((number(), awkward(), awkward()), any::<u64>()), 0..40),
        other in (number(), awkward()),
        pick in any::<prop::sample::Index>(),
    ) {
        let model: Rows = rows.into_iter().collect();
        let store = fill(&model);
        let snapshot = store.snapshot().unwrap();
        let view = snapshot.view();
        let chosen = if model.is_empty() { None } else { model.keys().nth(pick.index(model.len())) };
        let (room, kind) = chosen.map_or(other.clone(), |(room, kind, _)| (*room, kind.clone()));
        for (room, kind) in [(room, kind), other] {
            let room_key = millpond_store::rows::RoomShort(room);
            let of_room: Vec<_> = view.scan(tables::ROOM_STATE, (room_key,)).unwrap().map(|row| flat(row.unwrap())).collect();
            let expected: Vec<_> = model.iter().filter(|(key, _)| key.0 == room).map(|(k, v)| (k.clone(), *v)).collect();
            prop_assert_eq!(&of_room, &expected);
            let mut back: Vec<_> = view.scan(tables::ROOM_STATE, (room_key,)).unwrap().rev().map(|row| flat(row.unwrap())).collect();
            back.reverse();
            prop_assert_eq!(back, of_room);
            let of_kind: Vec<_> = view.scan(tables::ROOM_STATE, (room_key, kind.as_str())).unwrap().map(|row| flat(row.unwrap())).collect();
            let expected: Vec<_> = model.iter().filter(|(key, _)| key.0 == room && key.1 == kind).map(|(k, v)| (k.clone(), *v)).collect();
            prop_assert_eq!(view.any(tables::ROOM_STATE, (room_key, kind.as_str())).unwrap(), !expected.is_empty());
            prop_assert_eq!(of_kind, expected);
        }
        let all: Vec<_> = view.scan(tables::ROOM_STATE, ()).unwrap().map(|row| flat(row.unwrap())).collect();
        let expected: Vec<_> = model.into_iter().collect();
        prop_assert_eq!(all, expected);
    }

    #[test]
    fn ranges_find_what_a_map_finds(
        rows in vec(((number(), awkward(), awkward()), any::<u64>()), 0..40),
        from in (number(), awkward(), awkward()),
        to in (number(), awkward(), awkward()),
        (with_first, with_last) in any::<(bool, bool)>(),
    ) {
        let model: Rows = rows.into_iter().collect();
        let store = fill(&model);
        let snapshot = store.snapshot().unwrap();
        let short = |key: &(u64, String, String)| (millpond_store::rows::RoomShort(key.0), key.1.clone(), key.2.clone());
        let bound = |key, with| if with { Bound::Included(key) } else { Bound::Excluded(key) };
        let found = snapshot.view().range(tables::ROOM_STATE, bound(short(&from), with_first), bound(short(&to), with_last));
        let found: Vec<_> = found.unwrap().map(|row| flat(row.unwrap())).collect();
        let in_range = |key: &(u64, String, String)| {
            (*key > from || with_first && *key == from) && (*key < to || with_last && *key == to)
        };
        let expected: Vec<_> = model.iter().filter(|(key, _)| in_range(key)).map(|(k, v)| (k.clone(), *v)).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn removing_by_prefix_leaves_the_rest(
        rows in vec(((0..3_u64, awkward(), awkward()), any::<u64>()), 0..40),
        room in 0..3_u64,
        kind in awkward(),
    ) {
        let mut model: Rows = rows.into_iter().collect();
        let store = fill(&model);
        let prefix = kind.clone();
        write(&store, move |txn| {
            txn.remove_all(tables::ROOM_STATE, (millpond_store::rows::RoomShort(room), prefix.as_str())).map(drop)
        }).unwrap();
        model.retain(|key, _| !(key.0 == room && key.1 == kind));
        let snapshot = store.snapshot().unwrap();
        let left: Rows = snapshot.view().scan(tables::ROOM_STATE, ()).unwrap().map(|row| flat(row.unwrap())).collect();
        prop_assert_eq!(left, model);
    }

    #[test]
    fn the_order_of_encoded_keys_is_the_order_of_keys(
        a in (awkward(), any::<i64>(), number(), awkward()),
        b in (awkward(), any::<i64>(), number(), awkward()),
    ) {
        type K = (String, i64, u64, String);
        let encode = |key: &K| { let mut out = Vec::new(); AsKey::<K>::encode(key, &mut out); out };
        let (left, right) = (encode(&a), encode(&b));
        prop_assert_eq!(left.cmp(&right), a.cmp(&b));
        let mut rest = left.as_slice();
        prop_assert_eq!(<K as Key>::decode(&mut rest).unwrap(), a);
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn decoding_a_key_of_any_bytes_does_not_panic(bytes in vec(any::<u8>(), 0..40)) {
        let _ = <(String, i64, u64)>::decode(&mut bytes.as_slice());
        let _ = <(OwnedUserId, [u8; 32])>::decode(&mut bytes.as_slice());
    }
}
