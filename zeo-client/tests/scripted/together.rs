//! Commits in two databases at once: in order, and what is said when one of them fails.

use std::future::Future;
use std::pin::{Pin, pin};

use zeo_client::{Identity, NotCommitted, Tid, TogetherError, commit_together_async};
use zeo_proto::{Call, CallId, ClientMessage, Failure, Reply};

use crate::scene::{Answer, Scene, UUID, look, tid};

#[test]
fn each_is_voted_on_in_the_order_of_identities_and_then_finished() {
    let mut pair = Pair::new();
    let mut commit = pin!(pair.commit());
    let (one, two) = pair.voted(commit.as_mut());
    let call = one_call(&mut pair.one, commit.as_mut());
    assert_eq!(call.1, Call::TpcFinish(one));
    pair.two.expect_nothing();
    pair.one.reply(call.0, Reply::Finished(tid(12)));
    let call = pair.after_the_first(commit.as_mut());
    assert_eq!(call.1, Call::TpcFinish(two));
    pair.two.reply(call.0, Reply::Finished(tid(15)));
    // The caller gave the second database's transaction first.
    assert_eq!(pair.two.finish(commit), Ok(vec![tid(15), tid(12)]));
}

#[test]
fn when_a_vote_fails_all_are_aborted_and_the_error_names_the_database() {
    let mut pair = Pair::new();
    let mut commit = pin!(pair.commit());
    let (call, one) = pair.vote_on_one(commit.as_mut());
    pair.one.reply(call, Reply::Voted);
    let (call, _) = pair.vote_on_two(commit.as_mut());
    pair.two.fail(call, Failure::QuotaExceeded(7));
    let why = NotCommitted::QuotaExceeded(7).into();
    let failed = TogetherError::NotCommitted { identity: identity(OTHER), why };
    assert_eq!(pair.two.finish(commit), Err(failed));
    assert_eq!(pair.one.message().0, ClientMessage::TpcAbort(one));
}

// R18: a vote that was lost while the others were voted on. Whichever it is, it must be noticed while
// nothing is finished.
#[test]
fn r18_a_vote_that_was_lost_meanwhile_is_noticed_before_anything_is_finished() {
    for first in [true, false] {
        let mut pair = Pair::new();
        let mut commit = pin!(pair.commit());
        let (call, one) = pair.vote_on_one(commit.as_mut());
        pair.one.reply(call, Reply::Voted);
        let (call, two) = pair.vote_on_two(commit.as_mut());
        pair.two.reply(call, Reply::Voted);
        pair.two.flow();
        let (lost, uuid) = if first { (&mut pair.one, UUID) } else { (&mut pair.two, OTHER) };
        lost.cut();
        lost.until(|scene| scene.client.is_connected());
        let why = NotCommitted::Lost.into();
        let failed = TogetherError::NotCommitted { identity: identity(uuid), why };
        assert_eq!(pair.end(commit), Err(failed));
        let (other, txn) = if first { (&mut pair.two, two) } else { (&mut pair.one, one) };
        assert_eq!(other.message().0, ClientMessage::TpcAbort(txn));
    }
}

#[test]
fn when_the_first_finish_is_refused_nothing_is_committed() {
    let mut pair = Pair::new();
    let mut commit = pin!(pair.commit());
    let (_, two) = pair.voted(commit.as_mut());
    let (call, _) = one_call(&mut pair.one, commit.as_mut());
    pair.one.fail(call, Failure::DiskFull);
    let why = NotCommitted::DiskFull.into();
    let failed = TogetherError::NotCommitted { identity: identity(UUID), why };
    assert_eq!(pair.one.finish(commit), Err(failed));
    assert_eq!(pair.two.message().0, ClientMessage::TpcAbort(two));
}

#[test]
fn when_only_the_second_finish_is_refused_the_error_names_both() {
    let mut pair = Pair::new();
    let mut commit = pin!(pair.commit());
    pair.voted(commit.as_mut());
    let (call, _) = one_call(&mut pair.one, commit.as_mut());
    pair.one.reply(call, Reply::Finished(tid(12)));
    let (call, _) = pair.after_the_first(commit.as_mut());
    pair.two.fail(call, Failure::DiskFull);
    let error = pair.two.finish(commit).unwrap_err();
    let partly = TogetherError::PartlyCommitted {
        committed: vec![(identity(UUID), tid(12))],
        not_committed: vec![(identity(OTHER), NotCommitted::DiskFull.into())],
        unknown: Vec::new(),
    };
    assert_eq!(error, partly);
    let text = error.to_string();
    assert!(text.contains(&identity(UUID).to_string()) && text.contains("disk is full"), "{text}");
}

#[test]
fn when_it_is_not_known_of_the_first_the_others_are_aborted_and_the_error_says_so() {
    let mut pair = Pair::new();
    let mut commit = pin!(pair.commit());
    let (_, two) = pair.voted(commit.as_mut());
    let (call, _) = one_call(&mut pair.one, commit.as_mut());
    pair.one.fail(call, Failure::OutcomeUnknown("the sync failed".to_owned()));
    pair.one.answer_with(Answer::Silence);
    pair.one.flow();
    let error = pair.one.finish(commit).unwrap_err();
    let TogetherError::PartlyCommitted { committed, not_committed, unknown } = error else {
        panic!()
    };
    assert_eq!((committed.len(), unknown.len()), (0, 1));
    assert_eq!(not_committed, [(identity(OTHER), NotCommitted::Aborted.into())]);
    assert_eq!(pair.two.message().0, ClientMessage::TpcAbort(two));
}

#[test]
fn a_future_that_is_dropped_before_it_finishes_aborts_all() {
    let mut pair = Pair::new();
    let mut commit = Box::pin(pair.commit());
    let (call, one) = pair.vote_on_one(commit.as_mut());
    pair.one.reply(call, Reply::Voted);
    let (call, two) = pair.vote_on_two(commit.as_mut());
    drop(commit);
    assert_eq!(pair.one.message().0, ClientMessage::TpcAbort(one));
    pair.two.reply(call, Reply::Voted);
    assert_eq!(pair.two.message().0, ClientMessage::TpcAbort(two));
}

#[test]
fn those_that_write_nothing_take_no_part() {
    let mut pair = Pair::new();
    let txns = [pair.one.client.begin().unwrap(), pair.one.client.begin().unwrap()];
    let commit = pin!(commit_together_async(txns));
    assert_eq!(pair.one.finish(commit), Ok(vec![tid(10), tid(10)]));
    pair.one.expect_nothing();
}

#[test]
fn two_of_one_database_are_refused() {
    let mut pair = Pair::new();
    let commit = pin!(commit_together_async([pair.one.change(), pair.one.change()]));
    assert_eq!(pair.one.finish(commit), Err(TogetherError::SameDatabase(identity(UUID))));
    pair.one.expect_nothing();
}

/// Two databases, in the order of their identities.
struct Pair {
    one: Scene,
    two: Scene,
}

impl Pair {
    fn new() -> Self {
        Self { one: Scene::new(), two: Scene::of(OTHER) }
    }

    fn commit(&self) -> impl Future<Output = Together> + use<> {
        commit_together_async([self.two.change(), self.one.change()])
    }

    /// The vote on the first, and its transaction; the second has heard nothing.
    fn vote_on_one(&mut self, commit: Pin<&mut impl Future<Output = Together>>) -> (CallId, u32) {
        assert!(look(commit).is_none());
        let vote = vote(&mut self.one);
        self.two.expect_nothing();
        vote
    }

    fn vote_on_two(&mut self, commit: Pin<&mut impl Future<Output = Together>>) -> (CallId, u32) {
        self.one.go_on(commit);
        vote(&mut self.two)
    }

    /// Both are voted on; their transactions.
    fn voted(&mut self, mut commit: Pin<&mut impl Future<Output = Together>>) -> (u32, u32) {
        let (call, one) = self.vote_on_one(commit.as_mut());
        self.one.reply(call, Reply::Voted);
        let (call, two) = self.vote_on_two(commit.as_mut());
        self.two.reply(call, Reply::Voted);
        self.two.go_on(commit.as_mut());
        self.one.go_on(commit.as_mut());
        self.two.go_on(commit.as_mut());
        (one, two)
    }

    /// What it comes to without another word of the servers.
    fn end(&mut self, mut commit: Pin<&mut impl Future<Output = Together>>) -> Together {
        for _ in 0..10 {
            if let Some(end) = look(commit.as_mut()) {
                return end;
            }
            self.one.flow();
            self.two.flow();
        }
        panic!("it does not end");
    }

    /// What is asked of the second once the first has answered.
    fn after_the_first(
        &mut self,
        commit: Pin<&mut impl Future<Output = Together>>,
    ) -> (CallId, Call) {
        self.one.go_on(commit);
        self.two.call()
    }
}

type Together = Result<Vec<Tid>, TogetherError>;

fn one_call(scene: &mut Scene, commit: Pin<&mut impl Future<Output = Together>>) -> (CallId, Call) {
    scene.go_on(commit);
    scene.call()
}

fn vote(scene: &mut Scene) -> (CallId, u32) {
    loop {
        match scene.message() {
            (ClientMessage::Call(call, Call::TpcVote(txn, false)), _) => return (call, txn),
            (ClientMessage::TpcBegin(..) | ClientMessage::Store(..), _) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn identity(uuid: [u8; 16]) -> Identity {
    Identity { uuid, epoch: 1 }
}

const OTHER: [u8; 16] = *b"the second one..";
