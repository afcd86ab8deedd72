//! Commits, their conflicts, their invalidations and their outcomes.

use zeo_proto::{Call, Conflict, Failure, Hello, Loaded, Oid, Outcome, Reply, ServerMessage, Tid};
use zeo_server::{Limits, Server};

use crate::faulty::Faulty;
use crate::peer::{Peer, Stored, Txn};

#[test]
fn a_commit_is_one_round_trip() {
    let server = Server::in_memory().unwrap();
    let mut peer = Peer::connect(&server);
    // Everything leaves in one write, and the next message is the answer.
    let txn = Txn::new(1, 0, peer.welcome.last_tid);
    let call = peer.begin_commit(&txn, &[(1, Some(Tid::ZERO), b"a"), (2, Some(Tid::ZERO), b"b")]);
    let (message, tail) = peer.receive().unwrap();
    let ServerMessage::Reply(answered, Reply::Finished(tid)) = message else {
        panic!("{message:?}")
    };
    assert_eq!((answered, tail.len()), (call, 0));
    assert_eq!(peer.load(1, tid.next()).1, "a");
    assert_eq!(peer.load(2, tid.next()).1, "b");
}

#[test]
fn others_hear_of_a_commit_and_its_writer_does_not() {
    let server = Server::in_memory().unwrap();
    let (mut writer, mut reader) = (Peer::connect(&server), Peer::connect(&server));
    let txn = Txn::new(1, 0, Tid::ZERO);
    let tid = writer.commit(&txn, &[(2, None, b"x"), (1, None, b"y"), (2, None, b"z")]).unwrap();
    let oids = vec![Oid::new(1), Oid::new(2)];
    assert_eq!(reader.notice(), ServerMessage::Invalidate(tid, oids, false));
    // Its own commit would have come before the pong.
    assert_eq!(writer.call(Call::Ping).unwrap().0, Reply::Pong);
    assert_eq!(writer.load(2, tid.next()).1, "z", "of two stores of an object the later counts");
}

/// A client of one storage got another's invalidations when it came back.
#[test]
fn r13_a_session_hears_only_of_its_own_storage() {
    let server = Server::builder()
        .memory_storage("main")
        .memory_storage("other")
        .listen("127.0.0.1:0".parse().unwrap())
        .start()
        .unwrap();
    let other = || Peer::introduce(&server, Hello::new("other").unwrap()).unwrap();
    let (mut writer, mut watcher) = (Peer::connect(&server), Peer::connect(&server));
    let (mut other_writer, mut other_watcher) = (other(), other());
    for number in 1..4 {
        other_writer
            .commit(&Txn::new(number, 1, Tid::ZERO), &[(u64::from(number), None, b"b")])
            .unwrap();
    }
    let tid = writer.commit(&Txn::new(1, 0, Tid::ZERO), &[(7, None, b"a")]).unwrap();
    assert_eq!(watcher.notice(), ServerMessage::Invalidate(tid, vec![Oid::new(7)], false));
    for number in 1..4 {
        let ServerMessage::Invalidate(_, oids, false) = other_watcher.notice() else { panic!() };
        assert_eq!(oids, [Oid::new(number)]);
    }
    assert_eq!(other_watcher.call(Call::Ping).unwrap().0, Reply::Pong);
    assert_eq!(other_watcher.load(7, Tid::MAX).0, Loaded::Absent);
}

#[test]
fn a_stale_write_gets_a_conflict() {
    let server = Server::in_memory().unwrap();
    let mut peer = Peer::connect(&server);
    let first = peer.commit(&Txn::new(1, 0, Tid::ZERO), &[(1, Some(Tid::ZERO), b"1")]).unwrap();
    let second = peer.commit(&Txn::new(2, 0, first), &[(1, Some(first), b"2")]).unwrap();
    let conflict = Conflict { oid: Oid::new(1), committed: second, read: first };
    let stale = Txn::new(3, 0, first);
    let stores: [Stored<'_>; 2] = [(9, Some(Tid::ZERO), b"9"), (1, Some(first), b"3")];
    assert_eq!(peer.commit(&stale, &stores), Err(Failure::Conflict(conflict)));
    let unread = Txn::new(4, 0, first);
    assert_eq!(peer.commit(&unread, &[(1, None, b"3")]), Err(Failure::Conflict(conflict)));
    assert_eq!(peer.load(1, Tid::MAX).1, "2");
    assert_eq!(peer.load(9, Tid::MAX).0, Loaded::Absent, "a refused commit leaves nothing");
}

#[test]
fn an_aborted_transaction_leaves_nothing() {
    let server = Server::in_memory().unwrap();
    let mut peer = Peer::connect(&server);
    let txn = Txn::new(1, 0, Tid::ZERO);
    peer.write(&txn.begin());
    peer.write(&crate::peer::store(1, 1, None, b"a"));
    peer.say(&zeo_proto::ClientMessage::TpcAbort(1));
    assert_eq!(peer.call(Call::TpcVote(1, true)), Err(Failure::NoSuchTransaction));
    assert_eq!(peer.load(1, Tid::MAX).0, Loaded::Absent);
}

/// Whoever hears of a transaction that is not committed drops good objects, or shows bad ones.
#[test]
fn b3_what_is_not_committed_is_told_to_nobody() {
    let server = Server::in_memory().unwrap();
    let (mut writer, mut watcher) = (Peer::connect(&server), Peer::connect(&server));
    let first = writer.commit(&Txn::new(1, 0, Tid::ZERO), &[(1, None, b"a")]).unwrap();
    let stale: Stored<'_> = (1, Some(Tid::ZERO), b"b");
    assert!(writer.commit(&Txn::new(2, 0, first), &[stale, (2, None, b"b")]).is_err());
    writer.write(&Txn::new(3, 0, first).begin());
    writer.write(&crate::peer::store(3, 3, None, b"c"));
    writer.say(&zeo_proto::ClientMessage::TpcAbort(3));
    let last = writer.commit(&Txn::new(4, 0, first), &[(4, None, b"d")]).unwrap();
    for (tid, oid) in [(first, 1), (last, 4)] {
        let expected = ServerMessage::Invalidate(tid, vec![Oid::new(oid)], false);
        assert_eq!(watcher.notice(), expected);
    }
}

#[test]
fn a_commit_whose_answer_was_lost_can_be_asked_for() {
    let server = Server::in_memory().unwrap();
    let txn = Txn::new(1, 7, Tid::ZERO);
    let mut lost = Peer::connect(&server);
    let mut watcher = Peer::connect(&server);
    lost.begin_commit(&txn, &[(1, Some(Tid::ZERO), b"a")]);
    // The watcher hears of it, so it is durable; the writer goes away without its answer.
    let ServerMessage::Invalidate(tid, ..) = watcher.notice() else { panic!() };
    drop(lost);
    let mut again = Peer::connect(&server);
    assert_eq!(again.outcome(&txn), Outcome::Committed(tid));
    // Sending it again does not apply it again.
    assert_eq!(again.commit(&txn, &[(1, Some(Tid::ZERO), b"a")]), Ok(tid));
    assert_eq!(again.call(Call::LastTid).unwrap().0, Reply::LastTid(tid));
}

/// The harder half of a lost answer: the question overtakes the transaction, because the old
/// connection's bytes were still on their way. What was said to be not committed must stay so.
#[test]
fn r16_bytes_that_arrive_after_the_question_are_refused() {
    let server = Server::in_memory().unwrap();
    let (mut old, mut new) = (Peer::connect(&server), Peer::connect(&server));
    let txn = Txn::new(1, 7, Tid::ZERO);
    assert_eq!(new.outcome(&txn), Outcome::NotCommitted);
    assert_eq!(old.commit(&txn, &[(1, Some(Tid::ZERO), b"a")]), Err(Failure::Fenced));
    assert_eq!(new.load(1, Tid::MAX).0, Loaded::Absent);
    // Under a fresh name it may be committed.
    assert!(new.commit(&Txn::new(2, 7, Tid::ZERO), &[(1, Some(Tid::ZERO), b"a")]).is_ok());
}

#[test]
fn r20_a_transaction_that_outgrows_its_bound_fails_at_its_vote() {
    let limits = Limits { transaction_bytes: 10_000, ..Limits::default() };
    let server = Server::builder()
        .memory_storage("main")
        .limits(limits)
        .listen("127.0.0.1:0".parse().unwrap())
        .start()
        .unwrap();
    let mut peer = Peer::connect(&server);
    let data = [0; 4_000];
    let txn = Txn::new(1, 0, Tid::ZERO);
    let stores: Vec<_> = (0..4).map(|oid| (oid, None, &data[..])).collect();
    assert_eq!(peer.commit(&txn, &stores), Err(Failure::TransactionTooLarge(10_000)));
    assert!(peer.commit(&Txn::new(2, 0, Tid::ZERO), &stores[..2]).is_ok());
}

/// Thirteen million empty objects are within its bytes. Their invalidation is more than may wait
/// for a peer, so everybody else was disconnected.
#[test]
fn a_transaction_has_a_bounded_number_of_objects() {
    let limits = Limits { transaction_objects: 3, ..Limits::default() };
    let server = Faulty::new().serve(limits);
    let mut peer = Peer::connect(&server);
    let stores: [Stored<'_>; 4] = [1, 2, 3, 4].map(|oid| (oid, None, &b""[..]));
    let refused = peer.commit(&Txn::new(1, 0, Tid::ZERO), &stores);
    assert!(matches!(refused, Err(Failure::TransactionTooLarge(_))), "{refused:?}");
    assert!(peer.commit(&Txn::new(2, 0, Tid::ZERO), &stores[1..]).is_ok());
}

#[test]
fn oids_are_handed_out_once() {
    let server = Server::in_memory().unwrap();
    let mut seen = std::collections::BTreeSet::new();
    let mut peers = [Peer::connect(&server), Peer::connect(&server)];
    for count in [1, 10_000, 7, 60_000 % 9_999, 10_000, 10_000, 10_000, 10_000, 10_000, 10_000] {
        for peer in &mut peers {
            let (Reply::NewOids(first, got), _) = peer.call(Call::NewOids(count)).unwrap() else {
                panic!()
            };
            assert_eq!(got, count);
            for number in first.number()..first.number() + u64::from(count) {
                assert!(number > 0, "the root's name is not handed out");
                assert!(seen.insert(number), "{number} twice");
            }
        }
    }
}

/// While the index is behind, somebody who commits many objects at a time waits for it, and nobody
/// else does.
#[test]
fn large_commits_wait_for_the_index_and_small_ones_do_not() {
    let storage = Faulty::new();
    storage.set(|faults| (faults.overlay_high, faults.index_steps) = (true, u32::MAX));
    let server = storage.serve(Limits { large_commit_bytes: 1_000, ..Limits::default() });
    let (mut greedy, mut other) = (Peer::connect(&server), Peer::connect(&server));
    let large = greedy.begin_commit(&Txn::new(1, 0, Tid::ZERO), &[(1, None, &[7; 2_000])]);
    greedy.call(Call::Ping).unwrap();
    let small = other.commit(&Txn::new(1, 1, Tid::ZERO), &[(2, None, b"a")]).unwrap();
    // Not for ever, although the index never catches up.
    let (reply, _) = greedy.answer(large).unwrap();
    assert!(matches!(reply, Reply::Finished(tid) if tid > small), "{reply:?}");
}
