//! The rules that every storage applies to a commit: conflicts, and the names that it may use.

use std::collections::BTreeMap;

use zeo_proto::{Conflict, MAX_BATCH, Oid, Tid};

use super::{Check, Commit, Record, Refused};

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
    let is_checked = commit.restore.is_none();
    for record in latest_records(&commit.records) {
        let committed = current(record.oid)?;
        let conflict = conflict(record.oid, record.serial, committed, commit.snapshot);
        if let Some(conflict) = conflict.filter(|_| is_checked) {
            return Ok(Err(conflict));
        }
        writes.push((record, committed));
    }
    for &(oid, read) in commit.read_current.iter().filter(|_| is_checked) {
        if let Some(conflict) = conflict(oid, Some(read), current(oid)?, commit.snapshot) {
            return Ok(Err(conflict));
        }
    }
    Ok(Ok(writes))
}

/// All conflicts of a transaction that is voted on, in the order of what it writes and then reads;
/// at most [`MAX_BATCH`].
pub(super) fn conflicts<E>(
    check: &Check,
    mut current: impl FnMut(Oid) -> Result<Tid, E>,
) -> Result<Vec<Conflict>, E> {
    let reads = check.read_current.iter().map(|&(oid, read)| (oid, Some(read)));
    let writes: BTreeMap<Oid, Option<Tid>> = check.writes.iter().copied().collect();
    let mut conflicts = Vec::new();
    for (oid, serial) in writes.into_iter().chain(reads) {
        conflicts.extend(conflict(oid, serial, current(oid)?, check.snapshot));
        if conflicts.len() == MAX_BATCH {
            break;
        }
    }
    Ok(conflicts)
}

fn conflict(oid: Oid, serial: Option<Tid>, committed: Tid, snapshot: Tid) -> Option<Conflict> {
    let (stale, read) = match serial {
        Some(read) => (committed != read, read),
        None => (committed > snapshot, snapshot),
    };
    stale.then_some(Conflict { oid, committed, read })
}

fn latest_records(records: &[Record]) -> impl Iterator<Item = &Record> {
    let by_oid: BTreeMap<Oid, &Record> =
        records.iter().map(|record| (record.oid, record)).collect();
    by_oid.into_values()
}

/// The tid that a commit after `last` gets: the one it is restored with, or the next.
pub(super) fn tid_of(commit: &Commit, last: Tid, unix_micros: u64) -> Result<Tid, Refused> {
    let Some(tid) = commit.restore else { return next_tid(last, unix_micros) };
    // Later commits must be newer still: one from a far future would leave them no tids.
    let newest = Tid::ZERO.next_at(unix_micros.saturating_add(RESTORED_AHEAD_MICROS));
    if tid <= last || tid > newest {
        return Err(Refused::OutOfOrder(last));
    }
    Ok(tid)
}

/// The tid of the commit after `last`; refused when time has come to its end.
fn next_tid(last: Tid, unix_micros: u64) -> Result<Tid, Refused> {
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

/// How far a restored transaction may be ahead of the clock: a day. Clocks differ.
const RESTORED_AHEAD_MICROS: u64 = 24 * 3_600 * 1_000_000;
