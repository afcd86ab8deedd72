//! Conflicts that are resolved while their objects are locked.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use zeo_client::{
    Client, CommitError, Conflict, NotCommitted, Oid, Outcome, ResolvableConflict, TxnId,
};
use zeo_proto::{
    Call, CallId, ClientMessage, ConflictFound, Loaded, OutcomeQuery, Reply, ServerMessage, Store,
    Validity,
};

use crate::scene::{Scene, data, loaded, look, tid};

#[test]
fn what_is_resolved_is_stored_and_voted_on_again() {
    let mut scene = Scene::new();
    scene.fill(1, 5, None);
    let resolve = |it: &ResolvableConflict| {
        assert_eq!((it.oid, &it.base.as_ref()?.data), (Oid::new(1), &data(5)));
        Some([&it.theirs.data[..], b" and ", &it.mine].concat().into())
    };
    let mut commit = pin!(scene.client.nb().commit_resolving(scene.change(), resolve));
    assert!(look(commit.as_mut()).is_none());
    let (call, _) = heard(&mut scene);
    reply_conflicts(&mut scene, call, &[found(Some(loaded(9, None)))]);
    scene.go_on(commit.as_mut());
    assert_eq!(scene.message(), store(9, "as of 9 and changed"));
    let call = scene.expect(&Call::TpcVoteResolving(1, true));
    scene.reply(call, Reply::Finished(tid(12)));
    assert_eq!(scene.finish(commit), Ok(tid(12)));
    assert_eq!(scene.client.load(Oid::new(1)).unwrap().data, "as of 9 and changed");
    assert_eq!(scene.client.statistics().conflicts_resolved, 1);
}

#[test]
fn who_has_no_conflict_resolves_nothing() {
    let mut scene = Scene::new();
    let resolve = |_: &_| panic!("there is none");
    let mut commit = pin!(scene.client.nb().commit_resolving(scene.change(), resolve));
    assert!(look(commit.as_mut()).is_none());
    let (call, _) = heard(&mut scene);
    scene.reply(call, Reply::Finished(tid(12)));
    assert_eq!(scene.finish(commit), Ok(tid(12)));
    assert_eq!(scene.client.statistics().conflicts_resolved, 0);
}

#[test]
fn what_there_was_no_room_for_is_loaded() {
    let mut scene = Scene::new();
    let resolve = |it: &ResolvableConflict| Some(it.theirs.data.clone());
    let mut commit = pin!(scene.client.nb().commit_resolving(scene.change(), resolve));
    assert!(look(commit.as_mut()).is_none());
    let (call, _) = heard(&mut scene);
    reply_conflicts(&mut scene, call, &[found(None)]);
    for (before, serial, end) in [(10, 9, None), (6, 5, Some(9))] {
        scene.go_on(commit.as_mut());
        let call = scene.expect(&Call::LoadBefore(Oid::new(1), tid(before)));
        scene.reply_loaded(call, serial, end);
    }
    scene.go_on(commit.as_mut());
    assert_eq!(scene.message(), store(9, "as of 9"));
}

#[test]
fn what_is_not_resolved_ends_in_the_conflict_and_lets_go_of_the_locks() {
    let gone = Loaded::Deleted(Validity { serial: tid(9), end: None });
    for (there, resolves) in [(loaded(9, None), false), (gone, true)] {
        let mut scene = Scene::new();
        scene.fill(1, 5, None);
        let resolve = |_: &_| resolves.then(Bytes::new);
        let mut commit = pin!(scene.client.nb().commit_resolving(scene.change(), resolve));
        assert!(look(commit.as_mut()).is_none());
        let (call, _) = heard(&mut scene);
        reply_conflicts(&mut scene, call, &[found(Some(there))]);
        assert_eq!(scene.finish(commit), Err(CommitError::Conflict(conflict())));
        assert_eq!(scene.message().0, ClientMessage::TpcAbort(1));
        assert_eq!(scene.cached(1, 11), None, "R23: what was stale is evicted");
    }
}

#[test]
fn what_was_only_read_is_not_resolved() {
    let mut scene = Scene::new();
    let mut txn = scene.client.begin().unwrap();
    txn.saw(Oid::new(1), tid(5));
    txn.read_current(Oid::new(1)).unwrap();
    txn.store_new(Oid::new(2), "new").unwrap();
    let resolve = |_: &_| panic!("nothing is stored");
    let mut commit = pin!(scene.client.nb().commit_resolving(txn, resolve));
    assert!(look(commit.as_mut()).is_none());
    let call = vote_heard(&mut scene);
    reply_conflicts(&mut scene, call, &[found(Some(loaded(9, None)))]);
    assert_eq!(scene.finish(commit), Err(CommitError::Conflict(conflict())));
}

// R18: the locks are gone with the connection.
#[test]
fn r18_a_connection_that_is_lost_while_conflicts_are_resolved_is_noticed() {
    let mut scene = Scene::new();
    scene.fill(1, 5, None);
    let resolve = |_: &_| Some(Bytes::from("both"));
    let mut commit = pin!(scene.client.nb().commit_resolving(scene.change(), resolve));
    assert!(look(commit.as_mut()).is_none());
    let (call, _) = heard(&mut scene);
    reply_conflicts(&mut scene, call, &[found(Some(loaded(9, None)))]);
    scene.flow();
    scene.cut();
    assert_eq!(scene.finish(commit), Err(NotCommitted::Lost.into()));
    scene.until(|scene| scene.client.is_connected());
    scene.expect_nothing();
}

#[test]
fn what_was_resolved_is_sent_again_with_all_the_rest() {
    let mut scene = Scene::new();
    scene.fill(1, 5, None);
    let mut txn = scene.change();
    txn.store_new(Oid::new(2), "new").unwrap();
    let resolve = |_: &_| Some(Bytes::from("both"));
    let mut commit = pin!(scene.client.nb().commit_resolving(txn, resolve));
    assert!(look(commit.as_mut()).is_none());
    let (call, id) = heard(&mut scene);
    reply_conflicts(&mut scene, call, &[found(Some(loaded(9, None)))]);
    scene.go_on(commit.as_mut());
    assert_eq!(scene.message(), store(9, "both"));
    scene.expect(&Call::TpcVoteResolving(1, true));
    scene.cut();
    let (snapshot, epoch) = (tid(10), 1);
    let call = scene.expect(&Call::Outcome(OutcomeQuery { id, snapshot, epoch }));
    scene.reply(call, Reply::Outcome(Outcome::NotCommitted));
    let (ClientMessage::TpcBegin(2, begin), _) = scene.message() else { panic!() };
    assert_ne!(begin.id, id);
    let mut stored = Vec::new();
    let call = loop {
        match scene.message() {
            (ClientMessage::Store(2, store), data) => stored.push((store.oid.number(), data)),
            (ClientMessage::Call(call, Call::TpcVoteResolving(2, true)), _) => break call,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(stored, [(2, Bytes::from("new")), (1, Bytes::from("both"))]);
    scene.reply(call, Reply::Finished(tid(12)));
    assert_eq!(scene.finish(commit), Ok(tid(12)));
}

#[test]
fn a_future_that_is_dropped_lets_go_of_the_locks() {
    let mut scene = Scene::new();
    let resolve = |_: &_| Some(Bytes::new());
    let mut commit = Box::pin(scene.client.nb().commit_resolving(scene.change(), resolve));
    assert!(look(commit.as_mut()).is_none());
    let (call, _) = heard(&mut scene);
    reply_conflicts(&mut scene, call, &[found(None)]);
    scene.flow();
    drop(commit);
    assert_eq!(scene.message().0, ClientMessage::TpcAbort(1));
}

#[test]
fn conflicts_that_come_too_late_are_let_go_of() {
    let mut scene = Scene::with(&Client::options().call_timeout(Duration::from_secs(1)));
    let resolve = |_: &_| panic!("nobody waits");
    let mut commit = pin!(scene.client.nb().commit_resolving(scene.change(), resolve));
    assert!(look(commit.as_mut()).is_none());
    let (call, _) = heard(&mut scene);
    assert!(matches!(scene.finish(commit), Err(CommitError::Unknown(_))));
    reply_conflicts(&mut scene, call, &[found(Some(loaded(9, None)))]);
    assert_eq!(scene.message().0, ClientMessage::TpcAbort(1));
}

// The first vote is known to have committed nothing, and the second has not left.
#[test]
fn a_client_that_closes_before_it_votes_again_has_committed_nothing() {
    let mut scene = Scene::new();
    scene.fill(1, 5, None);
    let resolve = |_: &_| Some(Bytes::from(vec![7; 4 << 20]));
    let mut txn = scene.change();
    txn.store(Oid::new(2), vec![7; 4 << 20]).unwrap();
    let mut commit = pin!(scene.client.nb().commit_resolving(txn, resolve));
    assert!(look(commit.as_mut()).is_none());
    let (call, _) = heard(&mut scene);
    let other = Conflict { oid: Oid::new(2), committed: tid(9), read: tid(0) };
    let other = ConflictFound { conflict: other, found: None };
    reply_conflicts(&mut scene, call, &[found(Some(loaded(9, None))), other]);
    scene.go_on(commit.as_mut());
    let call = scene.expect(&Call::LoadBefore(Oid::new(2), tid(10)));
    scene.reply_loaded(call, 9, None);
    scene.flow();
    scene.stop_reading();
    scene.go_on(commit.as_mut());
    scene.client.close();
    assert_eq!(scene.finish(commit), Err(CommitError::Closed));
}

#[test]
fn conflicts_without_end_are_given_up() {
    let mut scene = Scene::new();
    scene.fill(1, 5, None);
    let resolve = |_: &_| Some(Bytes::from("both"));
    let mut commit = pin!(scene.client.nb().commit_resolving(scene.change(), resolve));
    assert!(look(commit.as_mut()).is_none());
    let (call, _) = heard(&mut scene);
    reply_conflicts(&mut scene, call, &[found(Some(loaded(9, None)))]);
    for _ in 0..16 {
        scene.go_on(commit.as_mut());
        let call = vote_heard(&mut scene);
        reply_conflicts(&mut scene, call, &[found(Some(loaded(9, None)))]);
    }
    assert_eq!(scene.finish(commit), Err(CommitError::Conflict(conflict())));
}

fn conflict() -> Conflict {
    Conflict { oid: Oid::new(1), committed: tid(9), read: tid(5) }
}

fn found(found: Option<Loaded>) -> ConflictFound {
    ConflictFound { conflict: conflict(), found }
}

fn reply_conflicts(scene: &mut Scene, call: CallId, found: &[ConflictFound]) {
    let lengths = found.iter().map(|it| it.found.map_or(0, |found| found.data_len()));
    let tail = if lengths.sum::<usize>() > 0 { data(9) } else { Bytes::new() };
    scene.say(&ServerMessage::Reply(call, Reply::Conflicts(found.to_vec())), &tail);
}

/// The vote on a change, and the transaction's name.
fn heard(scene: &mut Scene) -> (CallId, TxnId) {
    let (ClientMessage::TpcBegin(1, begin), _) = scene.message() else { panic!() };
    (vote_heard(scene), begin.id)
}

fn vote_heard(scene: &mut Scene) -> CallId {
    loop {
        if let (ClientMessage::Call(call, Call::TpcVoteResolving(1, true)), _) = scene.message() {
            return call;
        }
    }
}

fn store(serial: u64, data: &'static str) -> (ClientMessage, Bytes) {
    let store = Store { oid: Oid::new(1), serial: Some(tid(serial)), refs: None };
    (ClientMessage::Store(1, store), Bytes::from(data))
}
