//! Durable deposits at a mailbox host: many depositors who share commits, as the relay's worker makes them. Printed beside the
//! fsync probe of the sitting (4 KiB, 500 times). The figures are those of the disk under the temporary folder; `TMPDIR`
//! chooses another one. Not a criterion benchmark: percentiles of single deposits are what counts.

use std::{
    fs::File,
    io::{Seek, SeekFrom, Write},
    path::Path,
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use millpond_mailbox::{
    host::{Host, HostLimits, HostStore, InEvent, MailboxRow, OutEvent, StreamId},
    host_key::{HostKey, HostSecret},
    host_protocol::{Answer, Cursor, OwnerAsk, Purpose, Request, Seq},
    mailbox::{BatchId, HostNonce, MailboxSecret},
    rand_core::UnwrapErr,
    stamp::{Class, Serial},
    time::UnixMillis,
    token::{TokenRequest, TokenSecret},
};
use millpond_store::HostDatabase;

/// Depositors at once, each waiting for STORED before the next.
const DEPOSITORS: u64 = 64;
/// Deposits of each.
const EACH: u16 = 300;
const MAILBOXES: u8 = 64;
/// As the relay's worker.
const GROUP_MAX: usize = 256;
const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

type Work = (StreamId, Bytes, Sender<Answer>);

fn main() {
    // `cargo test --benches` runs this too; a benchmark is for `cargo bench`.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let before = probe(dir.path());
    let (host, keys) = (HostSecret::from_bytes([9; 32]).public(), TokenSecret::from_bytes([10; 32]));
    let owners: Vec<MailboxSecret> = (0..MAILBOXES).map(|n| MailboxSecret::from_bytes([n; 32])).collect();
    let mut store = HostDatabase::open(&dir.path().join("relay.redb"), 64 << 20).expect("a new database");
    let mut machine = Host::new(host, keys, HostLimits::default());
    make_mailboxes(&mut machine, &mut store, host, &owners);
    let (queue, worker_queue) = channel();
    let worker = thread::spawn(move || work(machine, store, &worker_queue));
    let prepared: Vec<Vec<Bytes>> = (0..DEPOSITORS).map(|n| requests(n, host, &owners)).collect();
    let begin = Instant::now();
    let depositors: Vec<_> = prepared
        .into_iter()
        .enumerate()
        .map(|(n, requests)| {
            let queue = queue.clone();
            thread::spawn(move || deposit(StreamId(1_000 + n as u64), requests, &queue))
        })
        .collect();
    drop(queue);
    let mut times: Vec<Duration> = depositors.into_iter().flat_map(|one| one.join().expect("a depositor")).collect();
    let took = begin.elapsed();
    worker.join().expect("the worker");
    let after = probe(dir.path());
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!("fsync 4 KiB p50 before / after: {:.3} / {:.3} ms", millis(before), millis(after));
    println!("durable deposits (S, {DEPOSITORS} at once, two-phase): {:.0}/s", times.len() as f64 / took.as_secs_f64());
    println!("p50 {:.2} ms, p99 {:.2} ms = {:.1} x fsync p50", millis(at(0.5)), millis(at(0.99)), {
        at(0.99).as_secs_f64() / before.max(after).as_secs_f64()
    });
    many_mailboxes(&dir.path().join("many.redb"), host);
}

/// Resident memory of a host with many mailboxes, each polled and each with a few envelopes in it.
fn many_mailboxes(path: &Path, host: HostKey) {
    const MANY: u32 = 10_000;
    const ENVELOPES: u16 = 4;
    let before = resident();
    let mut store = HostDatabase::open(path, 64 << 20).expect("a new database");
    let secret = |n: u32| {
        let mut key = [7; 32];
        key[..4].copy_from_slice(&n.to_be_bytes());
        MailboxSecret::from_bytes(key)
    };
    for some in (0..MANY).collect::<Vec<_>>().chunks(100) {
        let written = store.write(&mut |rows| {
            for n in some {
                let owner = secret(*n);
                let (key, read_key) = (owner.mailbox_key(), owner.read_key().public());
                let (arrived, envelopes, bytes) = (Cursor(u64::from(ENVELOPES)), u32::from(ENVELOPES), 0);
                let (purpose, closes) = (Purpose::Ordinary, NOW.day());
                let row = MailboxRow { purpose, key, read_key, closes, arrived, envelopes, bytes, boxes: 0 };
                rows.create_mailbox(&owner.id(), &row)?;
                let serials: Vec<Serial> = (0..ENVELOPES).map(|serial| Serial(serial * 1_000)).collect();
                for (at, stamp) in (1..).zip(owner.issue(BatchId(1), Class::S, &serials).stamps(host)) {
                    let deposit = stamp.deposit(vec![7; Class::S.body_len()].into()).expect("the length of an S");
                    rows.put(&owner.id(), Cursor(at), &deposit)?;
                }
            }
            Ok(())
        });
        written.expect("written");
    }
    let mut machine = Host::new(host, TokenSecret::from_bytes([10; 32]), HostLimits::default());
    let mut rng = UnwrapErr(getrandom::SysRng);
    let polled = store.write(&mut |rows| {
        for n in 0..MANY {
            let (owner, stream, nonce) = (secret(n), StreamId(u64::from(n)), HostNonce([1; 32]));
            machine.handle(rows, InEvent::Opened { stream, nonce }, NOW, &mut rng)?;
            let ask = OwnerAsk::Fetch { after: Cursor(0) };
            let message = Request::owner(Seq(1), (&host, &nonce), &owner.id(), &owner.read_key(), &ask).into();
            let out = machine.handle(rows, InEvent::Request { stream, message }, NOW, &mut rng)?;
            assert!(matches!(&out[0], OutEvent::Answer { answer: Answer::Page(page), .. } if page.deposits.len() == 4));
            machine.handle(rows, InEvent::Closed { stream }, NOW, &mut rng)?;
        }
        Ok(())
    });
    polled.expect("read");
    println!("{MANY} mailboxes, all polled: {} MiB resident, {before} MiB before", resident());
}

/// Peak of this process in MiB; 0 where the system does not say.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1_024
}

fn make_mailboxes(machine: &mut Host, store: &mut HostDatabase, host: HostKey, owners: &[MailboxSecret]) {
    let (mut rng, nonce) = (UnwrapErr(getrandom::SysRng), HostNonce([1; 32]));
    let keys = TokenSecret::from_bytes([10; 32]);
    let request = TokenRequest::generate(owners.len(), &mut rng);
    let evaluated = keys.evaluate(&request.blinded(), &mut rng).expect("elements");
    let tokens = request.finish(&keys.public(), &evaluated).expect("its own key");
    let made = store.write(&mut |rows| {
        machine.handle(rows, InEvent::Opened { stream: StreamId(1), nonce }, NOW, &mut rng)?;
        for (seq, (owner, token)) in (1..).zip(owners.iter().zip(&tokens)) {
            let message = Request::create(Seq(seq), (&host, &nonce), owner, Purpose::Ordinary, token).into();
            let out = machine.handle(rows, InEvent::Request { stream: StreamId(1), message }, NOW, &mut rng)?;
            assert!(matches!(out.as_slice(), [OutEvent::Answer { answer: Answer::Done, .. }]), "{out:?}");
        }
        Ok(())
    });
    made.expect("mailboxes");
}

fn requests(n: u64, host: HostKey, owners: &[MailboxSecret]) -> Vec<Bytes> {
    let owner = &owners[n as usize % owners.len()];
    let one = |seq: u16| {
        let serial = Serial(n as u16 / MAILBOXES as u16 * EACH + seq);
        let stamp = owner.issue(BatchId(1), Class::S, &[serial]).stamps(host).remove(0);
        let body = vec![n as u8; Class::S.body_len()].into();
        Request::put(Seq(u32::from(seq) + 1), &stamp.deposit(body).expect("the length of an S")).into()
    };
    (0..EACH).map(one).collect()
}

fn deposit(stream: StreamId, requests: Vec<Bytes>, queue: &Sender<Work>) -> Vec<Duration> {
    let (reply, answers) = channel();
    let mut times = Vec::with_capacity(requests.len());
    for message in requests {
        let begin = Instant::now();
        queue.send((stream, message, reply.clone())).expect("the worker runs");
        assert_eq!(answers.recv().expect("an answer"), Answer::Done);
        times.push(begin.elapsed());
    }
    times
}

fn work(mut machine: Host, mut store: HostDatabase, queue: &Receiver<Work>) {
    let (mut rng, mut open) = (UnwrapErr(getrandom::SysRng), std::collections::BTreeSet::new());
    while let Ok(first) = queue.recv() {
        let mut group = vec![first];
        while group.len() < GROUP_MAX
            && let Ok(next) = queue.try_recv()
        {
            group.push(next);
        }
        let mut answers = Vec::new();
        let written = store.write(&mut |rows| {
            for (stream, message, _) in &group {
                if open.insert(*stream) {
                    let opened = InEvent::Opened { stream: *stream, nonce: HostNonce([0; 32]) };
                    machine.handle(rows, opened, NOW, &mut rng)?;
                }
                let request = InEvent::Request { stream: *stream, message: message.clone() };
                answers.extend(machine.handle(rows, request, NOW, &mut rng)?);
            }
            Ok(())
        });
        written.expect("written");
        for ((_, _, reply), answer) in group.into_iter().zip(answers) {
            let OutEvent::Answer { answer, .. } = answer else { panic!("an answer") };
            reply.send(answer).expect("the depositor waits");
        }
    }
}

/// The median of 500 synced writes of 4 KiB.
fn probe(folder: &Path) -> Duration {
    let mut file = File::create(folder.join("probe")).expect("a file");
    let mut times: Vec<Duration> = (0..500)
        .map(|_| {
            let begin = Instant::now();
            file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(&[7; 4_096])).expect("written");
            file.sync_data().expect("synced");
            begin.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2]
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
