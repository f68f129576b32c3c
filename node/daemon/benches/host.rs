//! A whole `millpond relay` as a process with 10,000 mailboxes: what it takes of memory, and how fast depositors get STORED over real streams, beside the
//! fsync probe of the sitting (4 KiB, 500 times). Not a criterion benchmark: percentiles of single deposits are what counts.
//!
//! `cargo bench -p millpond --bench host`; `MILLPOND` names another binary, `TMPDIR` another disk. On a machine with `taskset` the host has one core, and
//! this process the others.

use std::{
    fs::File,
    io::{BufRead, BufReader, Seek, SeekFrom, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use data_encoding::BASE64_NOPAD;
use millpond_mailbox::{
    deposit::Deposit,
    host::{HostStore, HostTotals, MailboxRow},
    host_key::{HostKey, HostSecret},
    host_link::HostLink,
    host_protocol::{Cursor, Purpose},
    mailbox::{BatchId, MailboxSecret},
    stamp::{Class, Serial},
    time::UnixMillis,
};
use millpond_overlay::{
    host_client::{ClientLimits, Depositor, HostClient},
    transport::{
        Transport,
        libp2p::{Libp2p, Libp2pConfig},
    },
};
use millpond_store::HostDatabase;

const MAILBOXES: u32 = 10_000;
/// In each mailbox before anything is measured.
const ENVELOPES: u16 = 4;
/// Depositors at once, each waiting for STORED before the next; half of what one address may have open.
const DEPOSITORS: u32 = 64;
/// The name of the variable that gives another number: at 64 the one core of the host is what is waited for.
const DEPOSITORS_VARIABLE: &str = "DEPOSITORS";
/// Deposits of each.
const EACH: u32 = 400;
/// Owners who read at once.
const OWNERS: u32 = 32;

fn main() {
    // `cargo test --benches` runs this too; a benchmark is for `cargo bench`.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    millpond_overlay::install_crypto_provider();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let folder = dir.path().join("relay");
    // The first start makes the keys.
    Host::start(&folder).stop();
    let host = host_key(&folder);
    fill(&folder.join("relay.redb"), host);
    let running = Host::start(&folder);
    println!(
        "{MAILBOXES} mailboxes with {ENVELOPES} envelopes each, one process: {} MiB resident at its start",
        running.resident("VmRSS:")
    );
    let before = probe(dir.path());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(read_all(&running.link));
    println!("all of them read by {OWNERS} owners at once: {} MiB", running.resident("VmRSS:"));
    let count = std::env::var(DEPOSITORS_VARIABLE).map_or(DEPOSITORS, |count| count.parse().expect("a number"));
    let (times, took) = runtime.block_on(deposit_all(count, &running.link, host));
    let after = probe(dir.path());
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    let fsync = before.max(after);
    println!("fsync 4 KiB p50 before / after: {:.3} / {:.3} ms", millis(before), millis(after));
    println!("durable deposits (S, {count} depositors over streams): {:.0}/s", times.len() as f64 / took.as_secs_f64());
    let ratio = at(0.99).as_secs_f64() / fsync.as_secs_f64();
    println!("p50 {:.2} ms, p99 {:.2} ms = {ratio:.1} x fsync p50", millis(at(0.5)), millis(at(0.99)));
    println!("peak {} MiB, processor {:.1} s of the host in all", running.resident("VmHWM:"), running.cpu_seconds());
    running.stop();
}

/// The host's process.
struct Host {
    child: Child,
    link: HostLink,
    /// Kept open: who prints into a closed pipe is ended by that.
    _printed: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Host {
    fn start(folder: &Path) -> Self {
        let binary = std::env::var("MILLPOND").unwrap_or_else(|_| env!("CARGO_BIN_EXE_millpond").to_owned());
        let one_core = Command::new("taskset").arg("--version").stdout(Stdio::null()).status().is_ok();
        let mut command = if one_core { Command::new("taskset") } else { Command::new(&binary) };
        if one_core {
            command.args(["-c", "0", &binary]);
        }
        command.args(["relay", "--port", "0", "--addresses", "127.0.0.1", "--tor", "off", "--data-dir"]).arg(folder);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the binary");
        let mut printed = BufReader::new(child.stdout.take().expect("its output")).lines();
        let first = printed.next().expect("the link").expect("readable");
        let link = HostLink::parse(first.strip_prefix("Host link: ").expect("the link")).expect("its link");
        Self { child, link, _printed: printed }
    }

    /// A line of `/proc/PID/status` in MiB; 0 where there is none.
    fn resident(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1_024
    }

    /// Of all its threads, in user and system mode; ticks are hundredths on Linux.
    fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        fields.iter().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
    }

    fn stop(mut self) {
        let told = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill");
        assert!(told.success() && self.child.wait().expect("its end").success(), "it ends in order");
    }
}

/// The host's key, out of its key file.
fn host_key(folder: &Path) -> HostKey {
    let text = std::fs::read_to_string(folder.join("keys")).expect("its keys");
    let first = text.lines().next().expect("three lines");
    let bytes: [u8; 32] = BASE64_NOPAD.decode(first.as_bytes()).expect("base64").try_into().expect("32 bytes");
    HostSecret::from_bytes(bytes).public()
}

fn mailbox(n: u32) -> MailboxSecret {
    let mut key = [7; 32];
    key[..4].copy_from_slice(&n.to_be_bytes());
    MailboxSecret::from_bytes(key)
}

fn deposit(n: u32, serial: u16, host: HostKey) -> Deposit {
    let stamp = mailbox(n).issue(BatchId(1), Class::S, &[Serial(serial)]).stamps(host).remove(0);
    let mut body = vec![0; Class::S.body_len()];
    getrandom::fill(&mut body).expect("randomness");
    stamp.deposit(body.into()).expect("the length of an S")
}

/// Writes what months of use would: tokens for so many mailboxes are given out one each two seconds.
fn fill(path: &Path, host: HostKey) {
    let mut store = HostDatabase::open(path, 64 << 20).expect("its database");
    let closes = UnixMillis(now_ms()).after(Duration::from_secs(30 * 86_400)).day();
    for some in (0..MAILBOXES).collect::<Vec<_>>().chunks(200) {
        let written = store.write(&mut |rows| {
            let mut totals = rows.totals()?;
            for n in some {
                let owner = mailbox(*n);
                let (key, read_key) = (owner.mailbox_key(), owner.read_key().public());
                let (arrived, envelopes) = (Cursor(u64::from(ENVELOPES)), u32::from(ENVELOPES));
                let bytes = u64::from(ENVELOPES) * 4_244;
                let row = MailboxRow {
                    purpose: Purpose::Ordinary,
                    key,
                    read_key,
                    closes,
                    arrived,
                    envelopes,
                    bytes,
                    boxes: 0,
                };
                rows.create_mailbox(&owner.id(), &row)?;
                for serial in 0..ENVELOPES {
                    rows.put(&owner.id(), Cursor(u64::from(serial) + 1), &deposit(*n, serial, host))?;
                }
                totals = HostTotals { mailboxes: totals.mailboxes + 1, bytes: totals.bytes + bytes, ..totals };
            }
            rows.put_totals(&totals)
        });
        written.expect("written");
    }
}

fn client() -> HostClient {
    let fresh = || Ok(Box::new(Libp2p::new(Libp2pConfig::default())?) as Box<dyn Transport>);
    HostClient::new(Arc::new(fresh), ClientLimits::default())
}

async fn read_all(link: &HostLink) {
    let client = client();
    let mut owners = tokio::task::JoinSet::new();
    for owner in 0..OWNERS {
        let (asked, _arrivals) = client.owner(&link.way).await.expect("a connection");
        owners.spawn(async move {
            for n in (owner..MAILBOXES).step_by(OWNERS as usize) {
                let page = asked.fetch(&mailbox(n), Cursor(0)).await.expect("a page");
                assert_eq!(page.deposits.len(), usize::from(ENVELOPES));
            }
        });
    }
    while let Some(done) = owners.join_next().await {
        done.expect("an owner");
    }
    client.stop().await;
}

/// The times of all deposits, the shortest first, and how long all of them took.
async fn deposit_all(count: u32, link: &HostLink, host: HostKey) -> (Vec<Duration>, Duration) {
    let client = client();
    let mut ready: Vec<(Depositor, Vec<Deposit>)> = Vec::new();
    for depositor in 0..count {
        // Everybody writes to other mailboxes, each time to another one.
        let to = |seq: u32| (depositor + seq * count) % MAILBOXES;
        let serial = |seq: u32| ENVELOPES + u16::try_from((depositor + seq * count) / MAILBOXES).unwrap_or(0);
        let deposits = (0..EACH).map(|seq| deposit(to(seq), serial(seq), host)).collect();
        ready.push((client.depositor(&link.way).await.expect("a connection"), deposits));
    }
    let begin = Instant::now();
    let mut depositors = tokio::task::JoinSet::new();
    for (depositor, deposits) in ready {
        depositors.spawn(async move {
            let mut times = Vec::with_capacity(deposits.len());
            for deposit in &deposits {
                let begin = Instant::now();
                depositor.put(deposit).await.expect("STORED");
                times.push(begin.elapsed());
            }
            times
        });
    }
    let mut times = Vec::new();
    while let Some(done) = depositors.join_next().await {
        times.extend(done.expect("a depositor"));
    }
    let took = begin.elapsed();
    client.stop().await;
    times.sort_unstable();
    (times, took)
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

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
    u64::try_from(since.as_millis()).expect("fits")
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
