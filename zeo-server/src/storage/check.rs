//! The rules that every storage applies to a commit: conflicts, and the names that it may use.

use std::collections::BTreeMap;

use zeo_proto::{Conflict, Oid, Tid};

use super::{Commit, Record, Refused};

/// The records of a commit by object; of two for one object, the later.
pub(super) fn latest_records(records: &[Record]) -> BTreeMap<Oid, &Record> {
    records.iter().map(|record| (record.oid, record)).collect()
}

/// Checks what a commit writes and depends on against what is current.
///
/// `current` tells an object's current serial: that of its deletion if it is deleted,
/// [`Tid::ZERO`] if it never was. The outer error is a failure of `current`.
pub(super) fn conflict<E>(
    commit: &Commit,
    mut current: impl FnMut(Oid) -> Result<Tid, E>,
) -> Result<Option<Conflict>, E> {
    for (&oid, record) in &latest_records(&commit.records) {
        let committed = current(oid)?;
        let stale = match record.serial {
            Some(read) => committed != read,
            None => committed > commit.snapshot,
        };
        if stale {
            let read = record.serial.unwrap_or(commit.snapshot);
            return Ok(Some(Conflict { oid, committed, read }));
        }
    }
    for &(oid, read) in &commit.read_current {
        let committed = current(oid)?;
        if committed != read {
            return Ok(Some(Conflict { oid, committed, read }));
        }
    }
    Ok(None)
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
