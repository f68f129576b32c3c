//! Jobs: what one of them does, and what it costs the others of its group.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicUsize, Ordering},
        mpsc,
    },
};

use millpond_store::{Error, Options, Position, Store, Topic, WriteError, job, tables};
use tokio::task::JoinSet;

use crate::support::{inline, set, value, write};

/// A store with a writer thread that a test can hold up, so that jobs gather behind it in one group.
struct Held {
    store: Store,
    commits: Arc<AtomicUsize>,
    release: mpsc::Sender<()>,
}

impl Held {
    async fn new() -> Self {
        let commits = Arc::new(AtomicUsize::new(0));
        let counted = commits.clone();
        let observer = Box::new(move |_: &millpond_store::Commit| {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        let store = Store::in_memory(Options { observer, ..Options::default() }).unwrap();
        let (release, wait) = mpsc::channel::<()>();
        let (entered, inside) = tokio::sync::oneshot::channel();
        let (wait, mut entered) = (Mutex::new(wait), Some(entered));
        let plug = store.clone();
        tokio::spawn(async move {
            let hold = job(
                move |_| {
                    if let Some(entered) = entered.take() {
                        entered.send(()).unwrap();
                        let _ = wait.lock().unwrap().recv();
                    }
                    Ok::<_, Infallible>(())
                },
                |(), txn| txn.put(tables::META, "plug", &Vec::new()),
            );
            plug.write(hold).await.unwrap();
        });
        inside.await.unwrap();
        commits.store(0, Ordering::SeqCst);
        Self { store, commits, release }
    }

    /// Queues a job that puts one row and then does what `then` says; waits until it is queued.
    async fn queue(
        &self,
        tasks: &mut JoinSet<Result<Position, WriteError<&'static str>>>,
        key: &str,
        decide: impl FnMut() -> Result<(), &'static str> + Send + 'static,
        then: impl FnMut() -> Result<(), Error> + Send + 'static,
    ) {
        let (mut decide, mut then, key) = (decide, then, key.to_owned());
        let second = format!("{key}, second row");
        let store = self.store.clone();
        let row = job(
            move |_| decide(),
            move |(), txn| {
                txn.put(tables::META, key.as_str(), &b"first".to_vec())?;
                then()?;
                txn.put(tables::META, second.as_str(), &b"second".to_vec())
            },
        );
        tasks.spawn(async move { store.write(row).await.map(|((), position)| position) });
        // The runtime has one thread, so the task has handed its job over when we are back.
        tokio::task::yield_now().await;
    }

    fn rows(&self) -> BTreeSet<String> {
        let snapshot = self.store.snapshot().unwrap();
        let rows = snapshot.view().scan(tables::META, ()).unwrap().map(|row| row.unwrap().0);
        rows.filter(|key| !["layout", "plug", "position"].contains(&key.as_str())).collect()
    }
}

async fn outcomes(
    mut tasks: JoinSet<Result<Position, WriteError<&'static str>>>,
) -> Vec<Result<Position, WriteError<&'static str>>> {
    let mut outcomes = Vec::new();
    while let Some(outcome) = tasks.join_next().await {
        outcomes.push(outcome.unwrap());
    }
    outcomes
}

fn expected(keys: &[&str]) -> BTreeSet<String> {
    keys.iter().flat_map(|key| [(*key).to_owned(), format!("{key}, second row")]).collect()
}

#[tokio::test]
async fn a_job_that_panics_between_two_rows_costs_its_neighbours_nothing() {
    let held = Held::new().await;
    let mut tasks = JoinSet::new();
    held.queue(&mut tasks, "before", || Ok(()), || Ok(())).await;
    held.queue(&mut tasks, "panics", || Ok(()), || panic!("between two rows")).await;
    held.queue(&mut tasks, "after", || Ok(()), || Ok(())).await;
    held.release.send(()).unwrap();
    let outcomes = outcomes(tasks).await;
    let failed: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    assert!(matches!(failed[..], [WriteError::Store(Error::Panicked(why))] if why == "between two rows"), "{failed:?}");
    assert_eq!(held.rows(), expected(&["before", "after"]));
}

#[tokio::test]
async fn a_job_that_panics_while_deciding_costs_its_neighbours_nothing() {
    let held = Held::new().await;
    let mut tasks = JoinSet::new();
    held.queue(&mut tasks, "before", || Ok(()), || Ok(())).await;
    held.queue(&mut tasks, "panics", || panic!("no"), || Ok(())).await;
    held.queue(&mut tasks, "after", || Ok(()), || Ok(())).await;
    held.release.send(()).unwrap();
    let failed = outcomes(tasks).await.into_iter().filter(Result::is_err).count();
    assert_eq!((failed, held.rows()), (1, expected(&["before", "after"])));
    assert_eq!(held.commits.load(Ordering::SeqCst), 2, "the plug's, and one for both neighbours");
}

#[tokio::test]
async fn a_job_whose_write_fails_leaves_nothing_and_its_neighbours_are_written() {
    let held = Held::new().await;
    let mut tasks = JoinSet::new();
    let corrupt = || Err(Error::Corrupt { table: "META", why: "made up".to_owned() });
    held.queue(&mut tasks, "before", || Ok(()), || Ok(())).await;
    held.queue(&mut tasks, "fails", || Ok(()), corrupt).await;
    held.queue(&mut tasks, "after", || Ok(()), || Ok(())).await;
    held.release.send(()).unwrap();
    let failed: Vec<_> = outcomes(tasks).await.into_iter().filter_map(Result::err).collect();
    assert!(matches!(failed[..], [WriteError::Store(Error::Corrupt { .. })]), "{failed:?}");
    assert_eq!(held.rows(), expected(&["before", "after"]));
}

#[tokio::test]
async fn a_refusal_answers_its_caller_alone() {
    let held = Held::new().await;
    let mut tasks = JoinSet::new();
    held.queue(&mut tasks, "before", || Ok(()), || Ok(())).await;
    held.queue(&mut tasks, "refused", || Err("no"), || Ok(())).await;
    held.queue(&mut tasks, "after", || Ok(()), || Ok(())).await;
    held.release.send(()).unwrap();
    let failed: Vec<_> = outcomes(tasks).await.into_iter().filter_map(Result::err).collect();
    assert!(matches!(failed[..], [WriteError::Refused("no")]), "{failed:?}");
    assert_eq!(held.rows(), expected(&["before", "after"]));
    assert_eq!(held.commits.load(Ordering::SeqCst), 2, "the plug's, and one for the group");
}

#[tokio::test]
async fn a_hundred_jobs_of_a_hundred_tasks_share_a_commit() {
    let held = Held::new().await;
    let mut tasks = JoinSet::new();
    for n in 0..100 {
        held.queue(&mut tasks, &format!("row {n}"), || Ok(()), || Ok(())).await;
    }
    held.release.send(()).unwrap();
    assert!(outcomes(tasks).await.iter().all(Result::is_ok));
    assert_eq!(held.rows().len(), 200);
    let commits = held.commits.load(Ordering::SeqCst);
    assert!(commits <= 3, "{commits} commits");
}

#[tokio::test]
async fn jobs_of_one_group_see_the_rows_of_those_before_them() {
    let held = Held::new().await;
    let mut tasks = JoinSet::new();
    for _ in 0..20 {
        let store = held.store.clone();
        let count = job(
            |view| Ok::<_, Error>(view.get(tables::META, "count")?.map_or(0, |bytes| bytes[0])),
            |count, txn| txn.put(tables::META, "count", &vec![count + 1]),
        );
        tasks.spawn(async move { store.write(count).await.map(drop) });
        tokio::task::yield_now().await;
    }
    held.release.send(()).unwrap();
    while let Some(done) = tasks.join_next().await {
        done.unwrap().unwrap();
    }
    assert_eq!(value(held.store.snapshot().unwrap().view(), "count"), Some(vec![20]));
}

#[tokio::test]
async fn an_answer_comes_after_its_commit_is_to_be_read() {
    let store = Store::in_memory(Options::default()).unwrap();
    let mut tasks = JoinSet::new();
    for n in 0..50_u8 {
        let store = store.clone();
        tasks.spawn(async move {
            let key = format!("row {n}");
            let put = key.clone();
            let row = job(|_| Ok::<_, Infallible>(()), move |(), txn| txn.put(tables::META, put.as_str(), &vec![n]));
            store.write(row).await.unwrap();
            assert_eq!(value(store.snapshot().unwrap().view(), &key), Some(vec![n]));
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn a_caller_who_gives_up_does_not_take_his_job_back() {
    let held = Held::new().await;
    let mut tasks = JoinSet::new();
    held.queue(&mut tasks, "given up", || Ok(()), || Ok(())).await;
    tasks.shutdown().await;
    let mut tasks = JoinSet::new();
    held.queue(&mut tasks, "next", || Ok(()), || Ok(())).await;
    held.release.send(()).unwrap();
    assert!(outcomes(tasks).await.iter().all(Result::is_ok));
    assert_eq!(held.rows(), expected(&["given up", "next"]));
}

#[test]
fn the_last_handle_waits_for_what_is_queued() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let store = Store::open(&path, Options::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for n in 0..20 {
            let store = store.clone();
            let row =
                job(|_| Ok::<_, Infallible>(()), move |(), txn| txn.put(tables::META, format!("row {n}"), &Vec::new()));
            tasks.spawn(async move { store.write(row).await.map(drop) });
            tokio::task::yield_now().await;
        }
        tasks.shutdown().await;
    });
    drop(store);
    let store = Store::open(&path, inline()).unwrap();
    let snapshot = store.snapshot().unwrap();
    assert!((0..20).all(|n| snapshot.view().contains(tables::META, format!("row {n}")).unwrap()));
}

#[test]
fn a_snapshot_does_not_see_what_is_committed_after_it() {
    let store = Store::in_memory(inline()).unwrap();
    set(&store, "colour", b"green").unwrap();
    let before = store.snapshot().unwrap();
    set(&store, "colour", b"blue").unwrap();
    write(&store, |txn| txn.remove(tables::META, "layout").map(drop)).unwrap();
    let after = store.snapshot().unwrap();
    assert_eq!(value(before.view(), "colour"), Some(b"green".to_vec()));
    assert!(before.view().contains(tables::META, "layout").unwrap());
    assert_eq!(value(after.view(), "colour"), Some(b"blue".to_vec()));
    assert!(!after.view().contains(tables::META, "layout").unwrap());
}

#[test]
fn positions_grow_and_topics_are_told_once_after_the_commit() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let listen = told.clone();
    let observer = Box::new(move |commit: &millpond_store::Commit| listen.lock().unwrap().push(commit.clone()));
    let store = Store::in_memory(Options { inline: true, observer, ..Options::default() }).unwrap();
    told.lock().unwrap().clear();
    let runs = AtomicU32::new(0);
    let touch = job(
        |_| Ok::<_, Infallible>(()),
        move |(), txn| {
            runs.fetch_add(1, Ordering::SeqCst);
            txn.touch(Topic::Inbox);
            txn.touch(Topic::Inbox);
            Ok((txn.next_position(), txn.next_position()))
        },
    );
    let ((first, second), position) = store.write_blocking(touch).unwrap();
    assert!(first < second && second == position, "{first:?} {second:?} {position:?}");
    let refused = job(|_| Err::<(), _>("no"), |(), txn| txn.put(tables::META, "no", &Vec::new()));
    assert!(matches!(store.write_blocking(refused), Err(WriteError::Refused("no"))));
    let told = told.lock().unwrap();
    assert_eq!(told.len(), 1, "a refusal is no commit");
    assert_eq!((told[0].position, &told[0].touched), (position, &vec![Topic::Inbox]));
    assert_eq!(store.snapshot().unwrap().view().position().unwrap(), position);
}
