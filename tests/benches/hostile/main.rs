//! What a well-behaved client notices of a hostile peer.
//!
//! `cargo bench -p zeo-tests --bench hostile` prints a line for every kind of hostile peer that the
//! tests know: the 99th percentile of a client's cold loads, and of its durable commits, alone and
//! beside such a peer. A peer gets the CPU when nobody else wants it, because a real one burns a CPU
//! of its own.
//! What it takes of this machine nonetheless is told apart by a control: the same is measured with
//! the peer at a *second* daemon. The three take turns, round by round; a figure is the median of
//! its rounds.
//!
//! `-- --quick` takes fewer and shorter rounds, `--dir=PATH` says where the daemons keep their data;
//! any other word chooses the kinds with it in their name.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a benchmark reads the clock, prints, and fails by panicking"
)]

#[path = "../../end_to_end/daemon.rs"]
#[expect(dead_code, reason = "the tests do more with it")]
mod daemon;
#[path = "../../end_to_end/hostile/field.rs"]
mod field;
#[path = "../../end_to_end/hostile/kinds.rs"]
#[expect(dead_code, reason = "what becomes of them is for the tests")]
mod kinds;
#[path = "../../end_to_end/hostile/wire.rs"]
#[expect(dead_code, reason = "the tests do more with it")]
mod wire;

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use zeo_client::Client;
use zeo_proto::{Call, Oid, Tid};

use daemon::Daemon;
use field::Field;
use kinds::{KINDS, Kind};
use wire::{Wire, begin, calls, store, vote};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let plan = if arguments.iter().any(|argument| argument == "--quick") {
        Plan { rounds: 3, slice: Duration::from_millis(100) }
    } else {
        Plan { rounds: 7, slice: Duration::from_millis(300) }
    };
    let names: Vec<_> = arguments.iter().filter(|name| !name.starts_with('-')).collect();
    let dir = arguments.iter().find_map(|argument| argument.strip_prefix("--dir=")).unwrap_or(".");
    let (ours, other) = (Served::start(dir), Served::start(dir));
    println!(
        "| a peer that | load, p99 alone | beside | at another server | commit, p99 alone | beside | at another server |"
    );
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
    let [mut alone, mut beside, mut elsewhere] = [(); 3].map(|()| Rounds::default());
    for _ in 0..plan.rounds {
        alone.take(plan, ours);
        under_attack(kind, ours, || beside.take(plan, ours));
        under_attack(kind, other, || elsewhere.take(plan, ours));
    }
    let loads = [&alone, &beside, &elsewhere].map(|rounds| middle(&rounds.loads));
    let commits = [&alone, &beside, &elsewhere].map(|rounds| middle(&rounds.commits));
    println!("| {} {} {} |", kind.name, columns(loads), columns(commits));
}

/// The figures in microseconds, and how many times the first the others are.
fn columns([alone, beside, elsewhere]: [f64; 3]) -> String {
    let (b, e) = (beside / alone, elsewhere / alone);
    format!("| {alone:.0} µs | {beside:.0} µs ({b:.1}) | {elsewhere:.0} µs ({e:.1})")
}

fn under_attack(kind: &Kind, served: &Served, f: impl FnOnce()) {
    let field = Field::new(&served.daemon.address, &served.small, &served.large);
    thread::scope(|scope| {
        let attack = scope.spawn(|| {
            leave_the_cpu_to_others();
            (kind.attack)(&field);
        });
        while field.strikes() == 0 && !attack.is_finished() {
            thread::yield_now();
        }
        f();
        field.end();
        attack.join().unwrap();
    });
}

/// A hostile peer has a machine of its own; here it gets what the server and its clients leave. By
/// the scheduler's idle policy, since a thread of low priority still keeps its CPU for a slice of
/// some milliseconds when another one wakes.
fn leave_the_cpu_to_others() {
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    let status = Command::new("chrt").args(["--idle", "--pid", "0", &thread]).status().unwrap();
    assert!(status.success(), "chrt, of util-linux: {status}");
}

/// The 99th percentile of each round, in microseconds.
#[derive(Default)]
struct Rounds {
    loads: Vec<f64>,
    commits: Vec<f64>,
}

impl Rounds {
    /// Loads and then commits for a slice of time each.
    fn take(&mut self, plan: Plan, served: &Served) {
        let field = Field::new(&served.daemon.address, &served.small, &served.large);
        let mut wire = Wire::connect(&field);
        let mut oids = served.cold.iter().cycle().skip(self.loads.len() * 3_000);
        self.loads.push(p99(plan.slice, || {
            let oid = *oids.next().unwrap();
            wire.write(&calls(1, |_| Call::LoadBefore(oid, Tid::MAX))).unwrap();
            wire.answer().unwrap().unwrap();
        }));
        self.commits.push(p99(plan.slice, || {
            let name = kinds::fresh();
            let stores = store(1, Oid::new(name), Some(Tid::ZERO), &[7; 1_000]);
            wire.write(&[begin(1, name, Tid::ZERO), stores, vote(1)].concat()).unwrap();
            wire.answer().unwrap().unwrap();
        }));
    }
}

/// What all but one in a hundred of what `f` does stay below.
fn p99(slice: Duration, mut f: impl FnMut()) -> f64 {
    let (begin, mut times) = (Instant::now(), Vec::new());
    while begin.elapsed() < slice {
        let start = Instant::now();
        f();
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    times[times.len() * 99 / 100]
}

fn middle(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
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
    fn start(dir: &str) -> Self {
        let dir = tempfile::tempdir_in(dir).unwrap();
        let options = ["--listen", "127.0.0.1:0", "--hot-size", "1MiB"];
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
