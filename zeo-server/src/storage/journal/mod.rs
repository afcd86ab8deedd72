//! The truth: an append-only, checksummed journal of groups of transactions, in segment files.
//!
//! A group is written with one write and made durable with one sync. What the bytes are says
//! [`mod@format`]; how the end is found after a crash says [`opening`].

mod append;
mod buffers;
mod build;
#[cfg(any(test, feature = "sim"))]
pub(super) mod craft;
mod format;
mod load;
mod opening;
mod parse;
mod read;
mod salvage;
mod scan;
mod segments;
mod walk;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use zeo_proto::{Oid, Tid};

use append::{Prepared, Tail};
use segments::{Segments, failed, shown};

pub(super) use append::Appended;
pub(super) use build::{GroupBuilder, Replaced, Span};
pub(super) use format::Fields;
pub use format::Position;
pub(super) use format::SEGMENT_HEADER;
pub(super) use opening::{Opening, START, damaged, read_failed};
pub(super) use parse::{Item, RECORD_HEAD, TRANSACTION_HEAD};
pub(super) use read::{Ahead, Reader};
pub(super) use salvage::Remains;
pub(super) use walk::{Group, ItemError, Walker};

use super::disk::Disk;
use super::index::Place;
use super::{HistoryRecord, Refused, SpillFile, StorageError};

/// An open journal.
///
/// Reading takes no lock that is held while something is written.
#[derive(Debug)]
pub(super) struct Journal<D: Disk> {
    segments: Segments<D>,
    uuid: [u8; 16],
    tail: Mutex<Tail<D::File>>,
    prepared: Prepared<D::File>,
    /// The durable end, as a number.
    end: AtomicU64,
    /// Bytes up to there.
    used: AtomicU64,
}

/// What was durable cannot be found any more.
pub(super) fn vanished(at: Position) -> StorageError {
    let Position { segment, offset } = at;
    StorageError::Damaged(format!("{} at byte {offset}: no whole group", shown(segment)))
}

/// Reading at that place failed.
pub(super) fn unreadable(at: Position) -> impl Fn(std::io::Error) -> StorageError {
    failed("read", at)
}

impl<D: Disk> Journal<D> {
    fn new(
        segments: Segments<D>,
        uuid: [u8; 16],
        tail: Tail<D::File>,
        prepared: Prepared<D::File>,
    ) -> Self {
        let end = AtomicU64::new(tail.end().to_number());
        let used = AtomicU64::new(tail.used());
        Self { segments, uuid, tail: Mutex::new(tail), prepared, end, used }
    }

    /// Appends a group and makes it durable. `tid_before` is the last transaction before it.
    pub(super) fn append(&self, group: GroupBuilder, tid_before: Tid) -> Result<Appended, Refused> {
        let names = (self.uuid, tid_before);
        let mut tail = self.tail();
        let appended = tail.append(&self.segments, &self.prepared, group, names)?;
        self.used.store(tail.used(), Ordering::Release);
        self.end.store(appended.end.to_number(), Ordering::Release);
        Ok(appended)
    }

    /// Why the journal takes no more groups, if so.
    pub(super) fn poison(&self) -> Option<String> {
        self.tail().poison().map(str::to_owned)
    }

    /// The durable end.
    pub(super) fn end(&self) -> Position {
        Position::from_number(self.end.load(Ordering::Acquire))
    }

    /// Walks from the end of a group.
    pub(super) fn walk(&self, from: Position) -> Walker<'_, D> {
        Walker::new(&self.segments, self.uuid, from)
    }

    /// Reads item by item from the end of a group on, `step` bytes at once.
    pub(super) fn read(&self, from: Position, step: u32) -> Reader<'_, D> {
        Reader::new(self.walk(from), self.end(), step)
    }

    /// Bytes of all segments up to the durable end.
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Acquire)
    }

    /// Reads one record, with one read.
    pub(super) fn record(
        &self,
        place: Place,
        oid: Oid,
        tid: Tid,
    ) -> Result<HistoryRecord, StorageError> {
        self.segments.record(place, oid, tid)
    }

    /// Bytes of data in a record, without reading them.
    pub(super) fn data_len(&self, place: Place, oid: Oid, tid: Tid) -> Result<u32, StorageError> {
        self.segments.data_len(place, oid, tid)
    }

    /// Reads the data of one record, with one read.
    pub(super) fn load(&self, place: Place, oid: Oid, tid: Tid) -> Result<Bytes, StorageError> {
        self.segments.load(place, oid, tid)
    }

    /// A place for the data of a large transaction, on the same disk.
    pub(super) fn spill_file(&self) -> Result<SpillFile, StorageError> {
        let file = self.segments.disk.temporary().map_err(|source| {
            let what = format!("make a temporary file in {}", self.segments.disk);
            StorageError::Io { what, source }
        })?;
        Ok(SpillFile::new(Arc::new(file)))
    }

    /// Whether the next segment should be prepared.
    pub(super) fn wants_prepare(&self) -> bool {
        self.prepared.wanted()
    }

    /// Prepares the space of the next segment.
    pub(super) fn prepare(&self) -> Result<(), StorageError> {
        self.prepared.prepare(&self.segments)
    }

    fn tail(&self) -> MutexGuard<'_, Tail<D::File>> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
