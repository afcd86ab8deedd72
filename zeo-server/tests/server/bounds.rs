//! Bounds of what all sessions have together, and the turns that they take: each is reached here.

use std::thread;

use zeo_proto::{
    Call, Failure, Goodbye, Oid, Outcome, OutcomeQuery, Reply, ServerMessage, Tid, TxnId,
};
use zeo_server::{Limits, RunningServer, Server, StartError};

use crate::faulty::Faulty;
use crate::peer::{Peer, Stored, Txn};

/// A message may be 64 MiB, and ten thousand sessions could each send all but the end of one.
#[test]
fn the_largest_is_closed_when_all_hold_too_much() {
    let server = start(Limits { session_bytes: 9 << 20, ..Limits::default() });
    let (mut modest, mut greedy) = (Peer::connect(&server), Peer::connect(&server));
    send_half(&mut greedy, small_stores(2, 14 << 20));
    while session_bytes(&mut modest) < 6 << 20 {}
    let rest = send_half(&mut modest, small_stores(1, 6 << 20));
    let Some((ServerMessage::Goodbye(Goodbye::TookTooLong(_)), _)) = greedy.receive() else {
        panic!("no goodbye")
    };
    modest.write(&rest);
    assert!(matches!(modest.answer(1), Ok((Reply::Finished(_), _))));
    // What was held is given back.
    for number in 2..20 {
        let stores: [Stored<'_>; 1] = [(u64::from(number), None, &vec![7; 3 << 20])];
        assert!(modest.commit(&Txn::new(number, 0, Tid::ZERO), &stores).is_ok());
    }
    while session_bytes(&mut modest) > 0 {}
}

/// Before anybody is closed, who holds more than the others waits until they have finished.
#[test]
fn who_holds_more_than_others_waits_for_them() {
    let server = start(Limits { session_bytes: 60 << 20, ..Limits::default() });
    let [mut modest, mut greedy, mut observer] = [(); 3].map(|()| Peer::connect(&server));
    let rest = send_half(&mut modest, transaction(1, 2 << 20));
    thread::scope(|scope| {
        scope.spawn(|| greedy.write(&transaction(2, 24 << 20)));
        while session_bytes(&mut observer) < 30 << 20 {}
        for _ in 0..200 {
            assert_eq!(observer.call(Call::Ping).unwrap().0, Reply::Pong);
        }
        assert!(session_bytes(&mut observer) >= 30 << 20, "it was read on");
        modest.write(&rest);
        assert!(matches!(modest.answer(1), Ok((Reply::Finished(_), _))));
    });
    assert!(matches!(greedy.answer(1), Ok((Reply::Finished(_), _))));
}

/// Each was within the bound for its own output.
#[test]
fn output_that_nobody_takes_in_counts() {
    let server = start(Limits { session_bytes: 16 << 20, ..Limits::default() });
    let mut writer = Peer::connect(&server);
    let tid = writer.commit(&Txn::new(1, 0, Tid::ZERO), &[(1, None, &vec![7; 6 << 20])]).unwrap();
    let mut deaf: Vec<Peer> = (0..10).map(|_| Peer::connect(&server)).collect();
    for peer in &mut deaf {
        for _ in 0..4 {
            peer.ask(Call::LoadBefore(Oid::new(1), tid.next()));
        }
    }
    // Ten times what one may hold would be far more.
    while connections(&mut writer) > 9 {
        assert!(session_bytes(&mut writer) <= 16 << 20);
    }
    drop(deaf);
    while session_bytes(&mut writer) > 0 {}
}

/// All threads of the load stage were busy with large objects for one session, and the one object
/// that another wanted waited for them.
#[test]
fn no_session_has_all_of_the_load_stage() {
    let storage = Faulty::new();
    let server = storage.serve(Limits { load_threads: 2, ..Limits::default() });
    let (mut greedy, mut modest) = (Peer::connect(&server), Peer::connect(&server));
    storage.set(|faults| faults.held_load = Some(Oid::new(0)));
    let mut held = Vec::new();
    for modest_wants in [1_000, 2_000] {
        held.push(greedy.ask(Call::LoadBefore(Oid::new(0), Tid::MAX)));
        storage.wait_until(|faults| faults.load_waited);
        // It has been read when what comes behind it has.
        greedy.call(Call::Ping).unwrap();
        modest.load(modest_wants, Tid::MAX);
    }
    assert_eq!(storage.loaded(), [0, 1_000, 2_000].map(Oid::new));
    storage.set(|faults| faults.held_load = None);
    for call in held {
        greedy.answer(call).unwrap();
    }
}

/// The load stage took what came first: a thousand objects of one session, then the one object that
/// another wanted.
#[test]
fn who_wants_one_object_does_not_wait_for_who_wants_many() {
    let storage = Faulty::new();
    let server = storage.serve(Limits { load_threads: 1, ..Limits::default() });
    let (mut greedy, mut modest) = (Peer::connect(&server), Peer::connect(&server));
    storage.set(|faults| faults.held_load = Some(Oid::new(0)));
    for oid in 0..200 {
        greedy.ask(Call::LoadBefore(Oid::new(oid), Tid::MAX));
    }
    storage.wait_until(|faults| faults.load_waited);
    // It has been read when what comes behind it has.
    greedy.call(Call::Ping).unwrap();
    let call = modest.ask(Call::LoadBefore(Oid::new(1_000), Tid::MAX));
    modest.call(Call::Ping).unwrap();
    storage.set(|faults| faults.held_load = None);
    modest.answer(call).unwrap();
    let loaded = storage.loaded();
    let place = loaded.iter().position(|&oid| oid == Oid::new(1_000)).unwrap();
    assert!(place < 10, "{place} loads went before");
}

/// A peer could fence so many names that the floor rose over other clients' transactions.
#[test]
fn a_session_may_fence_so_many_transactions_and_no_more() {
    let server = start(Limits::default());
    let (mut peer, mut other) = (Peer::connect(&server), Peer::connect(&server));
    let epoch = peer.welcome.identity.epoch;
    let query = |n: u32| {
        let mut id = [3; 16];
        id[..4].copy_from_slice(&n.to_be_bytes());
        let id = TxnId::from_bytes(id);
        Call::Outcome(OutcomeQuery { id, snapshot: Tid::ZERO, epoch })
    };
    let not_committed = Reply::Outcome(Outcome::NotCommitted);
    for n in 0..1_024 {
        assert_eq!(peer.call(query(n)).unwrap().0, not_committed);
    }
    assert_eq!(peer.call(query(1_024)), Err(Failure::Busy));
    assert_eq!(other.call(query(1_024)).unwrap().0, not_committed);
}

#[test]
fn limits_that_would_serve_nobody_are_refused() {
    let limits = Limits { load_threads: 0, ..Limits::default() };
    let builder = Server::builder().memory_storage("main").limits(limits);
    let error = builder.listen("127.0.0.1:0".parse().unwrap()).start().unwrap_err();
    assert!(matches!(&error, StartError::Limits(why) if why.contains("load_threads")), "{error}");
}

fn start(limits: Limits) -> RunningServer {
    let address = "127.0.0.1:0".parse().unwrap();
    Server::builder().memory_storage("main").limits(limits).listen(address).start().unwrap()
}

/// The bytes of a transaction that stores one object of that size.
fn transaction(seed: u8, size: usize) -> Vec<u8> {
    let stores: [Stored<'_>; 1] = [(u64::from(seed) << 32, None, &vec![7; size])];
    Txn::new(1, seed, Tid::ZERO).bytes(1, &stores)
}

/// The bytes of a transaction of that size in small stores: what is held for it is what was sent.
fn small_stores(seed: u8, size: usize) -> Vec<u8> {
    let (data, first): (&[u8], _) = (&vec![7; 64 << 10], u64::from(seed) << 32);
    let count = (size / data.len()) as u64;
    let stores: Vec<Stored<'_>> = (first..first + count).map(|oid| (oid, None, data)).collect();
    Txn::new(1, seed, Tid::ZERO).bytes(1, &stores)
}

/// Sends the first half of a transaction, and returns the rest of it.
fn send_half(peer: &mut Peer, mut bytes: Vec<u8>) -> Vec<u8> {
    let rest = bytes.split_off(bytes.len() / 2);
    peer.write(&bytes);
    rest
}

fn session_bytes(peer: &mut Peer) -> u64 {
    status(peer)["main"]["session_bytes"].as_u64().unwrap()
}

fn connections(peer: &mut Peer) -> u64 {
    status(peer)["main"]["connections"].as_u64().unwrap()
}

fn status(peer: &mut Peer) -> serde_json::Value {
    serde_json::from_slice(&peer.call(Call::Status).unwrap().1).unwrap()
}
