//! Pages of history and of objects: one at a time, and again after a lost connection.

use std::time::Duration;

use bytes::Bytes;
use zeo_client::{
    CallError, Client, Cursor, Deferred, HistoryEntry, LoadError, ObjectsPage, Oid, Size, Tid,
    TransactionHead, TxnId, TxnMeta,
};
use zeo_proto::{
    Call, CallId, Failure, HistoryItem, HistoryRecord, Loaded, Reply, ServerMessage,
    TransactionsPage, Validity,
};

use crate::scene::{Answer, Scene, UUID, tid, welcome};

#[test]
fn pages_are_asked_for_one_at_a_time() {
    let mut scene = Scene::new();
    let mut history = scene.client.nb().history_page(Oid::new(1), tid(9));
    let mut objects = scene.client.nb().objects_page(Oid::new(2), tid(9));
    let mut ping = scene.client.nb().ping();
    let call = scene.expect(&Call::History(Oid::new(1), tid(9), 1_024));
    let pinged = scene.expect(&Call::Ping);
    scene.expect_nothing();
    scene.reply(pinged, Reply::Pong);
    assert_eq!(scene.take(&mut ping), Ok(()));
    scene.reply(call, Reply::History(vec![entry(5)]));
    assert_eq!(scene.take(&mut history), Ok(vec![entry(5)]));
    let call = scene.expect(&Call::Objects(Oid::new(2), tid(9), 1_024));
    let page = ObjectsPage { objects: vec![(Oid::new(3), tid(5))], next: Some(Oid::new(4)) };
    scene.reply(call, Reply::Objects(Box::new(page.clone())));
    assert_eq!(scene.take(&mut objects), Ok(page));
}

#[test]
fn a_transaction_that_is_longer_than_a_page_is_read_apart_from_the_others() {
    let mut scene = Scene::new();
    let mut page = scene.client.nb().transactions_page(tid(3)..=tid(8));
    let call = scene.expect(&Call::Transactions(Cursor::from_tid(tid(3)), tid(8)));
    let items = vec![head(4, 1), record(1, 3), head(6, 3), record(2, 0)];
    let next = Cursor { tid: tid(6), record: 1 };
    reply_page(&mut scene, call, items, Some(next), b"one");
    let page = scene.take(&mut page).unwrap();
    assert_eq!(page.next, Some(tid(7)));
    let [first, second] = &page.transactions[..] else { panic!() };
    assert_eq!((first.head.tid, first.rest), (tid(4), None));
    assert_eq!(first.records[0].data.as_deref(), Some(&b"one"[..]));
    assert_eq!((second.head.records, second.records.len(), second.rest), (3, 1, Some(next)));

    let mut rest = scene.client.nb().records_page(next);
    let call = scene.expect(&Call::Transactions(next, tid(6)));
    let after = Cursor { tid: tid(6), record: 2 };
    reply_page(&mut scene, call, vec![record(3, 2)], Some(after), b"ab");
    let rest = scene.take(&mut rest).unwrap();
    assert_eq!((rest.records[0].oid, rest.next), (Oid::new(3), Some(after)));

    let mut last = scene.client.nb().records_page(after);
    let call = scene.expect(&Call::Transactions(after, tid(6)));
    reply_page(&mut scene, call, vec![record(4, 2)], Some(Cursor::from_tid(tid(7))), b"ab");
    assert_eq!(scene.take(&mut last).unwrap().next, None);
}

#[test]
fn a_page_whose_connection_is_lost_is_asked_for_again_before_all_others() {
    let mut scene = Scene::new();
    let mut first = scene.client.nb().history_page(Oid::new(1), tid(9));
    let _second = scene.client.nb().history_page(Oid::new(2), tid(9));
    scene.expect(&Call::History(Oid::new(1), tid(9), 1_024));
    scene.cut();
    let call = scene.expect(&Call::History(Oid::new(1), tid(9), 1_024));
    scene.reply(call, Reply::History(Vec::new()));
    assert_eq!(scene.take(&mut first), Ok(Vec::new()));
    scene.expect(&Call::History(Oid::new(2), tid(9), 1_024));
}

#[test]
fn a_page_that_is_late_keeps_the_next_one_back_until_it_comes() {
    let mut scene = Scene::with(&Client::options().call_timeout(Duration::from_secs(2)));
    let mut first = scene.client.nb().history_page(Oid::new(1), tid(9));
    let call = scene.expect(&Call::History(Oid::new(1), tid(9), 1_024));
    scene.pass(Duration::from_secs(1));
    let mut second = scene.client.nb().history_page(Oid::new(2), tid(9));
    assert_eq!(scene.take(&mut first), Err(CallError::Timeout));
    scene.expect_nothing();
    scene.reply(call, Reply::History(Vec::new()));
    let call = scene.expect(&Call::History(Oid::new(2), tid(9), 1_024));
    scene.reply(call, Reply::History(Vec::new()));
    assert_eq!(scene.take(&mut second), Ok(Vec::new()));
}

#[test]
fn one_that_waits_for_its_turn_has_a_time_limit_too() {
    let mut scene = Scene::with(&Client::options().call_timeout(Duration::from_secs(1)));
    let _first = scene.client.nb().history_page(Oid::new(1), tid(9));
    let mut second = scene.client.nb().history_page(Oid::new(2), tid(9));
    assert_eq!(scene.take(&mut second), Err(CallError::Timeout));
}

#[test]
fn a_page_that_fails_says_why_and_the_next_one_is_asked_for() {
    let mut scene = Scene::new();
    for (failure, why) in [
        (Failure::Busy, CallError::Busy),
        (Failure::Damaged("torn".to_owned()), CallError::Failed("torn".to_owned())),
    ] {
        let mut page = scene.client.nb().history_page(Oid::new(1), tid(9));
        let call = scene.expect(&Call::History(Oid::new(1), tid(9), 1_024));
        scene.fail(call, failure);
        assert_eq!(scene.take(&mut page), Err(why));
    }
}

// A page that leads back would have been read for ever.
#[test]
fn a_page_that_does_not_go_on_is_an_error() {
    let mut scene = Scene::new();
    let mut history = scene.client.nb().history_page(Oid::new(1), tid(9));
    let (call, _) = scene.call();
    scene.reply(call, Reply::History(vec![entry(9)]));
    assert!(failed(&mut scene, &mut history));
    let mut objects = scene.client.nb().objects_page(Oid::new(2), tid(9));
    let (call, _) = scene.call();
    let page = ObjectsPage { objects: Vec::new(), next: Some(Oid::new(2)) };
    scene.reply(call, Reply::Objects(Box::new(page)));
    assert!(failed(&mut scene, &mut objects));
    let mut transactions = scene.client.nb().transactions_page(tid(3)..);
    let (call, _) = scene.call();
    reply_page(&mut scene, call, Vec::new(), Some(Cursor::from_tid(tid(3))), b"");
    assert!(failed(&mut scene, &mut transactions));
    let mut records = scene.client.nb().records_page(Cursor { tid: tid(3), record: 7 });
    let (call, _) = scene.call();
    scene.reply(call, Reply::Pong);
    assert!(failed(&mut scene, &mut records));
}

#[test]
fn an_empty_range_has_no_page_and_asks_nobody() {
    let mut scene = Scene::new();
    let mut page = scene.client.nb().transactions_page(tid(8)..tid(8));
    assert_eq!(scene.take(&mut page).unwrap().transactions, []);
    scene.expect_nothing();
}

#[test]
fn pages_of_a_history_that_was_replaced_are_not_mixed_with_those_of_the_new_one() {
    let mut scene = Scene::new();
    let mut page = scene.client.nb().transactions_page(..);
    scene.call();
    scene.answer_with(Answer::Welcome(welcome(UUID, 2, 8)));
    scene.cut();
    assert_eq!(scene.take(&mut page), Err(CallError::HistoryChanged));
    scene.expect_nothing();
}

#[test]
fn more_pages_than_may_wait_are_refused() {
    let mut scene = Scene::new();
    let page = |scene: &Scene| scene.client.nb().history_page(Oid::new(1), tid(9));
    let _waiting: Vec<_> = (0..1_025).map(|_| page(&scene)).collect();
    let mut another = page(&scene);
    assert_eq!(scene.take(&mut another), Err(CallError::Busy));
}

#[test]
fn whoever_waits_for_a_page_when_the_client_closes_is_told() {
    let mut scene = Scene::new();
    let mut asked = scene.client.nb().history_page(Oid::new(1), tid(9));
    let mut waits = scene.client.nb().transactions_page(..);
    let mut size = scene.client.nb().size();
    scene.flow();
    scene.client.close();
    assert_eq!(scene.take(&mut asked), Err(CallError::Closed));
    assert_eq!(scene.take(&mut waits), Err(CallError::Closed));
    assert_eq!(scene.take(&mut size), Err(CallError::Closed));
}

#[test]
fn the_size_is_asked_for_beside_pages_and_again_on_the_next_connection() {
    let mut scene = Scene::new();
    let _page = scene.client.nb().history_page(Oid::new(1), tid(9));
    let mut size = scene.client.nb().size();
    scene.call();
    scene.expect(&Call::Size);
    scene.cut();
    let call = scene.expect(&Call::Size);
    let found = Size { objects: 3, bytes: 4_096 };
    scene.reply(call, Reply::Size(found));
    assert_eq!(scene.take(&mut size), Ok(found));
}

#[test]
fn a_serial_names_one_revision_and_no_older_one() {
    let mut scene = Scene::new();
    let oid = Oid::new(1);
    let mut load = scene.client.nb().load_serial(oid, tid(7));
    let call = scene.expect(&Call::LoadBefore(oid, tid(8)));
    scene.reply_loaded(call, 5, Some(9));
    assert_eq!(scene.take(&mut load), Err(LoadError::NotFound(oid)));
    let mut load = scene.client.nb().load_serial(oid, tid(5));
    assert_eq!(scene.take(&mut load).unwrap().tid, tid(5), "from the cache");
    scene.expect_nothing();
    for (serial, error) in [
        (7, LoadError::Deleted { oid: Oid::new(2), tid: tid(7) }),
        (8, LoadError::NotFound(Oid::new(2))),
    ] {
        let mut load = scene.client.nb().load_serial(Oid::new(2), tid(serial));
        let (call, _) = scene.call();
        let deleted = Loaded::Deleted(Validity { serial: tid(7), end: None });
        scene.reply(call, Reply::Loaded(deleted));
        assert_eq!(scene.take(&mut load), Err(error));
    }
}

fn failed<T>(scene: &mut Scene, page: &mut Deferred<Result<T, CallError>>) -> bool {
    matches!(scene.take(page), Err(CallError::Failed(_)))
}

fn entry(at: u64) -> HistoryEntry {
    HistoryEntry { tid: tid(at), data_len: 7, deleted: false, meta: TxnMeta::default() }
}

fn head(at: u64, records: u32) -> HistoryItem {
    let (id, snapshot, meta) = (TxnId::default(), Tid::ZERO, TxnMeta::default());
    HistoryItem::Transaction(TransactionHead { tid: tid(at), id, snapshot, records, meta })
}

/// A record with so many bytes; of none, it deletes.
fn record(oid: u64, bytes: u32) -> HistoryItem {
    let data_len = (bytes > 0).then_some(bytes);
    HistoryItem::Record(HistoryRecord {
        oid: Oid::new(oid),
        previous: Tid::ZERO,
        data_len,
        refs: None,
    })
}

fn reply_page(
    scene: &mut Scene,
    call: CallId,
    items: Vec<HistoryItem>,
    next: Option<Cursor>,
    data: &'static [u8],
) {
    let length: usize = items.iter().map(HistoryItem::data_len).sum();
    let reply = Reply::Transactions(Box::new(TransactionsPage { items, next }));
    scene.say(&ServerMessage::Reply(call, reply), &Bytes::from_static(data).slice(..length));
}
