//! What a well-behaved client notices of a hostile peer.
//!
//! `cargo bench -p zeo-tests --bench hostile` prints a line for every kind of hostile peer that the
//! tests know: the 99th percentile of a client's cold loads, and of its durable commits, alone and
//! beside such a peer. A peer burns the CPU of the machine that it shares with the server and the
//! client; so the same is measured with the peer at a *second* daemon, which says how much of it is
//! the machine's share. The three take turns, round by round, and the samples of all rounds count.
//!
//! `-- --quick` takes fewer and shorter rounds; any other word chooses the kinds with it in their
//! name.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    reason = "a benchmark reads the clock, prints, and fails by panicking"
)]

#[path = "../../end_to_end/daemon.rs"]
#[expect(dead_code, reason = "the tests do more with it")]
mod daemon;
#[path = "../../end_to_end/hostile/kinds.rs"]
#[expect(dead_code, reason = "what becomes of them is for the tests")]
mod kinds;
#[path = "../../end_to_end/hostile/wire.rs"]
#[expect(dead_code, reason = "the tests do more with it")]
mod wire;

use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use zeo_client::Client;
use zeo_proto::{Call, Oid, Tid};

use daemon::Daemon;
use kinds::{Field, KINDS, Kind};
use wire::{Wire, begin, calls, store, vote};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let plan = if arguments.iter().any(|argument| argument == "--quick") {
        Plan { rounds: 2, slice: Duration::from_millis(150) }
    } else {
        Plan { rounds: 5, slice: Duration::from_millis(300) }
    };
    let names: Vec<_> = arguments.iter().filter(|name| !name.starts_with('-')).collect();
    let (ours, other) = (Served::start(), Served::start());
    println!("| a peer that | load, p99 alone | beside | at another server | commit, p99 alone | beside | at another server |");
    println!("|---|---|---|---|---|---|---|");
    for kind in &KINDS {
        if names.is_empty() || names.iter().any(|part| kind.name.contains(part.as_str())) {
            measure(plan, kind, &ours, &other);
        }
    }
}

/// How long to measure.
#[derive(Debug, Clone, Copy)]
struct Plan {
    rounds: usize,
    slice: Duration,
}

fn measure(plan: Plan, kind: &Kind, ours: &Served, other: &Served) {
    let [mut alone, mut beside, mut elsewhere] = [(); 3].map(|()| Samples::default());
    for _ in 0..plan.rounds {
        alone.take(plan, ours);
        under_attack(kind, ours, || beside.take(plan, ours));
        under_attack(kind, other, || elsewhere.take(plan, ours));
    }
    let loads = [&alone, &beside, &elsewhere].map(|samples| p99(&samples.loads));
    let commits = [&alone, &beside, &elsewhere].map(|samples| p99(&samples.commits));
    println!("| {} {} {}", kind.name, columns(loads), columns(commits));
}

/// The figures in microseconds, and how many times the first the others are.
fn columns([alone, beside, elsewhere]: [f64; 3]) -> String {
    let (b, e) = (beside / alone, elsewhere / alone);
    format!("| {alone:.0} µs | {beside:.0} µs ({b:.1}) | {elsewhere:.0} µs ({e:.1}) |")
}

fn under_attack(kind: &Kind, served: &Served, f: impl FnOnce()) {
    let field = Field::new(&served.daemon.address, &served.small, &served.large);
    thread::scope(|scope| {
        let attack = scope.spawn(|| (kind.attack)(&field));
        while field.strikes() == 0 && !attack.is_finished() {
            thread::yield_now();
        }
        f();
        field.end();
        attack.join().unwrap();
    });
}

/// How long things took, in microseconds.
#[derive(Default)]
struct Samples {
    loads: Vec<f64>,
    commits: Vec<f64>,
}

impl Samples {
    /// Loads and then commits for a slice of time each.
    fn take(&mut self, plan: Plan, served: &Served) {
        let field = Field::new(&served.daemon.address, &served.small, &served.large);
        let mut wire = Wire::connect(&field);
        let mut oids = served.cold.iter().cycle().skip(self.loads.len() % served.cold.len());
        timed(plan.slice, &mut self.loads, || {
            let oid = *oids.next().unwrap();
            wire.write(&calls(1, |_| Call::LoadBefore(oid, Tid::MAX))).unwrap();
            wire.answer().unwrap().unwrap();
        });
        timed(plan.slice, &mut self.commits, || {
            let name = kinds::fresh();
            let stores = store(1, Oid::new(name), Some(Tid::ZERO), &[7; 1_000]);
            wire.write(&[begin(1, name, Tid::ZERO), stores, vote(1)].concat()).unwrap();
            wire.answer().unwrap().unwrap();
        });
    }
}

fn timed(slice: Duration, into: &mut Vec<f64>, mut f: impl FnMut()) {
    let begin = Instant::now();
    while begin.elapsed() < slice {
        let start = Instant::now();
        f();
        into.push(start.elapsed().as_secs_f64() * 1e6);
    }
}

fn p99(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() * 99 / 100]
}

/// A daemon with little memory for hot objects, and what is in it.
struct Served {
    daemon: Daemon,
    /// What the hostile peers ask for.
    small: Vec<Oid>,
    large: Vec<Oid>,
    /// What the good client asks for: more than the server keeps in memory.
    cold: Vec<Oid>,
    _dir: TempDir,
}

impl Served {
    fn start() -> Self {
        let dir = tempfile::tempdir_in(".").unwrap();
        let options = ["--listen", "127.0.0.1:0", "--hot-size", "1"];
        let daemon = Daemon::start_with(dir.path(), &options);
        let db = Client::connect(&daemon.url()).unwrap();
        let [small, cold] = [3_000, 20_000].map(|count| created(&db, count, 1_000));
        let large = created(&db, 8, 1 << 20);
        Self { daemon, small, large, cold, _dir: dir }
    }
}

fn created(db: &Client, count: usize, size: usize) -> Vec<Oid> {
    let mut txn = db.begin().unwrap();
    let oids = (0..count).map(|_| txn.create(vec![7; size]).unwrap()).collect();
    txn.commit().unwrap();
    oids
}
