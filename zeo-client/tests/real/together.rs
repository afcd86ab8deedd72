//! A bank with two branches, each a database of its own.

use std::thread;

use zeo_client::{Client, CommitError, Oid, Tid, TogetherError, commit_together, forbid_blocking};

use crate::undoing::undo;
use crate::{balance, client, create, number, server};

#[test]
fn transfers_between_branches_lose_no_money_and_can_be_audited_and_undone() {
    let (here, there) = (server(), server());
    let (one, two) = (client(&here), client(&there));
    let (from, to) = (create(&one, "100"), create(&two, "0"));
    let tids: Vec<_> = (1..=3).map(|amount| transfer(&one, &two, (from, to), amount)).collect();
    assert_eq!((balance(&one, from), balance(&two, to)), (94, 6));

    let audited: Vec<_> = one
        .transactions(tids[0][0]..)
        .flat_map(|txn| one.records(&txn.unwrap()))
        .map(|record| number(&record.unwrap().data.unwrap()))
        .collect();
    assert_eq!(audited, [99, 97, 94]);

    undo(&one, &[tids[2][0]]).unwrap();
    undo(&two, &[tids[2][1]]).unwrap();
    assert_eq!((balance(&one, from), balance(&two, to)), (97, 3));
}

// Those that vote in different orders wait for each other in a circle.
#[test]
fn transfers_in_both_directions_at_once_do_not_wait_for_each_other_in_a_circle() {
    let (here, there) = (server(), server());
    let (from, to) = (create(&client(&here), "100"), create(&client(&there), "100"));
    let threads = [true, false].map(|forth| {
        let (one, two) = (client(&here), client(&there));
        thread::Builder::new().spawn(move || {
            for _ in 0..20 {
                let amount = if forth { 1 } else { -1 };
                while try_transfer(&one, &two, (from, to), amount).is_err() {
                    one.sync().unwrap();
                    two.sync().unwrap();
                }
            }
        })
    });
    for thread in threads {
        thread.unwrap().join().unwrap();
    }
    assert_eq!((balance(&client(&here), from), balance(&client(&there), to)), (100, 100));
}

#[test]
fn a_conflict_in_one_branch_leaves_the_other_as_it_was() {
    let (here, there) = (server(), server());
    let (one, two) = (client(&here), client(&there));
    let (from, to) = (create(&one, "100"), create(&two, "0"));
    let (debit, credit) = (add(&one, from, -5), add(&two, to, 5));
    add(&client(&there), to, 7).commit().unwrap();
    let Err(TogetherError::NotCommitted { identity, why }) = commit_together([debit, credit])
    else {
        panic!()
    };
    assert_eq!(identity, two.identity());
    assert!(matches!(why, CommitError::Conflict(conflict) if conflict.oid == to));
    one.sync().unwrap();
    assert_eq!(balance(&one, from), 100);
    transfer(&one, &two, (from, to), 1);
}

#[test]
fn what_belongs_to_one_database_is_one_transaction() {
    let server = server();
    let (one, two) = (client(&server), client(&server));
    let (first, second) = (create(&one, "0"), create(&one, "0"));
    two.sync().unwrap();
    let refused = commit_together([add(&one, first, 1), add(&two, second, 1)]);
    assert_eq!(refused, Err(TogetherError::SameDatabase(one.identity())));
}

#[test]
fn who_must_not_wait_commits_nothing_together() {
    let server = server();
    let db = client(&server);
    let oid = create(&db, "0");
    let txn = add(&db, oid, 1);
    let forbidden = forbid_blocking();
    assert_eq!(commit_together([txn]), Err(TogetherError::WouldDeadlock));
    drop(forbidden);
    assert_eq!(balance(&db, oid), 0);
}

fn transfer(one: &Client, two: &Client, accounts: (Oid, Oid), amount: i64) -> Vec<Tid> {
    one.sync().unwrap();
    two.sync().unwrap();
    try_transfer(one, two, accounts, amount).unwrap()
}

fn try_transfer(
    one: &Client,
    two: &Client,
    (from, to): (Oid, Oid),
    amount: i64,
) -> Result<Vec<Tid>, TogetherError> {
    commit_together([add(one, from, -amount), add(two, to, amount)])
}

fn add(db: &Client, account: Oid, amount: i64) -> zeo_client::Transaction {
    let mut txn = db.begin().unwrap();
    let balance = number(&txn.load(account).unwrap().data);
    txn.store(account, (balance + amount).to_string()).unwrap();
    txn
}
