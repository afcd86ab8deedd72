//! The rules that every storage applies to a commit: conflicts, and the names that it may use.

use std::collections::BTreeMap;

use zeo_proto::{Conflict, Oid, Tid};

use super::{Commit, Record, Refused};

/// What a commit writes, by object, each with the serial that is current before it. Of two records
/// for one object, the later counts.
pub(super) type Writes<'a> = Vec<(&'a Record, Tid)>;

/// Checks what a commit writes and depends on against what is current.
///
/// `current` tells an object's current serial: that of its deletion if it is deleted,
/// [`Tid::ZERO`] if it never was. The outer error is a failure of `current`.
pub(super) fn writes<E>(
    commit: &Commit,
    mut current: impl FnMut(Oid) -> Result<Tid, E>,
) -> Result<Result<Writes<'_>, Conflict>, E> {
    let mut writes = Vec::with_capacity(commit.records.len());
    for record in latest_records(&commit.records) {
        let committed = current(record.oid)?;
        let (stale, read) = match record.serial {
            Some(read) => (committed != read, read),
            None => (committed > commit.snapshot, commit.snapshot),
        };
        if stale {
            return Ok(Err(Conflict { oid: record.oid, committed, read }));
        }
        writes.push((record, committed));
    }
    for &(oid, read) in &commit.read_current {
        let committed = current(oid)?;
        if committed != read {
            return Ok(Err(Conflict { oid, committed, read }));
        }
    }
    Ok(Ok(writes))
}

fn latest_records(records: &[Record]) -> impl Iterator<Item = &Record> {
    let by_oid: BTreeMap<Oid, &Record> =
        records.iter().map(|record| (record.oid, record)).collect();
    by_oid.into_values()
}

/// The tid of the commit after `last`; refused when time has come to its end.
pub(super) fn next_tid(last: Tid, unix_micros: u64) -> Result<Tid, Refused> {
    let tid = last.next_at(unix_micros);
    if tid == Tid::MAX {
        return Err(Refused::Failed("there is no transaction id left".to_owned()));
    }
    Ok(tid)
}

/// The first oid after `count` of them, counted from `first`; refused when they do not exist.
pub(super) fn oids_after(first: Oid, count: u32) -> Result<Oid, Refused> {
    let end = first.number().checked_add(u64::from(count));
    end.map(Oid::new).ok_or_else(|| Refused::Failed("there is no object name left".to_owned()))
}
