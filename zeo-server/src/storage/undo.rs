//! Works out what undoing transactions would write.
//!
//! It is an ordinary commit afterwards: each record names the serial that is current now, so a
//! commit that comes in between is a conflict like any other.

use std::collections::{BTreeMap, BTreeSet};

use zeo_proto::{Oid, Tid};

use super::history::{
    Cursor, HistoryItem, HistoryRecord, TransactionsPage, UndoLimits, UndoRefused,
};
use super::{Found, Record, SpillFile, Storage, StorageError};

/// What undoing these transactions would write, in the order of the oids.
pub(super) fn undo<S: Storage + ?Sized>(
    storage: &S,
    tids: &[Tid],
    limits: UndoLimits,
) -> Result<Result<Vec<Record>, UndoRefused>, StorageError> {
    let written = match Written::by(storage, tids, limits.objects)? {
        Ok(written) => written,
        Err(refused) => return Ok(Err(refused)),
    };
    let mut undo = Undo { storage, as_of: storage.last_tid(), in_the_way: Vec::new() };
    let mut output = Output::new(storage, limits);
    for (oid, tids) in written.0 {
        if undo.in_the_way.len() == MAX_NAMED {
            break;
        }
        let Some((serial, target)) = undo.target(oid, &tids)? else { continue };
        if undo.in_the_way.is_empty() && !output.put(record(oid, serial, target))? {
            return Ok(Err(UndoRefused::TooLarge));
        }
    }
    if undo.in_the_way.is_empty() {
        return Ok(Ok(output.records));
    }
    Ok(Err(UndoRefused::InTheWay(undo.in_the_way)))
}

/// The objects that some transactions wrote, and which of these each.
struct Written(BTreeMap<Oid, BTreeSet<Tid>>);

impl Written {
    fn by<S: Storage + ?Sized>(
        storage: &S,
        tids: &[Tid],
        max: usize,
    ) -> Result<Result<Self, UndoRefused>, StorageError> {
        let mut written = Self(BTreeMap::new());
        for &tid in &tids.iter().copied().collect::<BTreeSet<_>>() {
            if !written.add(storage, tid, max)? {
                return Ok(Err(UndoRefused::NoSuchTransaction(tid)));
            }
            if written.0.len() > max {
                return Ok(Err(UndoRefused::TooLarge));
            }
        }
        Ok(Ok(written))
    }

    /// Adds the objects of one transaction, up to one more than `max`; false if there is none of
    /// that tid.
    fn add<S: Storage + ?Sized>(
        &mut self,
        storage: &S,
        tid: Tid,
        max: usize,
    ) -> Result<bool, StorageError> {
        if tid == Tid::ZERO || tid > storage.last_tid() {
            return Ok(false);
        }
        let mut known = false;
        let mut next = Some(Cursor::new(tid));
        while let Some(cursor) = next.take() {
            let page = storage.transactions(&cursor, tid, PAGE)?;
            known |= !page.items.is_empty();
            next = self.take(tid, page).filter(|_| self.0.len() <= max);
        }
        Ok(known)
    }

    fn take(&mut self, tid: Tid, page: TransactionsPage) -> Option<Cursor> {
        for item in page.items {
            if let HistoryItem::Record(record) = item {
                self.0.entry(record.oid).or_default().insert(tid);
            }
        }
        page.next
    }
}

/// Finds what each object becomes.
struct Undo<'a, S: ?Sized> {
    storage: &'a S,
    /// What all objects are looked at as of.
    as_of: Tid,
    /// Objects that others changed since.
    in_the_way: Vec<Oid>,
}

impl<S: Storage + ?Sized> Undo<'_, S> {
    /// The current serial of an object that transactions `undone` wrote, and what it becomes;
    /// `None` as a target if it was not there before. `None` at all if somebody is in the way.
    ///
    /// What stands above an undone revision is as good as that one if it has the same data: an
    /// undo made it so. It takes its place.
    fn target(
        &mut self,
        oid: Oid,
        undone: &BTreeSet<Tid>,
    ) -> Result<Option<(Tid, Option<HistoryRecord>)>, StorageError> {
        let serial = self.current(oid)?;
        let mut at = serial;
        let mut record = self.record(oid, at)?;
        loop {
            if undone.contains(&at) {
                at = record.map_or(Tid::ZERO, |record| record.previous);
                record = self.record(oid, at)?;
                continue;
            }
            let Some(&below) = undone.range(..at).next_back() else {
                return Ok(Some((serial, record)));
            };
            let same = self.record(oid, below)?;
            if data(same.as_ref()) != data(record.as_ref()) {
                self.in_the_way.push(oid);
                return Ok(None);
            }
            (at, record) = (below, same);
        }
    }

    fn current(&self, oid: Oid) -> Result<Tid, StorageError> {
        Ok(match self.storage.load_before(oid, Tid::MAX, self.as_of)? {
            Found::Revision(validity, _) | Found::Deleted(validity) => validity.serial,
            Found::Absent => Tid::ZERO,
        })
    }

    /// A revision of the object, or that it was not there yet.
    fn record(&self, oid: Oid, tid: Tid) -> Result<Option<HistoryRecord>, StorageError> {
        if tid == Tid::ZERO {
            return Ok(None);
        }
        let missing =
            || StorageError::Damaged(format!("transaction {tid}: its record of {oid} is missing"));
        self.storage.load_record(oid, tid)?.ok_or_else(missing).map(Some)
    }
}

fn data(record: Option<&HistoryRecord>) -> Option<&[u8]> {
    record?.data.as_deref()
}

fn record(oid: Oid, serial: Tid, target: Option<HistoryRecord>) -> Record {
    match target.and_then(|record| record.data.map(|data| (data, record.refs))) {
        Some((data, refs)) => Record::store(oid, Some(serial), data, refs),
        None => Record::delete(oid, Some(serial)),
    }
}

/// The records found so far; their data is in memory only up to a bound.
struct Output<'a, S: ?Sized> {
    storage: &'a S,
    limits: UndoLimits,
    records: Vec<Record>,
    file: Option<SpillFile>,
    /// Bytes of data and references, all together.
    bytes: u64,
    /// Those in memory, and the first record that may be.
    held: u64,
    held_from: usize,
}

impl<'a, S: Storage + ?Sized> Output<'a, S> {
    fn new(storage: &'a S, limits: UndoLimits) -> Self {
        Self { storage, limits, records: Vec::new(), file: None, bytes: 0, held: 0, held_from: 0 }
    }

    /// False if it is too much.
    fn put(&mut self, record: Record) -> Result<bool, StorageError> {
        let refs = record.body.refs_count().unwrap_or(0);
        let len = (record.body.data_len() + 8 * refs) as u64;
        (self.bytes, self.held) = (self.bytes + len, self.held + len);
        self.records.push(record);
        if self.held > self.limits.spill_bytes {
            self.spill()?;
        }
        Ok(self.bytes <= self.limits.bytes)
    }

    fn spill(&mut self) -> Result<(), StorageError> {
        if self.file.is_none() {
            self.file = self.storage.spill_file()?;
        }
        let (Some(file), Some(held)) = (&mut self.file, self.records.get_mut(self.held_from..))
        else {
            return Ok(());
        };
        file.spill(held).map_err(|source| {
            let what = "put what an undo writes into a file".to_owned();
            StorageError::Io { what, source }
        })?;
        (self.held, self.held_from) = (0, self.records.len());
        Ok(())
    }
}

/// How many objects in the way are named.
const MAX_NAMED: usize = 1_000;
/// Bytes of a page when the objects of a transaction are listed.
const PAGE: usize = 1 << 20;
