//! `cargo run -p millpond-tests -- sim`: runs the simulator, see docs/simulator.md.

use std::{
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use millpond_tests::sim::{
    plan::Plan,
    run::{Report, run},
    stats::Stats,
};

/// What was asked for.
struct Asked {
    seeds: u64,
    from: u64,
    nodes: usize,
    hosts: usize,
    threads: usize,
    trace: bool,
    flood: Option<usize>,
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() != Some("sim") {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    }
    match parse(words) {
        Ok(asked) => simulate(&asked),
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Asked, String> {
    let mut asked = Asked { seeds: 10, from: 0, nodes: 20, hosts: 3, threads: 1, trace: false, flood: None };
    while let Some(word) = words.next() {
        if word == "--trace" {
            asked.trace = true;
            continue;
        }
        let value = words.next().and_then(|value| value.parse::<u64>().ok());
        let value = value.ok_or_else(|| format!("{word} needs a number"))?;
        let small = usize::try_from(value).unwrap_or(usize::MAX);
        match word.as_str() {
            "--seeds" => asked.seeds = value,
            "--from" => asked.from = value,
            "--seed" => (asked.from, asked.seeds) = (value, 1),
            "--nodes" if (2..=64).contains(&value) => asked.nodes = small,
            "--hosts" if (1..=16).contains(&value) => asked.hosts = small,
            "--threads" if (1..=64).contains(&value) => asked.threads = small,
            "--flood" => asked.flood = Some(small),
            _ => return Err(format!("{word} {value} is not known, or out of bounds")),
        }
    }
    Ok(asked)
}

fn simulate(asked: &Asked) -> ExitCode {
    let (begun, next) = (Instant::now(), AtomicU64::new(asked.from));
    let end = asked.from + asked.seeds;
    let work = || {
        let (mut sum, mut failed) = (Stats::default(), Vec::new());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return (sum, failed);
            }
            let began = Instant::now();
            let report = run(plan(asked, seed), asked.trace);
            sum += report.stats;
            show(&report, began);
            if !report.faults.is_empty() {
                failed.push(seed);
            }
        }
    };
    let (sum, mut failed) = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..asked.threads).map(|_| scope.spawn(work)).collect();
        let mut all = (Stats::default(), Vec::new());
        for thread in threads {
            let (sum, failed) = thread.join().expect("a run does not panic");
            all.0 += sum;
            all.1.extend(failed);
        }
        all
    });
    failed.sort_unstable();
    println!("{} seeds in {:.1} s, failed: {failed:?}\n{sum:#?}", asked.seeds, begun.elapsed().as_secs_f64());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn plan(asked: &Asked, seed: u64) -> Plan {
    match asked.flood {
        Some(events) => Plan::flood(seed, events),
        None => Plan::of_seed(seed, asked.nodes, asked.hosts),
    }
}

fn show(report: &Report, began: Instant) {
    let Report { seed, faults, stats, digest, lines } = report;
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "seed {seed}: {} events, {} messages, {} deposits, {} kills, {} hellos, {} branches, healed in {:.1} d; {lines} lines {digest}; {seconds:.2} s",
        stats.events,
        stats.messages,
        stats.deposits,
        stats.kills,
        stats.hellos,
        stats.branches,
        stats.healed_ms as f64 / 86_400_000.0,
    );
    for fault in faults.iter().take(8) {
        println!("  seed {seed} FAILED: {fault}");
    }
}

const USAGE: &str = "usage: millpond-tests sim [--seeds N] [--from SEED] [--seed SEED] [--nodes N] [--hosts N] [--threads N] [--flood EVENTS] [--trace]";
