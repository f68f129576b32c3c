//! Power cuts below the store: at every sync of a run, with unsynced writes lost or torn, what was answered is there.

use millpond_store::{
    Store,
    testing::{Disk, Unsynced},
};

use crate::support::{inline, set, value};

const SEEDS: std::ops::Range<u64> = 0..4;

#[test]
fn at_every_sync_point_what_was_answered_is_there() {
    let disk = Disk::default();
    let store = Store::open_backend(disk.clone(), inline()).unwrap();
    // (syncs when it was answered, row)
    let mut answered = Vec::new();
    for n in 0..30_u8 {
        set(&store, &format!("row {}", n % 7), &vec![n; usize::from(n) * 1500]).unwrap();
        answered.push((disk.syncs(), n));
    }
    let mut checked = 0;
    for cut in disk.cuts() {
        for unsynced in std::iter::once(Unsynced::Lost).chain(SEEDS.map(Unsynced::Torn)) {
            let store = match Store::open_backend(cut.disk(unsynced), inline()) {
                Ok(store) => store,
                // Before the first answer there may be no database yet; a torn first page is told from a good one.
                Err(_) if cut.syncs < answered[0].0 => continue,
                Err(error) => panic!("after {} syncs, {unsynced:?}: {error}", cut.syncs),
            };
            let there = answered.iter().take_while(|(syncs, _)| *syncs <= cut.syncs).count();
            let snapshot = store.snapshot().unwrap();
            for (_, n) in answered.iter().take(there).rev().take(7) {
                let row = value(snapshot.view(), &format!("row {}", n % 7)).unwrap();
                // The commit that was cut off may be there, whole.
                let next = answered.get(there).map(|(_, n)| *n).filter(|next| next % 7 == n % 7);
                let expected = [Some(*n), next].map(|n| n.map(|n| vec![n; usize::from(n) * 1500]));
                assert!(expected.contains(&Some(row)), "after {} syncs, {unsynced:?}: row of {n}", cut.syncs);
            }
            set(&store, "after", b"the cut").unwrap();
            checked += 1;
        }
    }
    assert!(checked > 200, "{checked} cuts");
}

#[test]
fn after_the_power_is_off_nothing_is_answered() {
    let disk = Disk::default();
    let store = Store::open_backend(disk.clone(), inline()).unwrap();
    set(&store, "first", b"1").unwrap();
    disk.cut_after(disk.syncs());
    assert!(set(&store, "second", b"2").is_err());
    assert!(set(&store, "third", b"3").is_err());
    assert!(disk.is_cut());
    let found = disk.cuts().last().unwrap();
    let store = Store::open_backend(found.disk(Unsynced::Lost), inline()).unwrap();
    let snapshot = store.snapshot().unwrap();
    assert_eq!(value(snapshot.view(), "first"), Some(b"1".to_vec()));
    assert_eq!(value(snapshot.view(), "second"), None);
}
