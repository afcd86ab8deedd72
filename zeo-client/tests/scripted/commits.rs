//! Commits: what is sent, what is remembered, what is answered.

use std::time::Duration;

use bytes::Bytes;
use zeo_client::{
    Client, CommitError, Conflict, LoadError, NotCommitted, Oid, StoreError, Tid, TxnId,
};
use zeo_proto::{Begin, Call, CallId, ClientMessage, Failure, MAX_OBJECT, Reply, Store, TxnMeta};

use crate::scene::{Scene, data, tid};

#[test]
fn a_commit_is_one_contiguous_write() {
    let mut scene = Scene::new();
    let mut txn = scene.client.begin().unwrap();
    txn.saw(Oid::new(2), tid(5));
    txn.saw(Oid::new(3), tid(6));
    txn.saw(Oid::new(4), tid(7));
    txn.store_new(Oid::new(1), "new").unwrap();
    txn.store_with_refs(Oid::new(2), "read", vec![Oid::new(1)]).unwrap();
    txn.delete(Oid::new(3)).unwrap();
    txn.read_current(Oid::new(4)).unwrap();
    txn.store(Oid::new(5), "blind").unwrap();
    txn.set_user("me").unwrap();
    let mut commit = scene.client.nb().commit(txn);

    let (ClientMessage::TpcBegin(1, begin), _) = scene.message() else { panic!() };
    let meta = TxnMeta { user: "me".to_owned(), ..TxnMeta::default() };
    assert_eq!(begin, Begin { id: begin.id, snapshot: tid(10), meta });
    assert_ne!(begin.id, TxnId::default());
    assert_eq!(scene.message().0, ClientMessage::ReadCurrent(1, Oid::new(4), tid(7)));
    assert_eq!(scene.message(), store(1, Some(Tid::ZERO), None, "new"));
    assert_eq!(scene.message(), store(2, Some(tid(5)), Some(vec![Oid::new(1)]), "read"));
    assert_eq!(scene.message().0, ClientMessage::Delete(1, Oid::new(3), tid(6)));
    assert_eq!(scene.message(), store(5, None, None, "blind"));
    let call = scene.expect(&Call::TpcVote(1, true));
    let before = scene.client.statistics().round_trips;
    scene.reply(call, Reply::Finished(tid(12)));
    assert_eq!(scene.take(&mut commit), Ok(tid(12)));
    assert_eq!(scene.client.statistics().round_trips, before + 1);
}

#[test]
fn r3_what_was_written_is_in_the_cache_when_the_commit_returns() {
    let mut scene = Scene::new();
    scene.fill(1, 5, None);
    scene.fill(2, 5, None);
    let mut txn = scene.change();
    txn.saw(Oid::new(2), tid(5));
    txn.delete(Oid::new(2)).unwrap();
    let (commit, vote) = send(&mut scene, txn);
    scene.reply(vote, Reply::Finished(tid(12)));
    scene.until(|scene| scene.last_tid() == 12);
    assert_eq!(commit.wait().unwrap(), Ok(tid(12)));
    assert_eq!((scene.cached(1, 13), scene.cached(2, 13)), (Some(12), None));
    assert_eq!((scene.cached(1, 12), scene.cached(2, 12)), (Some(5), Some(5)));
}

// R17: never before the finish: the server may die before it.
#[test]
fn r17_nothing_is_remembered_of_what_was_not_committed() {
    let mut scene = Scene::new();
    let txn = scene.change();
    let (mut commit, vote) = send(&mut scene, txn);
    scene.fail(vote, Failure::DiskFull);
    let full = CommitError::NotCommitted(NotCommitted::DiskFull);
    assert_eq!(scene.take(&mut commit), Err(full));
    assert_eq!(scene.cached(1, 11), None);
}

// R7: the finish's effects must not wait for whoever awaits it.
#[test]
fn r7_a_finish_and_the_invalidation_after_it_take_effect_in_that_order() {
    let mut scene = Scene::new();
    let txn = scene.change();
    let (commit, vote) = send(&mut scene, txn);
    scene.reply(vote, Reply::Finished(tid(12)));
    scene.invalidate(13, &[1]);
    scene.until(|scene| scene.last_tid() == 13);
    assert_eq!(commit.wait().unwrap(), Ok(tid(12)));
    assert_eq!((scene.cached(1, 13), scene.cached(1, 14)), (Some(12), None));
}

#[test]
fn a_finish_that_comes_after_a_later_invalidation_leaves_nothing_stale() {
    let mut scene = Scene::new();
    scene.fill(1, 5, None);
    let txn = scene.change();
    let (mut commit, vote) = send(&mut scene, txn);
    scene.invalidate(13, &[1]);
    scene.reply(vote, Reply::Finished(tid(12)));
    assert_eq!(scene.take(&mut commit), Ok(tid(12)));
    assert_eq!((scene.last_tid(), scene.cached(1, 14)), (13, None));
}

// R23: an entry that is stale but looks current would lead to endless conflicts.
#[test]
fn r23_a_conflict_evicts_what_was_stale() {
    let mut scene = Scene::new();
    scene.fill(1, 5, None);
    let txn = scene.change();
    let (mut commit, vote) = send(&mut scene, txn);
    let conflict = Conflict { oid: Oid::new(1), committed: tid(9), read: tid(5) };
    scene.fail(vote, Failure::Conflict(conflict));
    assert_eq!(scene.take(&mut commit), Err(CommitError::Conflict(conflict)));
    assert_eq!(scene.cached(1, 11), None);
}

#[test]
fn a_refusal_says_why_nothing_was_committed() {
    let mut scene = Scene::new();
    for (failure, why) in [
        (Failure::Busy, NotCommitted::Busy),
        (Failure::ReadOnly, NotCommitted::ReadOnly),
        (Failure::TransactionTooLarge(7), NotCommitted::TooLarge(7)),
        (Failure::StorageFailed("disk".to_owned()), NotCommitted::Refused("disk".to_owned())),
    ] {
        let txn = scene.change();
        let (mut commit, vote) = send(&mut scene, txn);
        scene.fail(vote, failure);
        assert_eq!(scene.take(&mut commit), Err(CommitError::NotCommitted(why)));
    }
}

#[test]
fn a_transaction_that_writes_nothing_is_not_sent() {
    let mut scene = Scene::new();
    let mut txn = scene.client.begin().unwrap();
    txn.saw(Oid::new(1), tid(5));
    txn.read_current(Oid::new(1)).unwrap();
    assert_eq!(scene.client.nb().commit(txn).wait().unwrap(), Ok(tid(10)));
    scene.change().abort();
    scene.expect_nothing();
}

#[test]
fn a_transaction_reads_what_it_wrote() {
    let scene = Scene::new();
    let mut txn = scene.change();
    txn.store_new(Oid::new(2), "new").unwrap();
    assert_eq!(txn.load(Oid::new(1)).unwrap().tid, tid(5));
    assert_eq!(txn.load(Oid::new(2)).unwrap().data, "new");
    txn.delete(Oid::new(1)).unwrap();
    assert_eq!(txn.load(Oid::new(1)), Err(LoadError::NotFound(Oid::new(1))));
}

#[test]
fn an_object_that_was_made_and_deleted_again_is_not_sent() {
    let mut scene = Scene::new();
    let mut txn = scene.client.begin().unwrap();
    txn.store_new(Oid::new(2), "new").unwrap();
    txn.delete(Oid::new(2)).unwrap();
    assert_eq!(scene.client.nb().commit(txn).wait().unwrap(), Ok(tid(10)));
    scene.expect_nothing();
}

#[test]
fn what_is_too_large_is_refused_where_it_is_stored() {
    let scene = Scene::new();
    let mut txn = scene.client.begin().unwrap();
    let huge = Bytes::from(vec![0; MAX_OBJECT + 1]);
    let (bytes, max) = (huge.len(), MAX_OBJECT);
    let refused = StoreError::ObjectTooLarge { bytes, max };
    assert_eq!(txn.store(Oid::new(1), huge.clone()), Err(refused));
    let half = huge.slice(..40 << 20);
    txn.store(Oid::new(1), half.clone()).unwrap();
    txn.store(Oid::new(1), half.clone()).unwrap();
    let refused = StoreError::TransactionTooLarge { bytes: 80 << 20, max: 64 << 20 };
    assert_eq!(txn.store(Oid::new(2), half), Err(refused));
    assert!(matches!(txn.set_user("x".repeat(100_000)), Err(StoreError::MetaTooLarge { .. })));
    let refused = StoreError::NotRead(Oid::new(9));
    assert_eq!(txn.delete(Oid::new(9)), Err(refused.clone()));
    assert_eq!(txn.read_current(Oid::new(9)), Err(refused));
}

#[test]
fn transactions_of_many_threads_share_the_connection() {
    let mut scene = Scene::new();
    let (one, two) = (scene.change(), scene.change());
    let (mut one, first) = send(&mut scene, one);
    let (mut two, second) = send(&mut scene, two);
    scene.reply(second, Reply::Finished(tid(12)));
    scene.fail(first, Failure::Busy);
    assert_eq!(scene.take(&mut two), Ok(tid(12)));
    assert_eq!(scene.take(&mut one), Err(CommitError::NotCommitted(NotCommitted::Busy)));
}

#[test]
fn a_large_transaction_lets_others_through() {
    let mut scene = Scene::new();
    scene.stop_reading();
    let mut large = scene.client.nb().commit(large(&scene));
    scene.flow();
    drop(scene.client.nb().ping());
    let txn = scene.change();
    let mut small = scene.client.nb().commit(txn);
    scene.go_on_reading();
    let mut stores = Vec::new();
    let (mut order, mut votes) = (Vec::new(), Vec::new());
    while votes.len() < 2 {
        match scene.message() {
            (ClientMessage::Call(_, Call::Ping), _) => order.push("ping"),
            (ClientMessage::Call(call, Call::TpcVote(txn, true)), _) => {
                order.push(if txn == 1 { "large" } else { "small" });
                votes.push(call);
            }
            (ClientMessage::Store(1, store), _) => stores.push(store.oid.number()),
            _ => {}
        }
    }
    assert_eq!(order, ["ping", "small", "large"]);
    assert_eq!(stores, (0..LARGE).collect::<Vec<_>>());
    scene.reply(votes[0], Reply::Finished(tid(12)));
    scene.reply(votes[1], Reply::Finished(tid(13)));
    assert_eq!((scene.take(&mut small), scene.take(&mut large)), (Ok(tid(12)), Ok(tid(13))));
}

// A server lets a session have so many transactions open and breaks off the connection of one that
// has more; then all were begun again, for ever.
#[test]
fn large_transactions_are_not_all_begun_at_once() {
    let mut scene = Scene::new();
    let commits: Vec<_> = (0..70).map(|_| scene.client.nb().commit(slow(&scene))).collect();
    let (mut open, mut most, mut votes) = (0, 0, 0);
    while votes < commits.len() {
        let message = scene.message().0;
        if matches!(message, ClientMessage::TpcBegin(..)) {
            open += 1;
        } else if matches!(message, ClientMessage::Call(_, Call::TpcVote(..))) {
            (open, votes) = (open - 1, votes + 1);
        }
        most = most.max(open);
    }
    assert!(most <= 64, "{most} at once");
}

// Nothing can have been committed without its vote, so there is nothing to ask.
#[test]
fn r18_a_transaction_that_was_sent_in_part_is_sent_again() {
    let mut scene = Scene::new();
    scene.stop_reading();
    let mut commit = scene.client.nb().commit(large(&scene));
    scene.flow();
    scene.cut();
    let (ClientMessage::TpcBegin(..), _) = scene.message() else { panic!() };
    for _ in 0..LARGE {
        let (ClientMessage::Store(..), _) = scene.message() else { panic!() };
    }
    let vote = scene.expect(&Call::TpcVote(2, true));
    scene.reply(vote, Reply::Finished(tid(12)));
    assert_eq!(scene.take(&mut commit), Ok(tid(12)));
}

#[test]
fn a_transaction_that_is_not_sent_in_time_is_withdrawn() {
    let mut scene = Scene::with(&Client::options().call_timeout(Duration::from_secs(1)));
    scene.stop_reading();
    let mut commit = scene.client.nb().commit(large(&scene));
    scene.flow();
    assert_eq!(scene.take(&mut commit), Err(CommitError::NotCommitted(NotCommitted::Timeout)));
    scene.go_on_reading();
    let last = std::iter::repeat_with(|| scene.message().0)
        .find(|message| !matches!(message, ClientMessage::TpcBegin(..) | ClientMessage::Store(..)));
    assert_eq!(last, Some(ClientMessage::TpcAbort(1)));
    scene.expect_nothing();
}

#[test]
fn a_late_finish_still_reaches_the_cache() {
    let mut scene = Scene::with(&Client::options().call_timeout(Duration::from_secs(1)));
    scene.fill(1, 5, None);
    let txn = scene.change();
    let (mut commit, vote) = send(&mut scene, txn);
    assert!(matches!(scene.take(&mut commit), Err(CommitError::Unknown(_))));
    scene.reply(vote, Reply::Finished(tid(12)));
    scene.until(|scene| scene.last_tid() == 12);
    assert_eq!(scene.cached(1, 13), Some(12));
}

#[test]
fn a_read_only_client_stores_nothing() {
    let scene = Scene::with(&Client::options().read_only(true));
    let mut txn = scene.client.begin().unwrap();
    assert_eq!(txn.store(Oid::new(1), data(5)), Err(StoreError::ReadOnly));
}

type Commit = zeo_client::Deferred<Result<Tid, CommitError>>;

/// Commits a small transaction; the call that is its vote.
fn send(scene: &mut Scene, txn: zeo_client::Transaction) -> (Commit, CallId) {
    let commit = scene.client.nb().commit(txn);
    loop {
        if let (ClientMessage::Call(call, Call::TpcVote(_, true)), _) = scene.message() {
            return (commit, call);
        }
    }
}

/// A transaction of 4 MiB.
fn large(scene: &Scene) -> zeo_client::Transaction {
    let mut txn = scene.client.begin().unwrap();
    let data = Bytes::from(vec![7; 100 << 10]);
    for oid in 0..LARGE {
        txn.store_new(Oid::new(oid), data.clone()).unwrap();
    }
    txn
}

/// A transaction that is not sent whole in its first turn.
fn slow(scene: &Scene) -> zeo_client::Transaction {
    let mut txn = scene.client.begin().unwrap();
    for oid in 0..2 {
        txn.store_new(Oid::new(oid), vec![7; 200 << 10]).unwrap();
    }
    txn
}

fn store(
    oid: u64,
    serial: Option<Tid>,
    refs: Option<Vec<Oid>>,
    data: &'static str,
) -> (ClientMessage, Bytes) {
    let store = Store { oid: Oid::new(oid), serial, refs };
    (ClientMessage::Store(1, store), Bytes::from(data))
}

const LARGE: u64 = 40;
