//! Restored transactions: what is sent, and why it is never asked about.

use bytes::Bytes;
use zeo_client::{
    Client, CommitError, Deferred, InDoubt, NotCommitted, Oid, Record, Tid, TransactionHead, TxnId,
    TxnMeta,
};
use zeo_proto::{Begin, Call, CallId, ClientMessage, Failure, MAX_META, Reply, Store};

use crate::scene::{Scene, tid};

#[test]
fn a_restored_transaction_keeps_its_tid_its_name_and_what_it_says_of_itself() {
    let mut scene = Scene::new();
    let mut restoring = restore(&scene);
    let begin = Begin { id: ID, snapshot: tid(4), meta: head().meta };
    assert_eq!(scene.message().0, ClientMessage::TpcBegin(1, begin));
    assert_eq!(scene.message().0, ClientMessage::Restore(1, tid(20)));
    let store = Store { oid: Oid::new(1), serial: Some(tid(3)), refs: Some(vec![Oid::new(2)]) };
    assert_eq!(scene.message(), (ClientMessage::Store(1, store), Bytes::from("one")));
    assert_eq!(scene.message().0, ClientMessage::Delete(1, Oid::new(2), tid(4)));
    let call = scene.expect(&Call::TpcVote(1, true));
    scene.reply(call, Reply::Finished(tid(20)));
    assert_eq!(scene.take(&mut restoring), Ok(tid(20)));
    assert_eq!(scene.cached(1, 21), Some(20));
}

// Asking would fence its name, and then it could never be restored.
#[test]
fn a_restored_transaction_whose_answer_was_lost_is_sent_again_under_its_name() {
    let mut scene = Scene::new();
    let mut restoring = restore(&scene);
    heard(&mut scene);
    scene.cut();
    let (call, id) = heard(&mut scene);
    assert_eq!(id, ID);
    scene.reply(call, Reply::Finished(tid(20)));
    assert_eq!(scene.take(&mut restoring), Ok(tid(20)));
}

// It may be the first one that is in the way.
#[test]
fn a_refusal_of_what_was_sent_again_does_not_say_whether_the_first_was_committed() {
    let mut scene = Scene::new();
    let mut restoring = restore(&scene);
    let (call, _) = heard(&mut scene);
    scene.fail(call, Failure::TidOutOfOrder(tid(30)));
    assert_eq!(scene.take(&mut restoring), Err(NotCommitted::OutOfOrder(tid(30)).into()));
    let mut restoring = restore(&scene);
    heard(&mut scene);
    scene.cut();
    let (call, _) = heard(&mut scene);
    scene.fail(call, Failure::TidOutOfOrder(tid(20)));
    let doubt = InDoubt::new(ID, tid(4), 1);
    assert_eq!(scene.take(&mut restoring), Err(CommitError::Unknown(doubt)));
}

#[test]
fn what_cannot_be_stored_is_not_restored() {
    let mut scene = Scene::new();
    let meta = TxnMeta { extension: vec![0; MAX_META + 1], ..TxnMeta::default() };
    let (large, many) = (Bytes::from(vec![0; 40 << 20]), vec![Oid::ROOT; 70_000]);
    let record = |data: &Bytes, refs: &[Oid]| {
        let (oid, previous) = (Oid::ROOT, Tid::ZERO);
        Record { oid, previous, data: Some(data.clone()), refs: Some(refs.to_vec()) }
    };
    let cases = [
        (TransactionHead { meta, ..head() }, vec![]),
        (head(), vec![record(&Bytes::new(), &many)]),
        (head(), vec![record(&large, &[]), record(&large, &[])]),
    ];
    for (head, records) in cases {
        let mut restoring = scene.client.nb().restore(&head, records);
        let refused = scene.take(&mut restoring);
        assert!(matches!(refused, Err(CommitError::NotCommitted(_))), "{refused:?}");
    }
    scene.expect_nothing();
    let mut scene = Scene::with(&Client::options().read_only(true));
    let mut restoring = restore(&scene);
    assert_eq!(scene.take(&mut restoring), Err(NotCommitted::ReadOnly.into()));
}

fn restore(scene: &Scene) -> Deferred<Result<Tid, CommitError>> {
    let stored = Record {
        oid: Oid::new(1),
        previous: tid(3),
        data: Some(Bytes::from("one")),
        refs: Some(vec![Oid::new(2)]),
    };
    let deleted = Record { oid: Oid::new(2), previous: tid(4), data: None, refs: None };
    scene.client.nb().restore(&head(), [stored, deleted])
}

/// The vote, and the transaction's name.
fn heard(scene: &mut Scene) -> (CallId, TxnId) {
    let (ClientMessage::TpcBegin(txn, begin), _) = scene.message() else { panic!() };
    for _ in 0..3 {
        scene.message();
    }
    (scene.expect(&Call::TpcVote(txn, true)), begin.id)
}

fn head() -> TransactionHead {
    let meta = TxnMeta { user: "Ada".to_owned(), ..TxnMeta::default() };
    TransactionHead { tid: tid(20), id: ID, snapshot: tid(4), records: 2, meta }
}

const ID: TxnId = TxnId::from_bytes(*b"its own old name");
