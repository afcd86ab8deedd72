//! Transactions that are larger than what the daemon keeps in memory.

use bytes::Bytes;
use zeo_client::Client;

use crate::daemon::Daemon;

/// All of a transaction was in memory, more than once while it was written, and again when the
/// daemon was started after a kill.
#[test]
fn a_large_transaction_costs_little_memory() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(dir.path(), "127.0.0.1:0");
    let db = Client::connect(&daemon.url()).unwrap();
    let mut txn = db.begin().unwrap();
    let first = db.new_oid().unwrap();
    txn.store(first, data(0)).unwrap();
    let oids: Vec<_> = (1..OBJECTS)
        .map(|number| {
            let oid = db.new_oid().unwrap();
            txn.store(oid, data(number)).unwrap();
            oid
        })
        .collect();
    db.commit(txn).unwrap();
    let peak = peak_memory(daemon.pid());
    assert!(peak < MOST, "{} MiB at most while it was committed", peak >> 20);
    drop(db);
    daemon.kill();

    let daemon = Daemon::start(dir.path(), "127.0.0.1:0");
    let db = Client::connect(&daemon.url()).unwrap();
    for (oid, number) in oids.iter().zip(1..).step_by(9) {
        assert_eq!(db.load(*oid).unwrap().data, data(number), "{oid}");
    }
    let peak = peak_memory(daemon.pid());
    assert!(peak < MOST, "{} MiB at most after a kill", peak >> 20);
}

/// 192 MiB in all.
const OBJECTS: u32 = 48;
const MOST: u64 = 128 << 20;

fn data(number: u32) -> Bytes {
    number.to_be_bytes().repeat(1 << 20).into()
}

/// The most memory that a process has had, in bytes.
fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() << 10
}
