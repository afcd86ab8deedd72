//! Votes without a finish: object locks, who waits for them, and how they are let go of.

use std::time::Duration;

use zeo_proto::{
    Call, CallId, ClientMessage, Conflict, ConflictFound, Failure, Goodbye, Loaded, Oid, Outcome,
    Reply, ServerMessage, Tid, Validity,
};
use zeo_server::{Limits, RunningServer, Server};

use crate::faulty::Faulty;
use crate::peer::{Answer, Peer, Stored, Txn, store};

#[test]
fn a_vote_is_seen_by_nobody_until_it_is_finished() {
    let server = Server::in_memory().unwrap();
    let (mut voter, mut reader) = (Peer::connect(&server), Peer::connect(&server));
    voter.vote(&Txn::new(1, 0, Tid::ZERO), &[new(1)]).unwrap();
    assert_eq!(reader.load(1, Tid::MAX).0, Loaded::Absent);
    let tid = finished(voter.call(Call::TpcFinish(1)));
    assert_eq!(reader.notice(), ServerMessage::Invalidate(tid, vec![Oid::new(1)], false));
    assert_eq!(reader.load(1, Tid::MAX).1, "a");
    assert_eq!(voter.call(Call::TpcFinish(1)), Err(Failure::NoSuchTransaction));
}

#[test]
fn a_vote_with_a_conflict_ends_its_transaction() {
    let server = Server::in_memory().unwrap();
    let mut peer = Peer::connect(&server);
    let tid = peer.commit(&Txn::new(1, 0, Tid::ZERO), &[new(1)]).unwrap();
    let conflict = Conflict { oid: Oid::new(1), committed: tid, read: Tid::ZERO };
    assert_eq!(peer.vote(&Txn::new(2, 0, tid), &[new(1)]), Err(Failure::Conflict(conflict)));
    assert_eq!(peer.call(Call::TpcFinish(2)), Err(Failure::NoSuchTransaction));
    peer.vote(&Txn::new(2, 1, tid), &[new(2)]).unwrap();
    assert_eq!(peer.call(Call::TpcVote(3, false)), Err(Failure::NoSuchTransaction));
}

/// Between a vote and its finish nobody else may change its objects, or the finish would have to
/// fail when other storages have finished.
#[test]
fn a_commit_in_one_round_trip_waits_for_a_vote_on_its_object() {
    let server = Server::in_memory().unwrap();
    let (mut voter, mut other) = (Peer::connect(&server), Peer::connect(&server));
    voter.vote(&Txn::new(1, 0, Tid::ZERO), &[new(1)]).unwrap();
    let waits = other.begin_commit(&Txn::new(1, 1, Tid::ZERO), &[new(1)]);
    let passes = other.commit(&Txn::new(2, 1, Tid::ZERO), &[new(2)]).unwrap();
    let tid = finished(voter.call(Call::TpcFinish(1)));
    let conflict = Conflict { oid: Oid::new(1), committed: tid, read: Tid::ZERO };
    assert_eq!(other.answer(waits), Err(Failure::Conflict(conflict)));
    assert!(passes < tid);
}

/// A vote that went through the commit stage waited for the syncs of everybody's commits.
#[test]
fn a_vote_waits_for_commits_of_its_objects_and_for_no_others() {
    let storage = Faulty::new();
    let server = storage.serve(Limits::default());
    let [mut voter, mut writer, mut other] = [(); 3].map(|()| Peer::connect(&server));
    voter.call(Call::NewOids(10)).unwrap();
    let tid = writer.commit(&Txn::new(1, 0, Tid::ZERO), &[new(1), new(2)]).unwrap();
    storage.set(|faults| faults.held_apply = true);
    let commit = writer.begin_commit(&Txn::new(2, 0, tid), &[(1, Some(tid), b"b")]);
    storage.wait_until(|faults| faults.apply_waited);
    let queued = other.begin_commit(&Txn::new(1, 1, tid), &[(4, None, b"b")]);
    other.call(Call::Ping).unwrap();
    // By its serial, as a new object, and as one that was not read.
    voter.vote(&Txn::new(1, 2, tid), &[(2, Some(tid), b"c"), new(3), (5, None, b"c")]).unwrap();
    let overtaken = [(2, 1), (3, 4)].map(|(number, oid)| {
        let serial = Some(if oid == 1 { tid } else { Tid::ZERO });
        voter.begin_vote(&Txn::new(number, 2, tid), &[(oid, serial, b"c")])
    });
    voter.call(Call::Ping).unwrap();
    storage.set(|faults| faults.held_apply = false);
    let [first, second] = [writer.answer(commit), other.answer(queued)].map(finished);
    for (call, (oid, committed, read)) in
        overtaken.into_iter().zip([(1, first, tid), (4, second, Tid::ZERO)])
    {
        let conflict = Conflict { oid: Oid::new(oid), committed, read };
        assert_eq!(voter.answer(call), Err(Failure::Conflict(conflict)));
    }
    assert!(finished(voter.call(Call::TpcFinish(1))) > second);
}

/// Its second vote was granted the locks that its first one let go of, was on its way into the
/// commit stage at once, and lost its locks there, because the session was gone.
#[test]
fn a_session_that_goes_does_not_hand_its_locks_to_itself() {
    let server = Server::in_memory().unwrap();
    let (mut goes, mut other) = (Peer::connect(&server), Peer::connect(&server));
    let tid = goes.commit(&Txn::new(1, 0, Tid::ZERO), &[new(1)]).unwrap();
    let store: Stored<'_> = (1, Some(tid), b"b");
    goes.vote(&Txn::new(2, 0, tid), &[store]).unwrap();
    goes.send(&Txn::new(3, 0, tid), &[store], Call::TpcVoteResolving(3, true));
    goes.call(Call::Ping).unwrap();
    drop(goes);
    let call = other.begin_vote(&Txn::new(1, 1, tid), &[store]);
    assert!(matches!(other.answer(call), Ok((Reply::Voted, _))));
    finished(other.call(Call::TpcFinish(1)));
}

/// Each that was refused let the next one through from within, and a thousand were too many for
/// the stack.
#[test]
fn many_who_wait_for_one_object_can_all_be_refused() {
    let storage = Faulty::new();
    let server = storage.serve(Limits::default());
    let [mut voter, mut one, mut two] = [(); 3].map(|()| Peer::connect(&server));
    voter.vote(&Txn::new(1, 0, Tid::ZERO), &[new(1)]).unwrap();
    let stale = Some(Tid::new(1));
    let waiting = [&mut one, &mut two].map(|peer| {
        let vote = |number| peer.begin_vote(&Txn::new(number, 1, Tid::ZERO), &[(1, stale, b"b")]);
        (1..=250).map(vote).collect::<Vec<_>>()
    });
    storage.set(|faults| faults.held_apply = true);
    let last = voter.begin_commit(&Txn::new(2, 0, Tid::ZERO), &[new(2)]);
    storage.wait_until(|faults| faults.apply_waited);
    storage.set(|faults| {
        faults.held_apply = false;
        (faults.overlay_full, faults.index_failures) = (true, u32::MAX);
    });
    finished(voter.answer(last));
    let full = voter.commit(&Txn::new(3, 0, Tid::ZERO), &[new(3)]);
    assert!(matches!(full, Err(Failure::StorageFailed(_))), "{full:?}");
    voter.say(&ClientMessage::TpcAbort(1));
    for (peer, calls) in [&mut one, &mut two].into_iter().zip(waiting) {
        for call in calls {
            let answer = peer.answer(call);
            assert!(matches!(answer, Err(Failure::StorageFailed(_))), "{answer:?}");
        }
    }
}

#[test]
fn an_abort_lets_the_next_through() {
    let server = Server::in_memory().unwrap();
    let (mut voter, mut other) = (Peer::connect(&server), Peer::connect(&server));
    voter.vote(&Txn::new(1, 0, Tid::ZERO), &[new(1)]).unwrap();
    let waits = other.begin_commit(&Txn::new(1, 1, Tid::ZERO), &[new(1)]);
    voter.say(&ClientMessage::TpcAbort(1));
    finished(other.answer(waits));
}

/// The call of a vote that was aborted while it waited was never answered, and counted as one in
/// flight for ever: after 256 of them the connection was not read any more.
#[test]
fn a_vote_that_is_aborted_while_it_waits_is_answered() {
    let server = Server::in_memory().unwrap();
    let (mut voter, mut other) = (Peer::connect(&server), Peer::connect(&server));
    voter.vote(&Txn::new(1, 0, Tid::ZERO), &[new(1)]).unwrap();
    for _ in 0..300 {
        let waits = other.begin_vote(&Txn::new(1, 1, Tid::ZERO), &[new(1)]);
        other.say(&ClientMessage::TpcAbort(1));
        assert_eq!(other.answer(waits), Err(Failure::NoSuchTransaction));
    }
    other.say(&ClientMessage::TpcAbort(1));
    assert!(matches!(other.call(Call::Ping), Ok((Reply::Pong, _))), "nothing else is answered");
}

/// A lock was handed to a waiter that was gone, and nobody could commit any more.
#[test]
fn r19_locks_pass_over_those_who_have_gone() {
    let server = Server::in_memory().unwrap();
    let mut peers: Vec<Peer> = (0..12).map(|_| Peer::connect(&server)).collect();
    let calls: Vec<CallId> = (0_u8..)
        .zip(&mut peers)
        .map(|(seed, peer)| peer.begin_vote(&Txn::new(1, seed, Tid::ZERO), &[new(1)]))
        .collect();
    assert!(matches!(peers[0].answer(calls[0]), Ok((Reply::Voted, _))));
    // The first holds; of those who wait, every other one goes away, some after an abort.
    let mut left = Vec::new();
    for (number, mut peer) in peers.into_iter().enumerate() {
        match number % 4 {
            0 | 2 => left.push((peer, calls[number])),
            1 => drop(peer),
            _ => {
                peer.say(&ClientMessage::TpcAbort(1));
                peer.say(&ClientMessage::Goodbye(Goodbye::Closed));
            }
        }
    }
    // Each gets the locks when the one before it lets go: by an abort, by leaving, by a commit.
    let last = left.len() - 1;
    for (number, (mut peer, call)) in left.into_iter().enumerate() {
        if number > 0 {
            assert!(matches!(peer.answer(call), Ok((Reply::Voted, _))), "{number}");
        }
        match number {
            _ if number == last => drop(finished(peer.call(Call::TpcFinish(1)))),
            0 | 2 => peer.say(&ClientMessage::TpcAbort(1)),
            _ => drop(peer),
        }
    }
    let mut peer = Peer::connect(&server);
    assert!(peer.commit(&Txn::new(1, 99, Tid::ZERO), &[new(2)]).is_ok());
}

#[test]
fn those_who_only_depend_on_an_object_vote_side_by_side() {
    let server = Server::in_memory().unwrap();
    let (mut one, mut two) = (Peer::connect(&server), Peer::connect(&server));
    let tid = one.commit(&Txn::new(1, 0, Tid::ZERO), &[new(1), new(2), new(3)]).unwrap();
    let depending = |peer: &mut Peer, seed, written| {
        peer.write(&Txn::new(2, seed, tid).begin());
        peer.say(&ClientMessage::ReadCurrent(2, Oid::new(1), tid));
        peer.write(&store(2, written, Some(tid), b"b"));
        assert!(matches!(peer.call(Call::TpcVote(2, false)), Ok((Reply::Voted, _))));
    };
    depending(&mut one, 1, 2);
    depending(&mut two, 2, 3);
    let mut writer = Peer::connect(&server);
    let waits = writer.begin_commit(&Txn::new(1, 3, tid), &[(1, Some(tid), b"c")]);
    finished(one.call(Call::TpcFinish(2)));
    finished(two.call(Call::TpcFinish(2)));
    finished(writer.answer(waits));
}

/// Each reads what the other writes: both may not commit.
#[test]
fn two_transactions_that_depend_on_what_the_other_writes_do_not_both_commit() {
    let server = Server::in_memory().unwrap();
    let (mut one, mut two) = (Peer::connect(&server), Peer::connect(&server));
    let tid = one.commit(&Txn::new(1, 0, Tid::ZERO), &[new(1), new(2)]).unwrap();
    let skewed = |peer: &mut Peer, seed, read, written| {
        peer.write(&Txn::new(2, seed, tid).begin());
        peer.say(&ClientMessage::ReadCurrent(2, Oid::new(read), tid));
        peer.write(&store(2, written, Some(tid), b"b"));
        peer.ask(Call::TpcVote(2, false))
    };
    let first = skewed(&mut one, 1, 1, 2);
    assert!(matches!(one.answer(first), Ok((Reply::Voted, _))));
    let second = skewed(&mut two, 2, 2, 1);
    let committed = finished(one.call(Call::TpcFinish(2)));
    let conflict = Conflict { oid: Oid::new(2), committed, read: tid };
    assert_eq!(two.answer(second), Err(Failure::Conflict(conflict)));
}

#[test]
fn who_holds_locks_too_long_is_aborted_and_disconnected() {
    let limits = Limits { lock_hold: Duration::from_millis(50), ..Limits::default() };
    let server = server(limits);
    let (mut voter, mut other) = (Peer::connect(&server), Peer::connect(&server));
    voter.vote(&Txn::new(1, 0, Tid::ZERO), &[new(1)]).unwrap();
    let waits = other.begin_commit(&Txn::new(1, 1, Tid::ZERO), &[new(1)]);
    finished(other.answer(waits));
    let ServerMessage::Goodbye(Goodbye::TookTooLong(why)) = voter.notice() else { panic!() };
    assert!(why.starts_with("held object locks"), "{why}");
    assert_eq!(voter.receive(), None);
}

#[test]
fn who_waits_too_long_is_told_who_holds_the_lock() {
    let limits = Limits { lock_wait: Duration::from_millis(50), ..Limits::default() };
    let server = server(limits);
    let (mut voter, mut other) = (Peer::connect(&server), Peer::connect(&server));
    voter.vote(&Txn::new(1, 0, Tid::ZERO), &[new(1)]).unwrap();
    let Err(Failure::Locked(oid, by)) = other.commit(&Txn::new(1, 1, Tid::ZERO), &[new(1)]) else {
        panic!()
    };
    assert_eq!(oid, Oid::new(1));
    assert!(by.contains("127.0.0.1:") && by.ends_with(" s"), "{by}");
    finished(voter.call(Call::TpcFinish(1)));
    let retried = other.vote(&Txn::new(2, 1, Tid::ZERO), &[new(2)]);
    assert!(retried.is_ok(), "what waited has left the queue");
}

#[test]
fn no_more_votes_wait_than_the_bound() {
    let server = server(Limits { waiting_votes: 2, ..Limits::default() });
    let (mut voter, mut other) = (Peer::connect(&server), Peer::connect(&server));
    voter.vote(&Txn::new(1, 0, Tid::ZERO), &[new(1)]).unwrap();
    let waiting: Vec<_> = (1..=2)
        .map(|number| other.begin_commit(&Txn::new(number, 1, Tid::ZERO), &[new(1)]))
        .collect();
    assert_eq!(other.commit(&Txn::new(3, 1, Tid::ZERO), &[new(1)]), Err(Failure::Busy));
    voter.say(&ClientMessage::TpcAbort(1));
    finished(other.answer(waiting[0]));
    assert!(matches!(other.answer(waiting[1]), Err(Failure::Conflict(_))));
}

#[test]
fn a_conflict_can_be_resolved_under_the_locks() {
    let server = Server::in_memory().unwrap();
    let (mut peer, mut other) = (Peer::connect(&server), Peer::connect(&server));
    let first = peer.commit(&Txn::new(1, 0, Tid::ZERO), &[new(1), new(2)]).unwrap();
    let second = other.commit(&Txn::new(1, 1, first), &[(1, Some(first), b"theirs")]).unwrap();
    let stores: [Stored<'_>; 2] = [(1, Some(first), b"mine"), (2, Some(first), b"mine")];
    let call = peer.send(&Txn::new(2, 0, first), &stores, Call::TpcVoteResolving(2, true));
    let (reply, data) = peer.answer(call).unwrap();
    let conflict = Conflict { oid: Oid::new(1), committed: second, read: first };
    let loaded = Loaded::Revision(Validity { serial: second, end: None }, 6);
    assert_eq!(reply, Reply::Conflicts(vec![ConflictFound { conflict, found: Some(loaded) }]));
    assert_eq!(data, "theirs");
    // Whoever comes now waits, so resolving is not in vain.
    let waits = other.begin_commit(&Txn::new(2, 1, second), &[(1, Some(second), b"again")]);
    peer.write(&store(2, 1, Some(second), b"both"));
    let third = finished(peer.call(Call::TpcVoteResolving(2, true)));
    let conflict = Conflict { oid: Oid::new(1), committed: third, read: second };
    assert_eq!(other.answer(waits), Err(Failure::Conflict(conflict)));
    assert_eq!(peer.load(1, Tid::MAX).1, "both");
    assert_eq!(peer.load(2, Tid::MAX).1, "mine");
}

#[test]
fn resolving_that_writes_more_objects_queues_anew() {
    let server = Server::in_memory().unwrap();
    let (mut peer, mut other) = (Peer::connect(&server), Peer::connect(&server));
    let first = peer.commit(&Txn::new(1, 0, Tid::ZERO), &[new(1), new(2)]).unwrap();
    let second = other.commit(&Txn::new(1, 1, first), &[(1, Some(first), b"b")]).unwrap();
    // The other waits for the first object and holds the second: waiting for it now with locks in
    // hand would never end.
    other.vote(&Txn::new(2, 1, second), &[(2, Some(first), b"c")]).unwrap();
    let mine = [(1, Some(first), &b"d"[..])];
    let call = peer.send(&Txn::new(2, 0, first), &mine, Call::TpcVoteResolving(2, false));
    assert!(matches!(peer.answer(call), Ok((Reply::Conflicts(_), _))));
    let waits = other.begin_vote(&Txn::new(3, 1, second), &[(1, Some(second), b"e")]);
    peer.write(&[store(2, 1, Some(second), b"f"), store(2, 2, Some(first), b"f")].concat());
    let again = peer.ask(Call::TpcVoteResolving(2, false));
    assert!(matches!(other.answer(waits), Ok((Reply::Voted, _))), "it was let go of");
    other.say(&ClientMessage::TpcAbort(3));
    other.say(&ClientMessage::TpcAbort(2));
    assert!(matches!(peer.answer(again), Ok((Reply::Voted, _))));
    finished(peer.call(Call::TpcFinish(2)));
}

#[test]
fn a_transaction_is_resolved_so_often_and_no_more() {
    let server = Server::in_memory().unwrap();
    let mut peer = Peer::connect(&server);
    let tid = peer.commit(&Txn::new(1, 0, Tid::ZERO), &[new(1)]).unwrap();
    let stubborn = [(1, Some(Tid::ZERO), &b"b"[..])];
    let call = peer.send(&Txn::new(2, 0, tid), &stubborn, Call::TpcVoteResolving(2, true));
    assert!(matches!(peer.answer(call), Ok((Reply::Conflicts(_), _))));
    let again = std::iter::repeat_with(|| peer.call(Call::TpcVoteResolving(2, true)));
    let answers: Vec<Answer> = again.take(10).collect();
    assert!(answers[..9].iter().all(|answer| matches!(answer, Ok((Reply::Conflicts(_), _)))));
    assert!(matches!(answers[9], Err(Failure::Conflict(_))), "{answers:?}");
    let mut other = Peer::connect(&server);
    assert!(other.commit(&Txn::new(1, 1, tid), &[(1, Some(tid), b"c")]).is_ok());
}

/// A client that resolves a conflict and goes away, or aborts, holds nothing.
#[test]
fn locks_that_are_kept_for_resolving_are_let_go_of() {
    let server = Server::in_memory().unwrap();
    let tid = Peer::connect(&server).commit(&Txn::new(1, 0, Tid::ZERO), &[new(1)]).unwrap();
    for (seed, aborts) in [(1, true), (2, false)] {
        let mut peer = Peer::connect(&server);
        let txn = Txn::new(1, seed, tid);
        let call = peer.send(&txn, &[new(1)], Call::TpcVoteResolving(1, true));
        assert!(matches!(peer.answer(call), Ok((Reply::Conflicts(_), _))));
        let mut other = Peer::connect(&server);
        let txn = Txn::new(1, seed + 10, tid);
        let waits = other.begin_vote(&txn, &[(1, Some(tid), b"b")]);
        if aborts {
            peer.say(&ClientMessage::TpcAbort(1));
        } else {
            drop(peer);
        }
        assert!(matches!(other.answer(waits), Ok((Reply::Voted, _))));
    }
}

/// Whoever was told "not committed" must be able to rely on it, voted or not.
#[test]
fn a_vote_whose_name_is_fenced_is_not_finished() {
    let server = Server::in_memory().unwrap();
    let (mut old, mut new_one) = (Peer::connect(&server), Peer::connect(&server));
    let txn = Txn::new(1, 7, Tid::ZERO);
    old.vote(&txn, &[new(1)]).unwrap();
    assert_eq!(new_one.outcome(&txn), Outcome::NotCommitted);
    assert_eq!(old.call(Call::TpcFinish(1)), Err(Failure::Fenced));
    assert!(new_one.commit(&Txn::new(2, 7, Tid::ZERO), &[new(1)]).is_ok(), "its locks are free");
}

#[test]
fn an_open_number_cannot_be_begun_again_while_it_is_voted_on() {
    let server = Server::in_memory().unwrap();
    let mut peer = Peer::connect(&server);
    peer.vote(&Txn::new(1, 0, Tid::ZERO), &[new(1)]).unwrap();
    peer.write(&Txn::new(1, 1, Tid::ZERO).begin());
    assert!(matches!(peer.notice(), ServerMessage::Goodbye(Goodbye::ProtocolError(_))));
}

#[test]
fn a_restored_transaction_keeps_its_tid() {
    let server = Server::in_memory().unwrap();
    let (mut peer, mut watcher) = (Peer::connect(&server), Peer::connect(&server));
    let tid = Tid::new(0x0300_0000_0000_0000);
    let restore = |peer: &mut Peer, seed, tid, vote: fn(u32, bool) -> Call, finish| {
        peer.write(&Txn::new(1, seed, Tid::ZERO).begin());
        peer.say(&ClientMessage::Restore(1, tid));
        peer.write(&store(1, 1, Some(Tid::new(5)), b"a"));
        peer.call(vote(1, finish))
    };
    assert_eq!(restore(&mut peer, 1, tid, Call::TpcVote, false), Err(Failure::Unsupported));
    assert_eq!(finished(restore(&mut peer, 2, tid, Call::TpcVote, true)), tid);
    assert_eq!(watcher.notice(), ServerMessage::Invalidate(tid, vec![Oid::new(1)], false));
    let again = restore(&mut peer, 3, tid, Call::TpcVote, true);
    assert_eq!(again, Err(Failure::TidOutOfOrder(tid)));
}

/// A stop waits for those who were told that their vote holds, but not for ever.
#[test]
fn a_vote_may_be_finished_while_the_server_stops() {
    let limits = Limits { stop: Duration::from_secs(2), ..Limits::default() };
    let server = server(limits);
    let (mut voter, mut idle) = (Peer::connect(&server), Peer::connect(&server));
    voter.vote(&Txn::new(1, 0, Tid::ZERO), &[new(1)]).unwrap();
    idle.vote(&Txn::new(1, 1, Tid::ZERO), &[new(2)]).unwrap();
    server.stopper().begin_stop();
    let mut other = voter.begin_commit(&Txn::new(2, 0, Tid::ZERO), &[new(3)]);
    while voter.answer(other) != Err(Failure::Stopping) {
        other = voter.begin_commit(&Txn::new(2, 0, Tid::ZERO), &[new(3)]);
    }
    let tid = finished(voter.call(Call::TpcFinish(1)));
    assert_eq!(idle.notice(), ServerMessage::Invalidate(tid, vec![Oid::new(1)], false));
    assert_eq!(idle.notice(), ServerMessage::Goodbye(Goodbye::Stopping));
    assert!(server.wait(Duration::from_mins(1)));
}

fn server(limits: Limits) -> RunningServer {
    let listen = "127.0.0.1:0".parse().unwrap();
    Server::builder().memory_storage("main").limits(limits).listen(listen).start().unwrap()
}

fn new(oid: u64) -> Stored<'static> {
    (oid, Some(Tid::ZERO), b"a")
}

fn finished(answer: Answer) -> Tid {
    match answer {
        Ok((Reply::Finished(tid), _)) => tid,
        other => panic!("{other:?}"),
    }
}

impl Peer {
    /// Sends a transaction and this vote.
    fn send(&mut self, txn: &Txn, stores: &[Stored<'_>], vote: Call) -> CallId {
        let stores = stores.iter().map(|&(oid, serial, data)| store(txn.number, oid, serial, data));
        let bytes: Vec<_> = std::iter::once(txn.begin()).chain(stores).collect();
        self.write(&bytes.concat());
        self.ask(vote)
    }

    /// Sends a transaction and a vote that does not finish it.
    fn begin_vote(&mut self, txn: &Txn, stores: &[Stored<'_>]) -> CallId {
        self.send(txn, stores, Call::TpcVote(txn.number, false))
    }

    /// Votes, and waits for the answer.
    fn vote(&mut self, txn: &Txn, stores: &[Stored<'_>]) -> Result<(), Failure> {
        let call = self.begin_vote(txn, stores);
        match self.answer(call)? {
            (Reply::Voted, _) => Ok(()),
            (other, _) => panic!("{other:?}"),
        }
    }
}
