//! What the status says.

use serde_json::Value;
use zeo_proto::{Call, Failure, Hello, Tid};
use zeo_server::{Limits, RunningServer, Server};

use crate::faulty::Faulty;
use crate::peer::{Peer, Stored, Txn, store};

/// Each refusal was a line in the log, on a disk that was full.
#[test]
fn it_says_why_commits_are_refused_until_one_is_made() {
    let storage = Faulty::new();
    let server = storage.serve(Limits::default());
    let mut peer = Peer::connect(&server);
    let trouble = |peer: &mut Peer| main(peer)["trouble"].clone();
    assert_eq!(trouble(&mut peer), Value::Null);
    storage.set(|faults| faults.disk_full = true);
    let refused = peer.commit(&Txn::new(1, 0, Tid::ZERO), &[(1, None, b"a")]);
    assert_eq!(refused, Err(Failure::DiskFull));
    assert_eq!(trouble(&mut peer), "no space left on the disk");
    storage.set(|faults| faults.disk_full = false);
    peer.commit(&Txn::new(2, 1, Tid::ZERO), &[(1, None, b"a")]).unwrap();
    assert_eq!(trouble(&mut peer), Value::Null);
}

/// Names and types that monitoring for ZEO knows.
#[test]
fn it_has_what_tools_for_zeo_ask_for() {
    let server = Server::in_memory().unwrap();
    let mut peer = Peer::connect(&server);
    let tid = peer.commit(&Txn::new(1, 0, Tid::ZERO), &[(1, None, b"a")]).unwrap();
    let status = main(&mut peer);
    for count in ["connections", "stores", "commits"] {
        assert_eq!(status[count], 1, "{count}");
    }
    let none = ["loads", "aborts", "active_txns", "conflicts", "conflicts_resolved", "waiting"];
    for count in none {
        assert_eq!(status[count], 0, "{count}");
    }
    assert_eq!(status["lock_time"], Value::Null);
    assert_eq!(status["timeout-thread-is-alive"], true);
    assert_eq!(status["last-transaction"], tid.to_string());
    let start = status["start"].as_str().unwrap();
    assert!(start.len() == 24 && start.contains(" 20"), "{start}");
}

#[test]
fn it_says_who_holds_locks_and_how_many_wait() {
    let server = Server::in_memory().unwrap();
    let (mut holder, mut waiter) = (labelled(&server, "holder"), Peer::connect(&server));
    let mut observer = Peer::connect(&server);
    vote(&mut holder, 1, &[(1, None, b"a"), (2, None, b"b")]);
    holder.call(Call::Ping).unwrap();
    vote(&mut waiter, 2, &[(1, None, b"c")]);
    waiter.call(Call::Ping).unwrap();
    let status = main(&mut observer);
    assert_eq!((&status["lock_holders"], &status["waiting"]), (&1.into(), &1.into()));
    assert_eq!((&status["locked_objects"], &status["active_txns"]), (&3.into(), &2.into()));
    assert!(status["oldest_wait_s"].is_f64() && status["lock_time"].as_f64().unwrap() > 1e9);
    let held = &status["details"]["holders"][0];
    assert_eq!((&held["label"], &held["objects"]), (&"holder".into(), &2.into()));
    assert!(held["age_s"].is_f64() && held["address"].as_str().unwrap().contains("127.0.0.1"));
    drop((holder, waiter));
    while main(&mut observer)["connections"] != 1 {}
    let status = main(&mut observer);
    assert_eq!((&status["lock_time"], &status["oldest_wait_s"]), (&Value::Null, &Value::Null));
    assert_eq!(status["locked_objects"], 0);
}

#[test]
fn it_lists_sessions_with_what_they_hold_and_read() {
    let server = Server::in_memory().unwrap();
    let (mut first, mut second) = (labelled(&server, "first"), labelled(&server, "second"));
    let old = first.commit(&Txn::new(1, 0, Tid::ZERO), &[(1, None, b"a")]).unwrap();
    let new = first.commit(&Txn::new(2, 0, old), &[(1, None, b"b")]).unwrap();
    first.write(&Txn::new(3, 0, old).begin());
    first.write(&store(3, 2, None, &vec![7; 100_000]));
    second.write(&Txn::new(1, 1, new).begin());
    let session = |peer: &mut Peer, label| {
        peer.call(Call::Ping).unwrap();
        let sessions = main(peer)["details"]["sessions"].as_array().unwrap().clone();
        sessions.into_iter().find(|session| session["label"] == label).unwrap()
    };
    let session_of_first = session(&mut first, "first");
    assert!(session_of_first["transaction_bytes"].as_u64().unwrap() > 90_000);
    assert_eq!(session_of_first["oldest_snapshot"], old.to_string());
    assert_eq!(session_of_first["commits"], 2);
    assert_eq!(session(&mut second, "second")["oldest_snapshot"], new.to_string());
    let status = main(&mut second);
    assert_eq!(status["oldest_snapshot"], old.to_string());
    assert_eq!(status["details"]["sessions_left_out"], 0);
    first.commit(&Txn::new(4, 0, new), &[]).unwrap();
    assert_eq!(main(&mut first)["oldest_snapshot"], old.to_string(), "it is still open");
    drop(first);
    while main(&mut second)["connections"] != 1 {}
    assert_eq!(main(&mut second)["oldest_snapshot"], new.to_string());
}

#[test]
fn it_says_how_large_groups_are_and_how_long_they_take() {
    let server = Server::in_memory().unwrap();
    let mut peer = Peer::connect(&server);
    for number in 1..=20 {
        peer.commit(&Txn::new(number, 0, Tid::ZERO), &[(number.into(), None, b"a")]).unwrap();
    }
    let status = main(&mut peer);
    assert_eq!(
        (&status["group_sizes"]["p50"], &status["group_sizes"]["p99"]),
        (&1.into(), &1.into())
    );
    assert_eq!(status["group_sizes"]["buckets"], serde_json::json!([[1, 20]]));
    let micros = status["group_micros"]["buckets"].as_array().unwrap();
    let groups: u64 = micros.iter().map(|bucket| bucket[1].as_u64().unwrap()).sum();
    assert_eq!(groups, 20);
}

fn labelled(server: &RunningServer, label: &str) -> Peer {
    let mut hello = Hello::new("main").unwrap();
    label.clone_into(&mut hello.label);
    Peer::introduce(server, hello).unwrap()
}

/// Votes on a transaction without waiting for the answer.
fn vote(peer: &mut Peer, seed: u8, stores: &[Stored<'_>]) {
    peer.write(&Txn::new(1, seed, Tid::ZERO).begin());
    for &(oid, serial, data) in stores {
        peer.write(&store(1, oid, serial, data));
    }
    peer.ask(Call::TpcVote(1, false));
}

/// The status of the storage `main`.
fn main(peer: &mut Peer) -> Value {
    let (_, status) = peer.call(Call::Status).unwrap();
    let mut status: Value = serde_json::from_slice(&status).unwrap();
    status["main"].take()
}
