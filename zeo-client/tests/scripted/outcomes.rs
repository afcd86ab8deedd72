//! Commits whose answer was lost: each happens once, or is honestly unknown.

use std::time::Duration;

use zeo_client::{Client, CommitError, Deferred, InDoubt, NotCommitted, Oid, Outcome, Tid, TxnId};
use zeo_proto::{
    Call, CallId, ClientMessage, Failure, Goodbye, OutcomeQuery, Reply, ServerMessage,
};

use crate::scene::{Answer, Scene, UUID, tid, welcome};

// R16: the commit was durable, the connection was cut before the reply. Committing again without
// asking applied it twice.
#[test]
fn r16_a_commit_that_happened_is_not_sent_again() {
    let mut scene = Scene::new();
    scene.fill(1, 5, None);
    let (mut commit, id, _) = send(&mut scene);
    scene.welcome_at(12);
    scene.cut();
    let call = scene.expect(&Call::InvalidationsSince(tid(10)));
    let (through, oids, more) = (tid(12), vec![Oid::new(1)], false);
    let page = zeo_proto::CatchUp::Page { through, oids, more };
    scene.reply(call, Reply::CatchUp(page));
    let call = scene.expect(&ask(id));
    scene.reply(call, Reply::Outcome(Outcome::Committed(tid(12))));
    assert_eq!(scene.take(&mut commit), Ok(tid(12)));
    scene.expect_nothing();
    assert_eq!(scene.cached(1, 13), None, "as if somebody else had changed it");
    assert_eq!(scene.cached(1, 11), Some(5));
}

// Harder: the old connection's bytes arrived after the verification, and were committed then.
#[test]
fn a_commit_that_happened_after_the_verification_is_seen() {
    let mut scene = Scene::new();
    scene.fill(1, 5, None);
    let (mut commit, id, _) = send(&mut scene);
    scene.cut();
    let call = scene.expect(&ask(id));
    scene.invalidate(12, &[1]);
    scene.reply(call, Reply::Outcome(Outcome::Committed(tid(12))));
    assert_eq!(scene.take(&mut commit), Ok(tid(12)));
    assert_eq!(scene.last_tid(), 12);
    assert_eq!(scene.cached(1, 13), None);
}

// The old name is fenced, so the old connection's bytes can do nothing any more.
#[test]
fn a_commit_that_did_not_happen_is_sent_again_under_another_name() {
    let mut scene = Scene::new();
    let (mut commit, id, _) = send(&mut scene);
    scene.cut();
    let call = scene.expect(&ask(id));
    scene.reply(call, Reply::Outcome(Outcome::NotCommitted));
    let (other, vote) = heard(&mut scene);
    assert_ne!(other, id);
    scene.reply(vote, Reply::Finished(tid(12)));
    assert_eq!(scene.take(&mut commit), Ok(tid(12)));
    assert_eq!(scene.cached(1, 13), Some(12));
}

#[test]
fn a_question_whose_answer_was_lost_is_asked_again() {
    let mut scene = Scene::new();
    let (mut commit, id, _) = send(&mut scene);
    scene.cut();
    scene.expect(&ask(id));
    scene.cut();
    let call = scene.expect(&ask(id));
    scene.reply(call, Reply::Outcome(Outcome::NotCommitted));
    let (second, _) = heard(&mut scene);
    scene.cut();
    let call = scene.expect(&ask(second));
    scene.reply(call, Reply::Outcome(Outcome::Committed(tid(12))));
    assert_eq!(scene.take(&mut commit), Ok(tid(12)));
}

#[test]
fn a_busy_server_is_asked_again_later() {
    let mut scene = Scene::new();
    let (mut commit, id, _) = send(&mut scene);
    scene.cut();
    let call = scene.expect(&ask(id));
    scene.fail(call, Failure::Busy);
    let call = scene.expect(&ask(id));
    scene.reply(call, Reply::Outcome(Outcome::Committed(tid(12))));
    assert_eq!(scene.take(&mut commit), Ok(tid(12)));
}

// A server broke the connection off whenever it got this transaction (it named an object that the
// server does not allow). The client sent it again on each new connection, for ever, and took all
// other calls down with it each time.
#[test]
fn a_transaction_that_costs_one_connection_after_the_other_is_given_up() {
    let mut scene = Scene::new();
    let mut commit = scene.client.nb().commit(scene.change());
    let mut sent = 0;
    let result = loop {
        if let Some(result) = commit.try_take() {
            break result.unwrap();
        }
        scene.flow();
        match scene.heard() {
            Some((ClientMessage::Call(call, Call::Outcome(_)), _)) => {
                scene.reply(call, Reply::Outcome(Outcome::NotCommitted));
            }
            Some((ClientMessage::Call(_, Call::TpcVote(..)), _)) => {
                sent += 1;
                let why = Goodbye::ProtocolError("no such object".to_owned());
                scene.say(&ServerMessage::Goodbye(why), &[]);
            }
            Some(_) => {}
            None => scene.step(),
        }
        assert!(sent < 20, "it goes on for ever");
    };
    assert_eq!(result, Err(CommitError::NotCommitted(NotCommitted::Lost)));
    let mut ping = scene.client.nb().ping();
    let call = scene.expect(&Call::Ping);
    scene.reply(call, Reply::Pong);
    assert_eq!(scene.take(&mut ping), Ok(()));
}

#[test]
fn what_nobody_remembers_is_unknown() {
    for too_old in [true, false] {
        let mut scene = Scene::new();
        let (mut commit, id, _) = send(&mut scene);
        scene.cut();
        let call = scene.expect(&ask(id));
        if too_old {
            scene.reply(call, Reply::Outcome(Outcome::TooOldToKnow));
        } else {
            scene.fail(call, Failure::StorageFailed("disk".to_owned()));
        }
        let doubt = InDoubt::new(id, tid(10), 1);
        assert_eq!(scene.take(&mut commit), Err(CommitError::Unknown(doubt)));
        scene.expect_nothing();
    }
}

#[test]
fn a_server_that_does_not_know_itself_is_asked_after_the_next_connection() {
    let mut scene = Scene::new();
    let (mut commit, id, vote) = send(&mut scene);
    scene.fail(vote, Failure::OutcomeUnknown("the sync failed".to_owned()));
    scene.expect_nothing();
    assert!(commit.try_take().is_none());
    scene.cut();
    let call = scene.expect(&ask(id));
    scene.reply(call, Reply::Outcome(Outcome::Committed(tid(12))));
    assert_eq!(scene.take(&mut commit), Ok(tid(12)));
}

// The limit of a doubt ran on after the doubt had ended: for hours, where patience is long, with as
// many timers as there had been doubts. A simulation that counts timers noticed.
#[test]
fn a_doubt_that_has_ended_leaves_no_timer() {
    let mut scene = Scene::new();
    let before = scene.timers();
    let (mut commit, id, vote) = send(&mut scene);
    scene.fail(vote, Failure::OutcomeUnknown("the sync failed".to_owned()));
    scene.expect_nothing();
    assert_eq!(scene.timers(), before + 1);
    scene.cut();
    let call = scene.expect(&ask(id));
    scene.reply(call, Reply::Outcome(Outcome::Committed(tid(12))));
    assert_eq!(scene.take(&mut commit), Ok(tid(12)));
    assert_eq!(scene.timers(), before);
}

#[test]
fn doubt_does_not_last_for_ever() {
    let mut scene = Scene::new();
    let (mut commit, id, vote) = send(&mut scene);
    scene.fail(vote, Failure::OutcomeUnknown("the sync failed".to_owned()));
    let doubt = InDoubt::new(id, tid(10), 1);
    assert_eq!(scene.take(&mut commit), Err(CommitError::Unknown(doubt)));
}

#[test]
fn a_server_that_stops_leaves_its_votes_in_doubt() {
    let mut scene = Scene::new();
    let (mut commit, id, vote) = send(&mut scene);
    scene.fail(vote, Failure::Stopping);
    let call = scene.expect(&ask(id));
    scene.reply(call, Reply::Outcome(Outcome::Committed(tid(12))));
    assert_eq!(scene.take(&mut commit), Ok(tid(12)));
}

#[test]
fn a_time_limit_leaves_a_vote_in_doubt_and_the_outcome_can_be_asked() {
    let mut scene = Scene::with(&Client::options().call_timeout(Duration::from_secs(1)));
    let (mut commit, id, _) = send(&mut scene);
    let Err(CommitError::Unknown(doubt)) = scene.take(&mut commit) else { panic!() };
    assert_eq!(doubt, InDoubt::new(id, tid(10), 1));
    let mut outcome = scene.client.nb().outcome(&doubt);
    let call = scene.expect(&ask(id));
    scene.reply(call, Reply::Outcome(Outcome::NotCommitted));
    assert_eq!(scene.take(&mut outcome), Ok(Outcome::NotCommitted));
}

#[test]
fn without_a_connection_doubt_ends_with_patience() {
    let mut scene = Scene::with(&Client::options().wait_timeout(Duration::from_secs(3)));
    let (mut commit, id, _) = send(&mut scene);
    scene.answer_with(Answer::Silence);
    scene.cut();
    let doubt = InDoubt::new(id, tid(10), 1);
    assert_eq!(scene.take(&mut commit), Err(CommitError::Unknown(doubt)));
    scene.welcome_at(10);
    scene.until(|scene| scene.client.is_connected());
    scene.expect_nothing();
}

#[test]
fn the_question_names_the_epoch_that_the_commit_was_sent_to() {
    let mut scene = Scene::new();
    let (mut commit, id, _) = send(&mut scene);
    scene.answer_with(Answer::Welcome(welcome(UUID, 2, 8)));
    scene.cut();
    let call = scene.expect(&ask(id));
    scene.reply(call, Reply::Outcome(Outcome::NotCommitted));
    let history_changed = CommitError::NotCommitted(NotCommitted::HistoryChanged);
    assert_eq!(scene.take(&mut commit), Err(history_changed), "not sent to another history");
    scene.expect_nothing();
}

#[test]
fn every_transaction_has_a_name_of_its_own() {
    let mut scene = Scene::new();
    let (_one, first, _) = send(&mut scene);
    let (_two, second, _) = send(&mut scene);
    assert_ne!(first, second);
}

type Commit = Deferred<Result<Tid, CommitError>>;

/// Commits a change; its name, and the call that is its vote.
fn send(scene: &mut Scene) -> (Commit, TxnId, CallId) {
    let commit = scene.client.nb().commit(scene.change());
    let (id, vote) = heard(scene);
    (commit, id, vote)
}

fn heard(scene: &mut Scene) -> (TxnId, CallId) {
    let (ClientMessage::TpcBegin(txn, begin), _) = scene.message() else { panic!() };
    let (ClientMessage::Store(..), _) = scene.message() else { panic!() };
    (begin.id, scene.expect(&Call::TpcVote(txn, true)))
}

fn ask(id: TxnId) -> Call {
    Call::Outcome(OutcomeQuery { id, snapshot: tid(10), epoch: 1 })
}
