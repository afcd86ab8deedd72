//! Two-phase commits: what is sent, what ends with a connection, what is let go of.

use std::time::Duration;

use zeo_client::{
    Client, CommitError, Deferred, InDoubt, NotCommitted, Oid, Outcome, Tid, TxnId, Voted,
};
use zeo_proto::{Call, CallId, ClientMessage, Failure, OutcomeQuery, Reply};

use crate::scene::{Scene, tid};

#[test]
fn a_vote_and_its_finish_are_a_round_trip_each() {
    let mut scene = Scene::new();
    scene.fill(1, 5, None);
    let voted = vote(&mut scene);
    scene.expect_nothing();
    let (mut finish, call) = finish(&mut scene, voted);
    scene.reply(call, Reply::Finished(tid(12)));
    assert_eq!(scene.take(&mut finish), Ok(tid(12)));
    assert_eq!((scene.last_tid(), scene.cached(1, 13)), (12, Some(12)));
}

#[test]
fn r17_nothing_is_remembered_of_what_was_voted_on() {
    let mut scene = Scene::new();
    scene.fill(1, 5, None);
    let _voted = vote(&mut scene);
    assert_eq!((scene.last_tid(), scene.cached(1, 11)), (10, Some(5)));
}

#[test]
fn a_vote_that_is_let_go_of_is_aborted() {
    let mut scene = Scene::new();
    drop(vote(&mut scene));
    assert_eq!(scene.message().0, ClientMessage::TpcAbort(1));
    vote(&mut scene).abort();
    assert_eq!(scene.message().0, ClientMessage::TpcAbort(2));
    scene.expect_nothing();
}

#[test]
fn a_vote_that_nobody_waits_for_any_more_is_aborted() {
    let mut scene = Scene::new();
    let (voting, call, _) = send(&mut scene);
    drop(voting);
    scene.reply(call, Reply::Voted);
    assert_eq!(scene.message().0, ClientMessage::TpcAbort(1));
}

// The callbacks of results run on the dispatcher, which may drop what it is given.
#[test]
fn a_vote_that_a_callback_drops_is_aborted() {
    let mut scene = Scene::new();
    let (voting, call, _) = send(&mut scene);
    voting.then(drop);
    scene.reply(call, Reply::Voted);
    scene.flow();
    scene.client.deliver();
    assert_eq!(scene.message().0, ClientMessage::TpcAbort(1));
}

// There was no room to tell the reactor, and the locks were held until the server lost patience
// with the whole connection.
#[test]
fn a_vote_that_is_dropped_while_the_reactor_has_no_room_for_it_is_aborted_nevertheless() {
    let mut scene = Scene::new();
    let voted = vote(&mut scene);
    while scene.client.nb().ping().try_take().is_none() {}
    drop(voted);
    let is_abort = |message: &ClientMessage| matches!(message, ClientMessage::TpcAbort(1));
    assert!(std::iter::repeat_with(|| scene.message().0).take(100_000).any(|it| is_abort(&it)));
}

// R18: the client connected again between vote and finish, and nobody noticed.
#[test]
fn r18_a_connection_that_is_lost_after_the_vote_is_noticed_at_the_finish() {
    for connected in [true, false] {
        let mut scene = Scene::new();
        let voted = vote(&mut scene);
        scene.cut();
        if connected {
            scene.until(|scene| scene.client.is_connected());
        }
        let mut finish = scene.client.nb().finish(voted);
        assert_eq!(scene.take(&mut finish), Err(NotCommitted::Lost.into()));
        scene.until(|scene| scene.client.is_connected());
        scene.expect_nothing();
    }
}

#[test]
fn what_was_voted_on_a_lost_connection_is_not_aborted_on_the_next() {
    let mut scene = Scene::new();
    let voted = vote(&mut scene);
    scene.cut();
    scene.until(|scene| scene.client.is_connected());
    drop(voted);
    scene.expect_nothing();
}

// Nothing can be committed without a finish, so there is nothing to ask.
#[test]
fn r18_a_vote_whose_connection_is_lost_is_sent_again() {
    let mut scene = Scene::new();
    let (mut voting, _, id) = send(&mut scene);
    scene.cut();
    let (call, again) = heard(&mut scene);
    assert_eq!(again, id);
    scene.reply(call, Reply::Voted);
    let voted = scene.take(&mut voting).unwrap();
    let (mut finish, call) = finish(&mut scene, voted);
    scene.reply(call, Reply::Finished(tid(12)));
    assert_eq!(scene.take(&mut finish), Ok(tid(12)));
}

#[test]
fn r16_a_finish_whose_answer_is_lost_is_asked_about() {
    let mut scene = Scene::new();
    let (mut finish, id) = lose_finish(&mut scene);
    let call = scene.expect(&ask(id));
    scene.reply(call, Reply::Outcome(Outcome::Committed(tid(12))));
    assert_eq!(scene.take(&mut finish), Ok(tid(12)));
    scene.expect_nothing();
}

#[test]
fn what_was_not_finished_is_sent_again_in_one_round_trip_under_another_name() {
    let mut scene = Scene::new();
    let (mut finish, id) = lose_finish(&mut scene);
    let call = scene.expect(&ask(id));
    scene.reply(call, Reply::Outcome(Outcome::NotCommitted));
    let (ClientMessage::TpcBegin(txn, begin), _) = scene.message() else { panic!() };
    assert_ne!(begin.id, id);
    let (ClientMessage::Store(..), _) = scene.message() else { panic!() };
    let call = scene.expect(&Call::TpcVote(txn, true));
    scene.reply(call, Reply::Finished(tid(12)));
    assert_eq!(scene.take(&mut finish), Ok(tid(12)));
}

#[test]
fn a_finish_of_which_the_server_does_not_know_is_asked_about_after_the_next_connection() {
    let mut scene = Scene::new();
    let (voting, call, id) = send(&mut scene);
    let voted = accept(&mut scene, voting, call);
    let (mut finish, call) = finish(&mut scene, voted);
    scene.fail(call, Failure::OutcomeUnknown("the sync failed".to_owned()));
    scene.expect_nothing();
    scene.cut();
    let call = scene.expect(&ask(id));
    scene.reply(call, Reply::Outcome(Outcome::Committed(tid(12))));
    assert_eq!(scene.take(&mut finish), Ok(tid(12)));
}

// R20: after an error in a transaction, nobody could commit any more.
#[test]
fn r20_after_every_refusal_a_clean_commit_works() {
    let mut scene = Scene::new();
    let mut txns = 0;
    for (failure, why) in refusals() {
        for at_vote in [true, false] {
            txns += 1;
            let (mut voting, call, _) = send(&mut scene);
            let error = if at_vote {
                scene.fail(call, failure.clone());
                scene.take(&mut voting).unwrap_err()
            } else {
                let voted = accept(&mut scene, voting, call);
                let (mut finish, call) = finish(&mut scene, voted);
                scene.fail(call, failure.clone());
                scene.take(&mut finish).unwrap_err()
            };
            assert_eq!(error, CommitError::NotCommitted(why.clone()), "after {txns}");
        }
    }
    let mut commit = scene.client.nb().commit(scene.change());
    scene.message();
    scene.message();
    let call = scene.expect(&Call::TpcVote(txns + 1, true));
    scene.reply(call, Reply::Finished(tid(12)));
    assert_eq!(scene.take(&mut commit), Ok(tid(12)));
}

#[test]
fn a_vote_that_is_not_answered_in_time_is_withdrawn() {
    let mut scene = Scene::with(&Client::options().call_timeout(Duration::from_secs(1)));
    let (mut voting, call, _) = send(&mut scene);
    assert_eq!(scene.take(&mut voting).unwrap_err(), NotCommitted::Timeout.into());
    assert_eq!(scene.message().0, ClientMessage::TpcAbort(1));
    scene.reply(call, Reply::Voted);
    scene.expect_nothing();
    assert!(scene.client.is_connected(), "a late answer is no reason to leave");
}

#[test]
fn a_finish_that_is_not_answered_in_time_is_unknown_and_still_reaches_the_cache() {
    let mut scene = Scene::with(&Client::options().call_timeout(Duration::from_secs(1)));
    let (voting, call, id) = send(&mut scene);
    let voted = accept(&mut scene, voting, call);
    let (mut finish, call) = finish(&mut scene, voted);
    let doubt = InDoubt::new(id, tid(10), 1);
    assert_eq!(scene.take(&mut finish), Err(CommitError::Unknown(doubt)));
    scene.reply(call, Reply::Finished(tid(12)));
    scene.until(|scene| scene.last_tid() == 12);
    assert_eq!(scene.cached(1, 13), Some(12));
}

#[test]
fn a_vote_may_take_its_time_to_decide() {
    let mut scene = Scene::with(&Client::options().call_timeout(Duration::from_secs(1)));
    let voted = vote(&mut scene);
    scene.pass(Duration::from_secs(5));
    let (mut finish, call) = finish(&mut scene, voted);
    scene.reply(call, Reply::Finished(tid(12)));
    assert_eq!(scene.take(&mut finish), Ok(tid(12)));
}

#[test]
fn r33_a_client_that_closes_while_it_is_voted_on_has_committed_nothing() {
    let mut scene = Scene::new();
    let voted = vote(&mut scene);
    let (mut voting, ..) = send(&mut scene);
    scene.client.close();
    assert_eq!(scene.take(&mut voting).unwrap_err(), CommitError::Closed);
    let mut finish = scene.client.nb().finish(voted);
    assert_eq!(scene.take(&mut finish), Err(CommitError::Closed));
}

#[test]
fn a_client_that_closes_while_it_finishes_does_not_know() {
    let mut scene = Scene::new();
    let (voting, call, id) = send(&mut scene);
    let voted = accept(&mut scene, voting, call);
    let (mut finish, _) = finish(&mut scene, voted);
    scene.client.close();
    let doubt = InDoubt::new(id, tid(10), 1);
    assert_eq!(scene.take(&mut finish), Err(CommitError::Unknown(doubt)));
}

#[test]
fn a_reactor_that_is_gone_has_committed_nothing_that_was_voted_on() {
    let mut scene = Scene::new();
    let (voting, call, _) = send(&mut scene);
    let voted = accept(&mut scene, voting, call);
    let client = scene.crash();
    let finish = client.nb().finish(voted).wait().unwrap();
    assert_eq!(finish, Err(CommitError::Closed));
}

#[test]
fn so_many_may_be_between_vote_and_finish() {
    let mut scene = Scene::new();
    let held: Vec<_> = (0..512).map(|_| vote(&mut scene)).collect();
    let mut voting = scene.client.nb().vote(scene.change());
    assert_eq!(scene.take(&mut voting).unwrap_err(), NotCommitted::Busy.into());
    drop(held);
    for _ in 0..512 {
        assert!(matches!(scene.message().0, ClientMessage::TpcAbort(_)));
    }
    drop(vote(&mut scene));
}

#[test]
fn one_that_writes_nothing_is_not_sent() {
    let mut scene = Scene::new();
    let txn = scene.client.begin().unwrap();
    let mut voting = scene.client.nb().vote(txn);
    let voted = scene.take(&mut voting).unwrap();
    let mut finish = scene.client.nb().finish(voted);
    assert_eq!(scene.take(&mut finish), Ok(tid(10)));
    scene.expect_nothing();
}

#[test]
fn a_vote_is_finished_only_where_it_began() {
    let (mut scene, mut other) = (Scene::new(), Scene::new());
    let voted = vote(&mut scene);
    let mut finish = other.client.nb().finish(voted);
    let refused = other.take(&mut finish);
    assert!(matches!(refused, Err(CommitError::NotCommitted(NotCommitted::Refused(_)))));
    assert_eq!(scene.message().0, ClientMessage::TpcAbort(1));
}

// A server that answers what was not asked is left; what was asked of it is asked again.
#[test]
fn an_answer_that_fits_nothing_costs_the_connection() {
    for reply in [Reply::Finished(tid(12)), Reply::Conflicts(Vec::new()), Reply::Pong] {
        let mut scene = Scene::new();
        let (mut voting, call, _) = send(&mut scene);
        scene.reply(call, reply.clone());
        scene.until(|scene| !scene.client.is_connected());
        let (call, _) = heard(&mut scene);
        scene.reply(call, Reply::Voted);
        drop(scene.take(&mut voting).unwrap());
    }
}

#[test]
fn a_vote_fails_with_the_patience_for_a_connection() {
    let mut scene = Scene::with(&Client::options().wait_timeout(Duration::from_secs(3)));
    let (mut voting, ..) = send(&mut scene);
    scene.answer_with(crate::scene::Answer::Silence);
    scene.cut();
    assert_eq!(scene.take(&mut voting).unwrap_err(), NotCommitted::Disconnected.into());
    let mut again = scene.client.nb().vote(scene.change());
    assert_eq!(scene.take(&mut again).unwrap_err(), NotCommitted::Disconnected.into());
}

type Voting = Deferred<Result<Voted, CommitError>>;

/// Votes on a change; the call, and the transaction's name.
fn send(scene: &mut Scene) -> (Voting, CallId, TxnId) {
    let voting = scene.client.nb().vote(scene.change());
    let (call, id) = heard(scene);
    (voting, call, id)
}

fn heard(scene: &mut Scene) -> (CallId, TxnId) {
    let (ClientMessage::TpcBegin(txn, begin), _) = scene.message() else { panic!() };
    let (ClientMessage::Store(..), _) = scene.message() else { panic!() };
    (scene.expect(&Call::TpcVote(txn, false)), begin.id)
}

fn accept(scene: &mut Scene, mut voting: Voting, call: CallId) -> Voted {
    scene.reply(call, Reply::Voted);
    scene.take(&mut voting).unwrap()
}

/// A change that was voted on.
fn vote(scene: &mut Scene) -> Voted {
    let (voting, call, _) = send(scene);
    accept(scene, voting, call)
}

fn finish(scene: &mut Scene, voted: Voted) -> (Deferred<Result<Tid, CommitError>>, CallId) {
    let finish = scene.client.nb().finish(voted);
    let (call, asked) = scene.call();
    assert!(matches!(asked, Call::TpcFinish(_)), "{asked:?}");
    (finish, call)
}

/// A finish whose answer was lost, and the transaction's name.
fn lose_finish(scene: &mut Scene) -> (Deferred<Result<Tid, CommitError>>, TxnId) {
    let (voting, call, id) = send(scene);
    let voted = accept(scene, voting, call);
    let (finish, _) = finish(scene, voted);
    scene.cut();
    (finish, id)
}

fn ask(id: TxnId) -> Call {
    Call::Outcome(OutcomeQuery { id, snapshot: tid(10), epoch: 1 })
}

fn refusals() -> Vec<(Failure, NotCommitted)> {
    let oid = Oid::new(1);
    let by = || "the accountants, for 30 s".to_owned();
    vec![
        (Failure::Busy, NotCommitted::Busy),
        (Failure::ReadOnly, NotCommitted::ReadOnly),
        (Failure::DiskFull, NotCommitted::DiskFull),
        (Failure::TransactionTooLarge(7), NotCommitted::TooLarge(7)),
        (Failure::QuotaExceeded(7), NotCommitted::QuotaExceeded(7)),
        (Failure::Locked(oid, by()), NotCommitted::Locked { oid, by: by() }),
        (Failure::UndoRefused(vec![oid]), NotCommitted::UndoRefused(vec![oid])),
        (Failure::NoSuchTid(tid(3)), NotCommitted::NoSuchTransaction(tid(3))),
        (Failure::TidOutOfOrder(tid(9)), NotCommitted::OutOfOrder(tid(9))),
        (Failure::StorageFailed("disk".to_owned()), NotCommitted::Refused("disk".to_owned())),
    ]
}
