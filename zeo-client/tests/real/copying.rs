//! Copying a database, transaction by transaction.

use zeo_client::{
    Client, CommitError, CommittedTransaction, NotCommitted, Oid, Record, Tid, forbid_blocking,
};

use crate::undoing::undo;
use crate::{change, client, create, delete, server};

// R31: a copy took the wrong revision where an object was undone twice in one transaction.
#[test]
fn r31_a_copy_has_the_same_history_with_two_undos_of_one_object_in_one_transaction() {
    let (from, to) = (server(), server());
    let (db, copy) = (client(&from), client(&to));
    let oid = create(&db, "0");
    let (first, second) = (change(&db, oid, "1"), change(&db, oid, "2"));
    let undone = undo(&db, &[first, second]).unwrap();
    assert_eq!(db.load(oid).unwrap().data, "0");
    undo(&db, &[undone]).unwrap();
    let gone = create(&db, "gone");
    let deleted = delete(&db, gone);
    copy_all(&db, &copy);
    assert_eq!(history(&copy), history(&db));
    assert_eq!(copy.load(oid).unwrap().data, "2");
    assert_eq!(copy.load_before(oid, undone.next()).unwrap().data, "0");
    let error = zeo_client::LoadError::Deleted { oid: gone, tid: deleted };
    assert_eq!(copy.load(gone), Err(error));
    // What can be undone there can be undone here.
    undo(&copy, &[deleted]).unwrap();
    assert_eq!(copy.load(gone).unwrap().data, "gone");
}

#[test]
fn a_copy_of_any_history_is_the_same_and_can_be_brought_up_to_date() {
    for seed in 1..=20 {
        let (from, to) = (server(), server());
        let (db, copy) = (client(&from), client(&to));
        let mut random = Random(seed);
        for _ in 0..2 {
            for _ in 0..25 {
                random.transaction(&db);
            }
            copy_all(&db, &copy);
        }
        assert_eq!(history(&copy), history(&db), "seed {seed}");
        let objects = |db: &Client| db.objects(Oid::ROOT).map(Result::unwrap).collect::<Vec<_>>();
        assert_eq!(objects(&copy), objects(&db), "seed {seed}");
        assert_eq!(copy.last_tid(), db.last_tid());
    }
}

#[test]
fn what_is_not_newer_is_not_restored() {
    let (from, to) = (server(), server());
    let (db, copy) = (client(&from), client(&to));
    create(&db, "first");
    copy_all(&db, &copy);
    copy_again(&db, &copy);
    let mut other = db.transactions(..).next().unwrap().unwrap();
    other.head.id = zeo_client::TxnId::from_bytes([7; 16]);
    let last = other.head.tid;
    let refused = copy.restore(&other.head, other.records.clone());
    assert_eq!(refused, Err(CommitError::NotCommitted(NotCommitted::OutOfOrder(last))));
    let _forbidden = forbid_blocking();
    let refused = copy.restore(&other.head, other.records);
    assert_eq!(refused, Err(CommitError::WouldDeadlock));
}

fn copy_all(db: &Client, copy: &Client) {
    for txn in db.transactions(copy.last_tid().next()..) {
        let txn = txn.unwrap();
        let records = db.records(&txn).map(Result::unwrap).collect::<Vec<_>>();
        assert_eq!(copy.restore(&txn.head, records), Ok(txn.head.tid));
    }
}

/// Restores what is there already, as a client does that has lost the answer.
fn copy_again(db: &Client, copy: &Client) {
    let txn = db.transactions(..).next().unwrap().unwrap();
    assert_eq!(copy.restore(&txn.head, txn.records), Ok(txn.head.tid));
    assert_eq!(copy.transactions(..).count(), 1);
}

fn history(db: &Client) -> Vec<(CommittedTransaction, Vec<Record>)> {
    let txns = db.transactions(..).map(Result::unwrap);
    txns.map(|txn| (txn.clone(), db.records(&txn).map(Result::unwrap).collect())).collect()
}

/// The same numbers for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    /// Something that is done to some of a few objects; it may be refused.
    fn transaction(&mut self, db: &Client) {
        let mut txn = db.begin().unwrap();
        let mut tids: Vec<Tid> = Vec::new();
        for _ in 0..=self.below(3) {
            let oid = Oid::new(self.below(5));
            let known = txn.load(oid).is_ok();
            match self.below(4) {
                0 if known => drop(txn.delete(oid)),
                1 => tids.push(self.some_tid(db)),
                _ => txn.store(oid, self.below(1_000).to_string()).unwrap(),
            }
        }
        txn.set_description(format!("{} undone", tids.len())).unwrap();
        for tid in tids {
            txn.undo(tid).unwrap();
        }
        let end = txn.commit();
        assert!(end.as_ref().err().is_none_or(is_refusal), "{end:?}");
    }

    fn some_tid(&mut self, db: &Client) -> Tid {
        let tids: Vec<_> = db.transactions(..).map(|txn| txn.unwrap().head.tid).collect();
        let last = tids.len().saturating_sub(1 + usize::try_from(self.below(3)).unwrap());
        tids.get(last).copied().unwrap_or_default()
    }
}

/// Whether the server has good reason to refuse what was made up.
fn is_refusal(error: &CommitError) -> bool {
    matches!(
        error,
        CommitError::Conflict(_)
            | CommitError::NotCommitted(
                NotCommitted::UndoRefused(_) | NotCommitted::NoSuchTransaction(_)
            )
    )
}
