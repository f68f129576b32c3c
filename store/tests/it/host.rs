//! A host's rows over redb against the rows in memory, power cuts at every sync, a full disk.

use bytes::Bytes;
use millpond_mailbox::{
    deposit::Deposit,
    host::{Due, HostRows, HostStore, HostStoreError, HostTotals, MailboxRow, MemoryRows, PickupRow, PickupState},
    host_key::HostSecret,
    host_protocol::{BoxId, Cursor, Purpose},
    mailbox::{BatchId, MailboxSecret},
    stamp::{Class, Serial},
    time::UtcDay,
    token::SpentMark,
};
use millpond_store::{
    HostDatabase,
    testing::{Disk, Unsynced},
};
use proptest::prelude::*;

fn secret(n: u8) -> MailboxSecret {
    MailboxSecret::from_bytes([n; 32])
}

fn row(n: u8, closes: u32) -> MailboxRow {
    let secret = secret(n);
    MailboxRow {
        purpose: if n.is_multiple_of(2) { Purpose::Ordinary } else { Purpose::Recovery },
        key: secret.mailbox_key(),
        read_key: secret.read_key().public(),
        closes: UtcDay(closes),
        arrived: Cursor(u64::from(n)),
        envelopes: 7,
        bytes: 1 << 40,
        boxes: 3,
    }
}

fn deposit(n: u8, serial: u16) -> Deposit {
    let host = HostSecret::from_bytes([9; 32]).public();
    let stamp = secret(n).issue(BatchId(1), Class::S, &[Serial(serial)]).stamps(host).remove(0);
    stamp.deposit(vec![n; Class::S.body_len()].into()).expect("the length of an S")
}

fn in_one(store: &mut impl HostStore, mut work: impl FnMut(&mut dyn HostRows)) -> Result<(), HostStoreError> {
    store.write(&mut |rows| {
        work(rows);
        Ok(())
    })
}

/// One thing done to the rows.
#[derive(Clone, Debug)]
enum Op {
    Create(u8, u32),
    Update(u8, u32),
    Remove(u8),
    Put(u8, u16, u64),
    Delete(u8, u16),
    Lay(u8, u32),
    Claim(u8, u32),
    Tombstone(u8, u32),
    RemoveBox(u8),
    Spend(u8, u8),
    Totals(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let (who, day) = (0_u8..4, 100_u32..110);
    prop_oneof![
        (who.clone(), day.clone()).prop_map(|(n, day)| Op::Create(n, day)),
        (who.clone(), day.clone()).prop_map(|(n, day)| Op::Update(n, day)),
        who.clone().prop_map(Op::Remove),
        (who.clone(), prop_oneof![0_u16..4, 254_u16..258, Just(u16::MAX)], 1_u64..9)
            .prop_map(|(n, serial, at)| Op::Put(n, serial, at)),
        (who.clone(), prop_oneof![0_u16..4, 254_u16..258, Just(u16::MAX)])
            .prop_map(|(n, serial)| Op::Delete(n, serial)),
        (who.clone(), day.clone()).prop_map(|(n, day)| Op::Lay(n, day)),
        (who.clone(), day.clone()).prop_map(|(n, day)| Op::Claim(n, day)),
        (who.clone(), day).prop_map(|(n, day)| Op::Tombstone(n, day)),
        who.clone().prop_map(Op::RemoveBox),
        (who, any::<u8>()).prop_map(|(n, on)| Op::Spend(n, on)),
        any::<u64>().prop_map(Op::Totals),
    ]
}

fn carry_out(rows: &mut dyn HostRows, op: &Op) {
    let id = |n: &u8| secret(*n).id();
    let pickup = |state, day: &u32| PickupRow { expires: UtcDay(*day), state };
    match op {
        // The machine makes a mailbox only where there is none, and changes its counts only while it is there.
        Op::Create(n, day) if rows.mailbox(&id(n)).unwrap().is_none() => rows.create_mailbox(&id(n), &row(*n, *day)),
        Op::Update(n, bytes) => match rows.mailbox(&id(n)).unwrap() {
            Some(there) => {
                let changed = MailboxRow { bytes: u64::from(*bytes), ..there };
                rows.update_mailbox(&id(n), &changed)
            }
            None => Ok(()),
        },
        Op::Remove(n) => rows.remove_mailbox(&id(n)),
        Op::Put(n, serial, at) => {
            let spent = rows.is_spent(&id(n), Serial(*serial)).unwrap();
            let taken = !rows.list(&id(n), Cursor(at - 1), usize::MAX).unwrap().deposits.is_empty();
            match rows.mailbox(&id(n)).unwrap() {
                Some(_) if !spent && !taken => rows.put(&id(n), Cursor(*at), &deposit(*n, *serial)),
                _ => Ok(()),
            }
        }
        Op::Delete(n, serial) => rows.delete(&id(n), Serial(*serial)).map(drop),
        Op::Lay(n, day) => {
            rows.put_pickup(&BoxId([*n; 32]), &pickup(PickupState::Waiting(Bytes::from(vec![*n; 50])), day))
        }
        Op::Claim(n, day) => {
            let state = PickupState::Claimed { claim: [*n; 32], on: UtcDay(101), body: Bytes::from(vec![*n; 50]) };
            rows.put_pickup(&BoxId([*n; 32]), &pickup(state, day))
        }
        Op::Tombstone(n, day) => rows.put_pickup(&BoxId([*n; 32]), &pickup(PickupState::Tombstone, day)),
        Op::RemoveBox(n) => rows.remove_pickup(&BoxId([*n; 32])),
        Op::Spend(n, on) => rows.spend(&SpentMark([*n; 32]), &[*on; 32]),
        Op::Totals(n) => rows.put_totals(&HostTotals { mailboxes: *n, boxes: n / 2, bytes: n / 3 }),
        Op::Create(..) => Ok(()),
    }
    .expect("the storage works");
}

/// Everything that can be read out of the rows, as text.
fn seen(rows: &dyn HostRows) -> String {
    let mut text = format!("{:?}\n", rows.totals().unwrap());
    for n in 0..4 {
        let id = secret(n).id();
        let mailbox = rows.mailbox(&id).unwrap().map(|row| {
            (row.purpose, *row.key.as_bytes(), row.read_key.0, row.closes, row.arrived, row.envelopes, row.bytes)
        });
        text += &format!("{mailbox:?}\n");
        for after in [0, 3, u64::MAX] {
            for max in [usize::MAX, 2 * 4_244, 4_243] {
                let listed = rows.list(&id, Cursor(after), max).unwrap();
                let found: Vec<_> = listed.deposits.iter().map(|(at, one)| (*at, one.header().serial())).collect();
                text += &format!("{found:?} {}\n", listed.more);
            }
        }
        for serial in [0, 1, 2, 3, 254, 255, 256, 257, u16::MAX].map(Serial) {
            let stored = rows.stored(&id, serial).unwrap();
            text += &format!("{:?} {stored:?}\n", rows.is_spent(&id, serial).unwrap());
        }
        let pickup = rows.pickup(&BoxId([n; 32])).unwrap().map(|row| match row.state {
            PickupState::Waiting(body) => (row.expires, body, None),
            PickupState::Claimed { claim, on, body } => (row.expires, body, Some((claim, Some(on)))),
            PickupState::Tombstone => (row.expires, Bytes::new(), Some(([0; 32], None))),
        });
        text += &format!("{pickup:?} {:?}\n", rows.spent(&SpentMark([n; 32])).unwrap());
    }
    for day in 99..112 {
        for limit in [2, 100] {
            let due: Vec<_> = rows.due(UtcDay(day), limit).unwrap().into_iter().map(plain).collect();
            text += &format!("{due:?}\n");
        }
    }
    text
}

fn plain(due: Due) -> (bool, [u8; 32]) {
    match due {
        Due::Mailbox(id) => (false, id.0),
        Due::Box(id) => (true, id.0),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn redb_and_memory_hold_the_same_after_the_same_operations(ops in prop::collection::vec(op(), 1..40)) {
        let (mut redb, mut memory) = (HostDatabase::in_memory().unwrap(), MemoryRows::default());
        for some in ops.chunks(3) {
            for store in [&mut redb as &mut dyn HostStore, &mut memory] {
                store.write(&mut |rows| {
                    some.iter().for_each(|op| carry_out(rows, op));
                    Ok(())
                }).unwrap();
            }
        }
        let (mut left, mut right) = (String::new(), String::new());
        in_one(&mut redb, |rows| left = seen(rows)).unwrap();
        in_one(&mut memory, |rows| right = seen(rows)).unwrap();
        prop_assert_eq!(left, right);
    }
}

#[test]
fn at_every_sync_point_what_was_stored_is_there() {
    let disk = Disk::default();
    let mut store = HostDatabase::open_backend(disk.clone()).unwrap();
    in_one(&mut store, |rows| rows.create_mailbox(&secret(2).id(), &row(2, 100)).unwrap()).unwrap();
    let mut answered = Vec::new();
    for serial in 0..12_u16 {
        let at = Cursor(u64::from(serial) + 1);
        in_one(&mut store, |rows| rows.put(&secret(2).id(), at, &deposit(2, serial)).unwrap()).unwrap();
        answered.push((disk.syncs(), serial));
    }
    let mut checked = 0;
    for cut in disk.cuts().filter(|cut| cut.syncs >= answered[0].0) {
        for unsynced in [Unsynced::Lost, Unsynced::Torn(1), Unsynced::Torn(2)] {
            let mut store = HostDatabase::open_backend(cut.disk(unsynced)).unwrap();
            let mut there = Vec::new();
            in_one(&mut store, |rows| {
                let listed = rows.list(&secret(2).id(), Cursor(0), usize::MAX).unwrap();
                there = listed.deposits.iter().map(|(_, deposit)| deposit.header().serial().0).collect();
                for serial in &there {
                    assert!(rows.is_spent(&secret(2).id(), Serial(*serial)).unwrap());
                }
            })
            .unwrap();
            let stored = answered.iter().filter(|(syncs, _)| *syncs <= cut.syncs).count();
            assert!(there.len() == stored || there.len() == stored + 1, "{there:?} after {} syncs", cut.syncs);
            assert!(there.iter().copied().eq(0..there.len() as u16));
            checked += 1;
        }
    }
    assert!(checked > 30, "{checked} cuts");
}

#[test]
fn a_full_disk_stores_nothing_and_says_so_and_the_host_goes_on_when_there_is_room() {
    let disk = Disk::default();
    let mut store = HostDatabase::open_backend(disk.clone()).unwrap();
    in_one(&mut store, |rows| rows.create_mailbox(&secret(2).id(), &row(2, 100)).unwrap()).unwrap();
    disk.fill_after(3);
    let put = |store: &mut HostDatabase, serial: u16| {
        store.write(&mut |rows| rows.put(&secret(2).id(), Cursor(u64::from(serial)), &deposit(2, serial)))
    };
    assert!(put(&mut store, 1).is_err());
    disk.free();
    put(&mut store, 2).unwrap();
    let mut there = 0;
    in_one(&mut store, |rows| there = rows.list(&secret(2).id(), Cursor(0), usize::MAX).unwrap().deposits.len())
        .unwrap();
    assert_eq!(there, 1);
}

#[test]
fn what_was_written_before_an_error_in_the_same_commit_is_not_there() {
    let mut store = HostDatabase::in_memory().unwrap();
    in_one(&mut store, |rows| rows.create_mailbox(&secret(2).id(), &row(2, 100)).unwrap()).unwrap();
    let failed = store.write(&mut |rows| {
        rows.put(&secret(2).id(), Cursor(1), &deposit(2, 1))?;
        Err(HostStoreError { doing: "testing", source: "an error".into() })
    });
    assert_eq!(failed.unwrap_err().doing, "testing");
    in_one(&mut store, |rows| assert!(!rows.is_spent(&secret(2).id(), Serial(1)).unwrap())).unwrap();
}

#[test]
fn the_file_is_its_owners_only_and_opens_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("relay.redb");
    let store = HostDatabase::open(&path, 1 << 20).unwrap();
    assert!(matches!(HostDatabase::open(&path, 1 << 20), Err(millpond_store::Error::InUse { .. })));
    drop(store);
    HostDatabase::open(&path, 1 << 20).unwrap();
    #[cfg(unix)]
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions()) & 0o777, 0o600);
}
