//! Undoing.

use crossbeam_channel::bounded;
use zeo_client::{Client, CommitError, LoadError, NotCommitted, Oid, StoreError, Tid};

use crate::{change, client, create, delete, server};

#[test]
fn an_undo_brings_back_what_was_before_and_can_be_undone() {
    let server = server();
    let (db, other) = (client(&server), client(&server));
    let oid = create(&db, "before");
    let mistake = change(&db, oid, "a mistake");
    let undone = undo(&db, &[mistake]).unwrap();
    assert_eq!(db.load(oid).unwrap().data, "before");
    assert_eq!(db.load(oid).unwrap().tid, undone);
    other.sync().unwrap();
    assert_eq!(other.load(oid).unwrap().data, "before");
    undo(&other, &[undone]).unwrap();
    db.sync().unwrap();
    assert_eq!(db.load(oid).unwrap().data, "a mistake");
}

#[test]
fn an_undo_of_a_creation_deletes_and_of_a_deletion_brings_back() {
    let server = server();
    let db = client(&server);
    let oid = create(&db, "here");
    let created = db.last_tid();
    let tid = undo(&db, &[created]).unwrap();
    assert_eq!(db.load(oid), Err(LoadError::Deleted { oid, tid }));
    undo(&db, &[tid]).unwrap();
    assert_eq!(db.load(oid).unwrap().data, "here");
    let deleted = delete(&db, oid);
    undo(&db, &[deleted]).unwrap();
    assert_eq!(db.load(oid).unwrap().data, "here");
}

#[test]
fn an_undo_is_refused_with_the_objects_in_the_way() {
    let server = server();
    let db = client(&server);
    let oid = create(&db, "0");
    let mistake = change(&db, oid, "1");
    let later = change(&db, oid, "2");
    assert_eq!(undo(&db, &[mistake]), Err(NotCommitted::UndoRefused(vec![oid]).into()));
    let never = Tid::new(7);
    assert_eq!(undo(&db, &[never]), Err(NotCommitted::NoSuchTransaction(never).into()));
    undo(&db, &[mistake, later]).unwrap();
    assert_eq!(db.load(oid).unwrap().data, "0", "both, in whatever order");
}

// The writer of a transaction hears of what it wrote itself; what an undo has changed, only the
// server knows. So it is told of all of it before its answer, and must not take its own stores,
// which come into the cache with the answer, for older than they are.
#[test]
fn an_undo_beside_stores_leaves_nothing_stale_and_is_announced_once() {
    let server = server();
    let db = client(&server);
    let (oid, beside) = (create(&db, "before"), create(&db, "0"));
    let mistake = change(&db, oid, "a mistake");
    let (heard, changes) = bounded(8);
    let _subscription = db.on_invalidation(move |change| heard.send(change.clone()).unwrap());
    let mut txn = db.begin().unwrap();
    txn.load(beside).unwrap();
    txn.store(beside, "1").unwrap();
    txn.undo(mistake).unwrap();
    let tid = txn.commit().unwrap();
    assert_eq!(db.load(oid).unwrap().data, "before");
    assert_eq!(db.load(beside).unwrap().data, "1");
    let change = changes.recv().unwrap();
    assert_eq!(change.tid, tid);
    assert!(change.concerns(oid) && change.concerns(beside));
    let next = create_one(&db);
    assert_eq!(changes.recv().unwrap().tid, next);
}

#[test]
fn a_read_only_client_undoes_nothing() {
    let server = server();
    let db = Client::options().read_only(true).connect(&server.url("main")).unwrap();
    assert_eq!(db.begin().unwrap().undo(Tid::new(7)), Err(StoreError::ReadOnly));
}

pub(crate) fn undo(db: &Client, tids: &[Tid]) -> Result<Tid, CommitError> {
    let mut txn = db.begin().unwrap();
    for tid in tids {
        txn.undo(*tid).unwrap();
    }
    txn.commit()
}

fn create_one(db: &Client) -> Tid {
    let mut txn = db.begin().unwrap();
    let _oid: Oid = txn.create("next").unwrap();
    txn.commit().unwrap()
}
