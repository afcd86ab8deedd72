//! `kill -9` of the real daemon under mixed load, and while it starts.
//!
//! Workers go on through the kills: their client reconnects and finds out about each commit whose
//! answer was lost, or they ask themselves. So it is known of every single commit whether it was
//! made, and after each round every revision of every object must be exactly what was
//! acknowledged: nothing lost, nothing torn, nothing applied twice, nothing from nowhere.
//!
//! ```text
//! ZEO_ROUNDS=50 cargo test --release -p zeo-tests --test end_to_end crash -- --nocapture
//! ```
//!
//! runs as many rounds as it says, and prints each of them and the sums.

mod ledger;
mod report;
mod worker;

use std::thread;
use std::time::{Duration, Instant};

use zeo_client::Client;
use zeo_server::storage::disk::Random;

use crate::daemon::Daemon;
use ledger::Ledger;
use report::Report;
use worker::{Shared, Worker};

#[test]
fn every_acknowledged_commit_survives_kill_9() {
    let mut scene = Scene::new(1);
    let mut daemon = scene.start_anew();
    for _ in 0..rounds() {
        daemon = scene.round(daemon, Scene::start);
    }
    scene.report.print_sums("killed under load");
}

#[test]
fn every_acknowledged_commit_survives_kills_while_starting() {
    let mut scene = Scene::new(2);
    let mut daemon = scene.start_anew();
    scene.fill(&daemon);
    for _ in 0..rounds() {
        daemon = scene.round(daemon, Scene::start_after_failed_starts);
    }
    scene.report.print_sums("killed under load, then while starting");
}

/// A store, those who use it, and what it must hold.
struct Scene {
    random: Random,
    dir: tempfile::TempDir,
    workers: Vec<Worker>,
    ledger: Ledger,
    report: Report,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            random: Random::new(seed),
            dir,
            workers: Vec::new(),
            ledger: Ledger::default(),
            report: Report::default(),
        }
    }

    /// Lets the workers go on until the daemon is killed and some time after it is back, and
    /// compares all there is with all that was acknowledged.
    fn round(&mut self, mut daemon: Daemon, restart: impl FnOnce(&mut Self) -> Daemon) -> Daemon {
        self.hire(&daemon);
        let shared = Shared::default();
        let goal = 20 + self.random.below(200);
        let mut workers = std::mem::take(&mut self.workers);
        let daemon = thread::scope(|scope| {
            for worker in &mut workers {
                scope.spawn(|| worker.work(&shared));
            }
            shared.await_commits(goal);
            daemon.kill();
            let daemon = restart(self);
            shared.await_commits(20);
            shared.end();
            daemon
        });
        for worker in &mut workers {
            self.ledger.absorb(worker.take_made());
            self.report.add(worker.take_tally());
        }
        self.workers = workers;
        self.verify(&daemon);
        daemon
    }

    fn verify(&mut self, daemon: &Daemon) {
        let start = Instant::now();
        let verdict = self.ledger.verify(&connect(daemon));
        self.report.end_round(&verdict, start.elapsed());
        assert!(verdict.wrong.is_empty(), "{:#?}", verdict.wrong);
    }

    /// Starts the daemon, which may have to be built before.
    fn start_anew(&self) -> Daemon {
        Daemon::start_with(self.dir.path(), &self.options())
    }

    /// Starts the daemon again, and notes how long that takes.
    fn start(&mut self) -> Daemon {
        let start = Instant::now();
        let daemon = self.start_anew();
        self.report.restarts.push(start.elapsed());
        daemon
    }

    /// Kills the daemon a few times at any moment of its start or shortly after it, some of them
    /// with an index that has to be built from nothing, and then starts it.
    fn start_after_failed_starts(&mut self) -> Daemon {
        let usual = self.report.median_restart().unwrap_or(FIRST_START);
        for _ in 0..=self.random.below(3) {
            self.maybe_lose_the_index();
            let permille = u32::try_from(self.random.below(1_300)).unwrap();
            let moment = usual * permille / 1_000;
            let ready = Daemon::start_and_kill(self.dir.path(), &self.options(), moment);
            self.report.killed_starts += 1;
            self.report.killed_unready += u64::from(!ready);
        }
        self.maybe_lose_the_index();
        self.start()
    }

    fn maybe_lose_the_index(&mut self) {
        let index = self.dir.path().join("main/index");
        if self.random.below(2) == 0 && index.exists() {
            std::fs::remove_dir_all(index).unwrap();
            self.report.lost_indices += 1;
        }
    }

    fn options(&self) -> Vec<String> {
        // A Unix socket is not taken by somebody else while the daemon is down.
        let socket = format!("unix:{}", self.dir.path().join("socket").display());
        ["--listen", &socket, "--small-sizes"].map(str::to_owned).into()
    }

    /// Makes so many objects that the index takes a while to build.
    fn fill(&mut self, daemon: &Daemon) {
        let db = connect(daemon);
        let mut filler = Worker::new(&db, 0);
        for _ in 0..60 {
            filler.create(100).unwrap();
        }
        self.ledger.absorb(filler.take_made());
    }

    fn hire(&mut self, daemon: &Daemon) {
        for number in self.workers.len()..WORKERS {
            // One waits until the daemon is back; the other gives up and asks later.
            let patience = [Duration::from_mins(2), Duration::from_millis(50)][number % 2];
            let options = Client::options().wait_timeout(patience);
            let db = options.connect(&daemon.url()).unwrap();
            self.workers.push(Worker::new(&db, number as u64 + 1));
        }
    }
}

fn connect(daemon: &Daemon) -> Client {
    Client::connect(&daemon.url()).unwrap()
}

fn rounds() -> u64 {
    std::env::var("ZEO_ROUNDS").map_or(5, |text| text.parse().expect("ZEO_ROUNDS is a number"))
}

/// How long a start is thought to take before it is known.
const FIRST_START: Duration = Duration::from_millis(200);
const WORKERS: usize = 4;
