//! `kill -9` of the real daemon under load.
//!
//! Workers go on through the kills: their client reconnects, and finds out about each commit whose
//! answer was lost. So at the end it is known of every single commit whether it was made, and
//! every counter must be exactly what its worker counted: nothing lost, nothing applied twice.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use zeo_client::Client;
use zeo_proto::Oid;

use crate::daemon::Daemon;

#[test]
fn every_acknowledged_commit_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(dir.path(), "127.0.0.1:0");
    let address = daemon.address.clone();
    let db = Client::connect(&daemon.url()).unwrap();
    let pairs: Vec<[Oid; 2]> = (0..WORKERS).map(|_| make_pair(&db)).collect();
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    let counts = thread::scope(|scope| {
        let (db, stop, acknowledged) = (&db, &stop, &acknowledged);
        let work = |&pair: &_| scope.spawn(move || count_up(db, pair, stop, acknowledged));
        let workers: Vec<_> = pairs.iter().map(work).collect();
        for round in 0..ROUNDS {
            // Each life of the daemon does some work before its end comes, unannounced.
            let goal = acknowledged.load(Ordering::Relaxed) + 50 + 37 * round;
            wait_until("commits are acknowledged", || acknowledged.load(Ordering::Relaxed) >= goal);
            daemon.kill();
            daemon = Daemon::start(dir.path(), &address);
        }
        stop.store(true, Ordering::Relaxed);
        workers.into_iter().map(|worker| worker.join().unwrap()).collect::<Vec<u64>>()
    });
    drop(db);
    daemon.kill();
    let daemon = Daemon::start(dir.path(), &address);
    let db = Client::connect(&daemon.url()).unwrap();
    for (pair, count) in pairs.into_iter().zip(counts) {
        let values = pair.map(|oid| number(&db.load(oid).unwrap().data));
        assert_eq!(values, [count, count], "of one worker");
    }
}

/// Two objects that are always written together.
fn make_pair(db: &Client) -> [Oid; 2] {
    let mut txn = db.begin().unwrap();
    let pair = [txn.create("0").unwrap(), txn.create("0").unwrap()];
    txn.commit().unwrap();
    pair
}

/// Increments both of a pair, one commit after the other; how many were made.
fn count_up(db: &Client, pair: [Oid; 2], stop: &AtomicBool, acknowledged: &AtomicU64) -> u64 {
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut txn = db.begin().unwrap();
        for oid in pair {
            let value = number(&txn.load(oid).unwrap().data);
            assert_eq!(value, count, "what was committed before is read");
            txn.store(oid, (value + 1).to_string()).unwrap();
        }
        txn.commit().unwrap();
        count += 1;
        acknowledged.fetch_add(1, Ordering::Relaxed);
    }
    count
}

fn number(data: &[u8]) -> u64 {
    std::str::from_utf8(data).unwrap().parse().unwrap()
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_mins(1), "waited a minute until {what}");
        thread::yield_now();
    }
}

const WORKERS: usize = 4;
const ROUNDS: u64 = 5;
