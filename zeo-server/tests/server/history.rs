//! Undo, and questions about the past.

use zeo_proto::{
    Call, ClientMessage, Cursor, Failure, HistoryItem, Loaded, Oid, Reply, ServerMessage, Size,
    Tid, TransactionsPage,
};
use zeo_server::Server;

use crate::faulty::Faulty;
use crate::peer::{Answer, Peer, Txn};

#[test]
fn an_undo_is_told_to_everybody_its_writer_included() {
    let server = Server::in_memory().unwrap();
    let (mut peer, mut watcher) = (Peer::connect(&server), Peer::connect(&server));
    let [first, second] = two_commits(&mut peer);
    let third = finished(undo(&mut peer, 1, second, &[second]));
    let notice = ServerMessage::Invalidate(third, vec![Oid::new(1)], false);
    assert_eq!(peer.notice(), notice, "its writer does not know what it changes");
    let told: Vec<_> = (0..3).map(|_| watcher.notice()).collect();
    assert_eq!(told[2], notice);
    let (Loaded::Revision(validity, _), data) = peer.load(1, Tid::MAX) else { panic!() };
    assert_eq!((validity.serial, &data[..]), (third, &b"a"[..]));
    // Undoing the undo brings it back, and undoing the first deletes.
    let fourth = finished(undo(&mut peer, 2, third, &[third]));
    assert_eq!(peer.load(1, Tid::MAX).1, "b");
    finished(undo(&mut peer, 3, fourth, &[fourth, third, second, first]));
    assert!(matches!(peer.load(1, Tid::MAX).0, Loaded::Deleted(_)));
}

#[test]
fn an_undo_that_is_refused_says_what_is_in_the_way() {
    let server = Server::in_memory().unwrap();
    let mut peer = Peer::connect(&server);
    let [first, second] = two_commits(&mut peer);
    assert_eq!(undo(&mut peer, 1, second, &[first]), Err(Failure::UndoRefused(vec![Oid::new(1)])));
    let strange = Tid::new(77);
    assert_eq!(undo(&mut peer, 2, second, &[strange]), Err(Failure::NoSuchTid(strange)));
    assert_eq!(peer.load(1, Tid::MAX).1, "b");
}

#[test]
fn an_undo_may_be_voted_on_in_two_phases() {
    let server = Server::in_memory().unwrap();
    let (mut peer, mut other) = (Peer::connect(&server), Peer::connect(&server));
    let [first, second] = two_commits(&mut peer);
    begin_undo(&mut peer, 1, second, &[second]);
    assert!(matches!(peer.call(Call::TpcVote(1, false)), Ok((Reply::Voted, _))));
    let waits = other.begin_commit(&Txn::new(1, 5, second), &[(1, Some(second), b"c")]);
    finished(peer.call(Call::TpcFinish(1)));
    assert!(matches!(other.answer(waits), Err(Failure::Conflict(_))));
    assert_eq!(peer.load(1, Tid::MAX).1, "a");
    assert!(first < second);
}

#[test]
fn the_history_of_an_object_is_told_newest_first() {
    let server = Server::in_memory().unwrap();
    let mut peer = Peer::connect(&server);
    let [first, second] = two_commits(&mut peer);
    let mut history = |before, count| {
        let (Reply::History(entries), _) =
            peer.call(Call::History(Oid::new(1), before, count)).unwrap()
        else {
            panic!()
        };
        entries.iter().map(|entry| (entry.tid, entry.data_len)).collect::<Vec<_>>()
    };
    assert_eq!(history(Tid::MAX, 10), [(second, 1), (first, 1)]);
    assert_eq!(history(Tid::MAX, 1), [(second, 1)]);
    assert_eq!(history(second, 10), [(first, 1)]);
    assert_eq!(history(first, 10), []);
}

#[test]
fn all_transactions_are_told_in_pages() {
    let server = Server::in_memory().unwrap();
    let mut peer = Peer::connect(&server);
    let large = vec![7; 600_000];
    let mut last = Tid::ZERO;
    for number in 1..=4_u64 {
        let stores = [(number, Some(Tid::ZERO), &large[..]), (number + 10, Some(Tid::ZERO), b"x")];
        let txn = Txn::new(u32::try_from(number).unwrap(), 0, last);
        last = peer.commit(&txn, &stores).unwrap();
    }
    let (mut cursor, mut pages, mut oids, mut bytes) = (Cursor::from_tid(Tid::ZERO), 0, vec![], 0);
    loop {
        let (page, data) = page(&mut peer, cursor, Tid::MAX);
        let oid = |item: &HistoryItem| match item {
            HistoryItem::Record(record) => Some(record.oid.number()),
            HistoryItem::Transaction(_) => None,
        };
        oids.extend(page.items.iter().filter_map(oid));
        (pages, bytes) = (pages + 1, bytes + data);
        let Some(next) = page.next else { break };
        cursor = next;
    }
    assert_eq!(oids, [1, 11, 2, 12, 3, 13, 4, 14]);
    assert_eq!(bytes, 4 * 600_001);
    assert!(pages > 2, "{pages}");
    // A page in the middle of a transaction can be asked for by anybody.
    let mut other = Peer::connect(&server);
    let (page, _) = page(&mut other, Cursor { tid: last, record: 1 }, last);
    assert!(matches!(&page.items[..], [HistoryItem::Record(record)] if record.oid == Oid::new(14)));
}

#[test]
fn objects_are_listed_in_order_and_counted() {
    let server = Server::in_memory().unwrap();
    let mut peer = Peer::connect(&server);
    let stores = [1, 2, 3].map(|oid| (oid, Some(Tid::ZERO), &b"a"[..]));
    let first = peer.commit(&Txn::new(1, 0, Tid::ZERO), &stores).unwrap();
    peer.write(&Txn::new(2, 0, first).begin());
    peer.say(&ClientMessage::Delete(2, Oid::new(2), first));
    let second = finished(peer.call(Call::TpcVote(2, true)));
    let mut objects = |from, before, count| {
        let (Reply::Objects(page), _) =
            peer.call(Call::Objects(Oid::new(from), before, count)).unwrap()
        else {
            panic!()
        };
        let numbers: Vec<_> = page.objects.iter().map(|(oid, _)| oid.number()).collect();
        (numbers, page.next.map(Oid::number))
    };
    assert_eq!(objects(0, Tid::MAX, 10), (vec![1, 3], None));
    assert_eq!(objects(0, second, 10), (vec![1, 2, 3], None));
    let (page, next) = objects(0, Tid::MAX, 1);
    assert_eq!(page, [1]);
    assert_eq!(objects(next.unwrap(), Tid::MAX, 10).0, [3]);
    let (Reply::Size(Size { objects, .. }), _) = peer.call(Call::Size).unwrap() else { panic!() };
    assert_eq!(objects, 2);
}

/// A page takes memory here and at the peer, so there is one at a time.
#[test]
fn a_second_page_at_once_is_refused() {
    let storage = Faulty::new();
    let server = storage.serve(zeo_server::Limits::default());
    let mut peer = Peer::connect(&server);
    storage.set(|faults| faults.held_history = true);
    let first = peer.ask(Call::History(Oid::new(1), Tid::MAX, 9));
    assert_eq!(peer.call(Call::Objects(Oid::ROOT, Tid::MAX, 9)), Err(Failure::Busy));
    storage.set(|faults| faults.held_history = false);
    assert!(matches!(peer.answer(first), Ok((Reply::History(_), _))));
    assert!(peer.call(Call::Objects(Oid::ROOT, Tid::MAX, 9)).is_ok());
}

/// Stores an object, and stores it again.
fn two_commits(peer: &mut Peer) -> [Tid; 2] {
    let first = peer.commit(&Txn::new(1, 1, Tid::ZERO), &[(1, Some(Tid::ZERO), b"a")]).unwrap();
    let second = peer.commit(&Txn::new(1, 2, first), &[(1, Some(first), b"b")]).unwrap();
    [first, second]
}

fn begin_undo(peer: &mut Peer, seed: u8, snapshot: Tid, tids: &[Tid]) {
    peer.write(&Txn::new(1, seed + 100, snapshot).begin());
    for &tid in tids {
        peer.say(&ClientMessage::Undo(1, tid));
    }
}

fn undo(peer: &mut Peer, seed: u8, snapshot: Tid, tids: &[Tid]) -> Answer {
    begin_undo(peer, seed, snapshot, tids);
    peer.call(Call::TpcVote(1, true))
}

fn page(peer: &mut Peer, from: Cursor, through: Tid) -> (TransactionsPage, usize) {
    match peer.call(Call::Transactions(from, through)).unwrap() {
        (Reply::Transactions(page), data) => (*page, data.len()),
        (other, _) => panic!("{other:?}"),
    }
}

fn finished(answer: Answer) -> Tid {
    match answer {
        Ok((Reply::Finished(tid), _)) => tid,
        other => panic!("{other:?}"),
    }
}
