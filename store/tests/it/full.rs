//! A full disk: a clear error, nothing acknowledged that is not kept, and on it goes when there is room.

use std::convert::Infallible;

use millpond_store::{Error, Options, Store, WriteError, job, tables, testing::Disk};

use crate::support::{inline, set, value};

/// Large enough that the file must grow for it now and then.
const ROW: usize = 100_000;

fn row(n: u8) -> Vec<u8> {
    vec![n; ROW]
}

fn is_full(outcome: &Result<(), WriteError<Infallible>>) -> bool {
    matches!(outcome, Err(WriteError::Store(Error::DiskFull)))
}

#[test]
fn wherever_the_disk_becomes_full_nothing_answered_is_lost_and_writing_goes_on_when_there_is_room() {
    for operations in 0..40 {
        let disk = Disk::default();
        let store = Store::open_backend(disk.clone(), inline()).unwrap();
        set(&store, "first", &row(1)).unwrap();
        disk.fill_after(operations);
        let mut answered = Vec::new();
        let mut refused = Vec::new();
        for n in 0..20_u8 {
            let outcome = set(&store, &format!("row {n}"), &row(n));
            if outcome.is_ok() {
                assert!(refused.is_empty(), "{operations}: answered after a refusal, without room");
                answered.push(n);
            } else {
                assert!(is_full(&outcome), "{operations}: {outcome:?}");
                refused.push(n);
                if refused.len() == 3 {
                    break;
                }
            }
        }
        assert!(disk.is_full());
        disk.free();
        set(&store, "last", &row(255)).unwrap();
        let snapshot = store.snapshot().unwrap();
        assert_eq!(value(snapshot.view(), "first"), Some(row(1)));
        assert_eq!(value(snapshot.view(), "last"), Some(row(255)));
        for n in answered {
            assert_eq!(value(snapshot.view(), &format!("row {n}")), Some(row(n)), "{operations}");
        }
    }
}

#[test]
fn the_error_says_what_to_do() {
    let disk = Disk::default();
    let store = Store::open_backend(disk.clone(), inline()).unwrap();
    disk.fill_after(0);
    let error = set(&store, "row", b"x").unwrap_err();
    assert_eq!(error.to_string(), "no space left on the disk that holds the database; free some and try again");
}

#[test]
fn a_full_disk_at_first_start_is_a_clear_error() {
    let disk = Disk::default();
    disk.fill_after(1);
    let error = Store::open_backend(disk, inline()).map(drop).unwrap_err();
    assert!(matches!(error, Error::DiskFull), "{error:?}");
}

#[test]
fn what_was_committed_is_read_as_soon_as_there_is_room_even_if_nobody_writes() {
    let disk = Disk::default();
    let store = Store::open_backend(disk.clone(), inline()).unwrap();
    set(&store, "colour", b"green").unwrap();
    disk.fill_after(0);
    assert!(is_full(&set(&store, "colour", b"blue")));
    // Not even the mark that the file is open can be written: reads fail as clearly as writes.
    assert!(matches!(store.snapshot().map(drop), Err(Error::DiskFull)));
    disk.free();
    assert_eq!(value(store.snapshot().unwrap().view(), "colour"), Some(b"green".to_vec()));
}

#[tokio::test]
async fn a_group_that_meets_a_full_disk_is_answered_job_by_job() {
    let disk = Disk::default();
    let store = Store::open_backend(disk.clone(), Options::default()).unwrap();
    disk.fill_after(3);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..50_u8 {
        let store = store.clone();
        tasks.spawn(async move {
            let put =
                job(|_| Ok::<_, Infallible>(()), move |(), txn| txn.put(tables::META, format!("row {n}"), &row(n)));
            (n, store.write(put).await.map(drop))
        });
    }
    let mut answered = Vec::new();
    while let Some(done) = tasks.join_next().await {
        match done.unwrap() {
            (n, Ok(())) => answered.push(n),
            (_, refused) => assert!(is_full(&refused), "{refused:?}"),
        }
    }
    assert!(answered.len() < 50);
    disk.free();
    let put = job(|_| Ok::<_, Infallible>(()), |(), txn| txn.put(tables::META, "last", &row(9)));
    store.write(put).await.unwrap();
    let snapshot = store.snapshot().unwrap();
    for n in answered {
        assert_eq!(value(snapshot.view(), &format!("row {n}")), Some(row(n)));
    }
}
