//! Large transactions, whose data waits in a file.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;

use zeo_proto::{Call, ClientMessage, Failure, Outcome, Reply, Tid};
use zeo_server::Limits;

use crate::faulty::Faulty;
use crate::peer::{Peer, Txn, store};

/// Of a transaction that is many times as large as all of them may be in memory, a small part is
/// in memory at any time.
#[test]
fn a_large_transaction_is_committed_out_of_a_file() {
    let server = Faulty::new().serve(limits());
    let mut peer = Peer::connect(&server);
    let txn = Txn::new(1, 0, Tid::ZERO);
    peer.write(&txn.begin());
    for oid in 0..OBJECTS {
        peer.write(&store(1, oid, None, &data(oid)));
    }
    peer.write(&store(1, 0, None, b"of two stores the later counts"));
    let (Reply::Finished(tid), _) = peer.call(Call::TpcVote(1, true)).unwrap() else { panic!() };
    assert_eq!(peer.load(0, tid.next()).1, "of two stores the later counts");
    for oid in 1..OBJECTS {
        assert_eq!(peer.load(oid, tid.next()).1, data(oid));
    }
    assert_eq!(buffered_bytes(&mut peer), 0);
}

#[test]
fn a_session_is_not_read_while_its_data_waits_for_the_file() {
    let storage = Faulty::new();
    storage.set(|faults| faults.held_spill = true);
    let server = storage.serve(limits());
    let (mut peer, mut other) = (Peer::connect(&server), Peer::connect(&server));
    peer.write(&Txn::new(1, 0, Tid::ZERO).begin());
    let mut stores = Vec::new();
    (0..OBJECTS).for_each(|oid| stores.extend(store(1, oid, None, &data(oid))));
    let taken = write_while_read(&mut peer.writer(), &stores, &mut other);
    assert!(taken < stores.len(), "it was read on");
    storage.set(|faults| faults.held_spill = false);
    peer.write(&stores[taken..]);
    // Had all of it been in memory, it would have been refused.
    assert!(matches!(peer.call(Call::TpcVote(1, true)), Ok((Reply::Finished(_), _))));
}

#[test]
fn a_vote_waits_for_the_file_and_nobody_else_does() {
    let storage = Faulty::new();
    storage.set(|faults| faults.held_spill = true);
    let server = storage.serve(limits());
    let (mut peer, mut other) = (Peer::connect(&server), Peer::connect(&server));
    let large = data(1);
    let vote = peer.begin_commit(&Txn::new(1, 0, Tid::ZERO), &[(1, None, &large)]);
    storage.wait_until(|faults| faults.spill_waited);
    // The same number may be used again at once, also for a transaction that is lost.
    peer.write(&Txn::new(1, 1, Tid::ZERO).begin());
    peer.write(&store(1, 9, None, b"of another transaction"));
    assert_eq!(peer.call(Call::Ping).unwrap().0, Reply::Pong);
    assert!(other.commit(&Txn::new(2, 2, Tid::ZERO), &[(2, None, b"small")]).is_ok());
    storage.set(|faults| faults.held_spill = false);
    let Ok((Reply::Finished(tid), _)) = peer.answer(vote) else { panic!() };
    assert_eq!(other.load(1, tid.next()).1, large);
    peer.say(&ClientMessage::TpcAbort(1));
    assert_eq!(peer.call(Call::Ping).unwrap().0, Reply::Pong);
    assert_eq!(buffered_bytes(&mut other), 0);
}

#[test]
fn a_vote_that_waits_outlives_its_session() {
    let storage = Faulty::new();
    storage.set(|faults| faults.held_spill = true);
    let server = storage.serve(limits());
    let (mut peer, mut other) = (Peer::connect(&server), Peer::connect(&server));
    let txn = Txn::new(1, 0, Tid::ZERO);
    peer.begin_commit(&txn, &[(1, None, &data(1))]);
    storage.wait_until(|faults| faults.spill_waited);
    peer.call(Call::Ping).unwrap();
    drop(peer);
    storage.set(|faults| faults.held_spill = false);
    // A stop waits for it as for any other vote; so does whoever hears of it.
    let Some((zeo_proto::ServerMessage::Invalidate(tid, ..), _)) = other.receive() else {
        panic!()
    };
    assert_eq!(other.outcome(&txn), Outcome::Committed(tid));
    assert_eq!(buffered_bytes(&mut other), 0);
}

#[test]
fn a_stop_finishes_a_vote_that_waits_for_the_file() {
    let storage = Faulty::new();
    storage.set(|faults| faults.held_spill = true);
    let server = storage.serve(limits());
    let mut peer = Peer::connect(&server);
    let vote = peer.begin_commit(&Txn::new(1, 0, Tid::ZERO), &[(1, None, &data(1))]);
    storage.wait_until(|faults| faults.spill_waited);
    peer.call(Call::Ping).unwrap();
    server.stopper().begin_stop();
    storage.set(|faults| faults.held_spill = false);
    assert!(matches!(peer.answer(vote), Ok((Reply::Finished(_), _))));
}

#[test]
fn what_is_aborted_on_its_way_into_the_file_is_forgotten() {
    let storage = Faulty::new();
    storage.set(|faults| faults.held_spill = true);
    let server = storage.serve(limits());
    let (mut peer, mut lost) = (Peer::connect(&server), Peer::connect(&server));
    for peer in [&mut peer, &mut lost] {
        peer.write(&Txn::new(1, 0, Tid::ZERO).begin());
        peer.write(&store(1, 1, None, &data(1)));
    }
    storage.wait_until(|faults| faults.spill_waited);
    peer.say(&ClientMessage::TpcAbort(1));
    lost.call(Call::Ping).unwrap();
    drop(lost);
    storage.set(|faults| faults.held_spill = false);
    assert!(peer.commit(&Txn::new(1, 3, Tid::ZERO), &[(1, Some(Tid::ZERO), &data(2))]).is_ok());
    while buffered_bytes(&mut peer) > 0 {}
}

#[test]
fn a_full_disk_refuses_a_large_transaction_and_no_other() {
    let storage = Faulty::new();
    storage.set(|faults| faults.full = true);
    let server = storage.serve(limits());
    let mut peer = Peer::connect(&server);
    let large = data(1);
    let stores: Vec<_> = (0..3).map(|oid| (oid, None, &large[..])).collect();
    assert_eq!(peer.commit(&Txn::new(1, 0, Tid::ZERO), &stores), Err(Failure::DiskFull));
    assert!(peer.commit(&Txn::new(2, 0, Tid::ZERO), &[(1, None, b"small")]).is_ok());
    assert_eq!(buffered_bytes(&mut peer), 0);
    storage.set(|faults| faults.full = false);
    let (Reply::LastTid(snapshot), _) = peer.call(Call::LastTid).unwrap() else { panic!() };
    assert!(peer.commit(&Txn::new(3, 0, snapshot), &stores).is_ok());
}

fn limits() -> Limits {
    Limits { spill_bytes: 1 << 20, buffered_bytes: BUFFERED, ..Limits::default() }
}

const BUFFERED: u64 = 8 << 20;

/// Together 64 MiB.
const OBJECTS: u64 = 32;

fn data(oid: u64) -> Vec<u8> {
    oid.to_be_bytes().repeat((2 << 20) / 8)
}

/// Writes as much as the server takes in, and says how much that was: it takes no more when the
/// socket stays full while the server does other things, again and again.
fn write_while_read(socket: &mut TcpStream, bytes: &[u8], other: &mut Peer) -> usize {
    let (mut written, mut refused) = (0, 0);
    socket.set_nonblocking(true).unwrap();
    while written < bytes.len() && refused < 20 {
        match socket.write(&bytes[written..]) {
            Ok(count) => (written, refused) = (written + count, 0),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                refused += 1;
                other.call(Call::Ping).unwrap();
            }
        }
    }
    socket.set_nonblocking(false).unwrap();
    written
}

fn buffered_bytes(peer: &mut Peer) -> u64 {
    let Ok((Reply::Status, json)) = peer.call(Call::Status) else { panic!() };
    let status: serde_json::Value = serde_json::from_slice(&json).unwrap();
    status["main"]["buffered_bytes"].as_u64().unwrap()
}
