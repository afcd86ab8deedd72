//! Durable commits, beside the same bytes appended to a plain file.

use zeo_client::{Client, Transaction};
use zeo_proto::Oid;

use crate::cpus::Placement;
use crate::measure;
use crate::plan::Plan;
use crate::reference::{Append, GroupLog};
use crate::store::{Store, object};
use crate::table::{Aim, Row};

/// One caller commits one object after the other.
pub(crate) fn one_caller(plan: &Plan) -> Vec<Row> {
    let mut rows = one_caller_at(plan, ", 1 caller", Aim::RatioAtLeast(0.8));
    let bound = || one_caller_at(plan, ", 1 caller, all on one CPU", Aim::None);
    rows.extend(Placement::Together.client(bound));
    rows
}

fn one_caller_at(plan: &Plan, how: &str, aim: Aim) -> Vec<Row> {
    let store = Store::on_disk(plan, 1);
    let (db, dir) = (store.client(), plan.scratch());
    let append = Append::new(&dir, COMMIT_BYTES);
    let [ours, theirs] = measure::rounds(
        plan,
        [&mut || measure::callers(plan.slice, 1, |_| commit(&db, &store.oids)), &mut || {
            measure::callers(plan.slice, 1, |_| append.once())
        }],
    );
    let theirs = (&*theirs, "append to an extending file + fdatasync");
    let mut rows = vec![Row::rates(format!("durable commits{how}"), &ours, theirs, aim)];
    rows.extend(Row::latencies(&format!("durable commit{how}"), &ours, theirs, Aim::None));
    rows
}

/// Many callers commit at once, each an object of its own, through one client.
pub(crate) fn many_callers(plan: &Plan) -> Vec<Row> {
    let store = Store::on_disk(plan, CALLERS);
    let (db, dir) = (store.client(), plan.scratch());
    let (log, append) = (GroupLog::new(&dir, COMMIT_BYTES), Append::new(&dir, GROUP_BYTES));
    let [ours, log, groups] = measure::rounds(
        plan,
        [
            &mut || {
                measure::callers(plan.slice, CALLERS, |caller| {
                    commit(&db, &store.oids[caller..=caller]);
                })
            },
            &mut || measure::callers(plan.slice, CALLERS, |_| log.commit()),
            &mut || {
                let groups = measure::callers(plan.slice, 1, |_| append.once());
                measure::Sample { rate: groups.rate * CALLERS as f64, ..groups }
            },
        ],
    );
    let log = (&*log, "group log, 64 threads");
    let groups = (&*groups, "64 at a time by one thread");
    let what = "durable commits, 64 callers";
    let mut rows = vec![
        Row::rates(what, &ours, log, Aim::RatioAtLeast(0.5)),
        // The aim is 20 times what ZEO does.
        Row::rates(what, &ours, groups, Aim::AtLeast(20_000.0)),
    ];
    rows.extend(Row::latencies("durable commit, 64 callers", &ours, log, Aim::None));
    rows
}

/// Many callers vote and then finish, each with an object of its own; beside the same callers in one
/// round trip.
pub(crate) fn two_phases(plan: &Plan) -> Vec<Row> {
    let mut rows = Vec::new();
    for (callers, aim) in [(CALLERS, Aim::RatioAtLeast(0.7)), (1, Aim::None)] {
        let store = Store::on_disk(plan, callers);
        let db = store.client();
        let [two, one] = measure::rounds(
            plan,
            [
                &mut || {
                    measure::callers(plan.slice, callers, |caller| {
                        changes(&db, &store.oids[caller..=caller])
                            .vote()
                            .unwrap()
                            .finish()
                            .unwrap();
                    })
                },
                &mut || {
                    measure::callers(plan.slice, callers, |caller| {
                        commit(&db, &store.oids[caller..=caller]);
                    })
                },
            ],
        );
        let what = format!("commits in two phases, {callers} callers");
        rows.push(Row::rates(what, &two, (&*one, "in one round trip"), aim));
    }
    rows
}

/// One caller commits a hundred objects at once.
pub(crate) fn many_objects(plan: &Plan) -> Vec<Row> {
    let store = Store::on_disk(plan, OBJECTS);
    let bytes = COMMIT_BYTES + (OBJECTS - 1) * RECORD_BYTES;
    let (db, dir) = (store.client(), plan.scratch());
    let append = Append::new(&dir, bytes);
    let [ours, theirs] = measure::rounds(
        plan,
        [&mut || measure::callers(plan.slice, 1, |_| commit(&db, &store.oids)), &mut || {
            measure::callers(plan.slice, 1, |_| append.once())
        }],
    );
    let theirs = (&*theirs, "append to an extending file + fdatasync");
    vec![Row::rates("durable commits of 100 objects, 1 caller", &ours, theirs, Aim::None)]
}

/// Writes all of the objects, without having read them.
pub(crate) fn commit(db: &Client, oids: &[Oid]) {
    changes(db, oids).commit().unwrap();
}

fn changes(db: &Client, oids: &[Oid]) -> Transaction {
    let mut txn = db.begin().unwrap();
    for oid in oids {
        txn.store(*oid, object()).unwrap();
    }
    txn
}

pub(crate) const CALLERS: usize = 64;
const OBJECTS: usize = 100;
/// What the journal takes for a record with its data.
const RECORD_BYTES: usize = 40 + crate::store::OBJECT;
/// What the journal takes for a transaction of one object, with the head of its group.
const COMMIT_BYTES: usize = 48 + 56 + RECORD_BYTES;
/// And for a group of 64 of them.
const GROUP_BYTES: usize = 48 + CALLERS * (56 + RECORD_BYTES);
