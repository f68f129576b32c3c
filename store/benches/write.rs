//! Durable writes: one row in one commit, and many callers who share commits. The figures are those of the disk under the
//! temporary folder; `TMPDIR` chooses another one.

use std::convert::Infallible;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use millpond_store::{Job, Options, Store, job, tables};
use tokio::task::JoinSet;

/// Callers who write at the same time.
const SUBMITTERS: u64 = 64;
/// About what a message of a room writes.
const ROW: usize = 700;

fn row(n: u64) -> impl Job<Out = (), Err = Infallible> {
    job(|_| Ok(()), move |(), txn| txn.put(tables::META, format!("row {}", n % 10_000), &vec![7; ROW]))
}

fn writes(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open(&dir.path().join("db"), Options::default()).expect("a new database");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    let mut group = c.benchmark_group("store");
    group.sample_size(30);
    let mut n = 0;
    group.bench_function("one durable row", |b| {
        b.iter(|| {
            n += 1;
            store.write_blocking(row(n)).expect("written")
        });
    });
    group.throughput(Throughput::Elements(SUBMITTERS));
    group.bench_function("64 callers, a durable row each", |b| {
        b.iter(|| {
            n += SUBMITTERS;
            runtime.block_on(async {
                let mut callers = JoinSet::new();
                for caller in 0..SUBMITTERS {
                    let (store, n) = (store.clone(), n + caller);
                    callers.spawn(async move { store.write(row(n)).await.map(drop) });
                }
                while let Some(done) = callers.join_next().await {
                    done.expect("no panic").expect("written");
                }
            });
        });
    });
    group.finish();
}

criterion_group!(benches, writes);
criterion_main!(benches);
