//! The storage on disk: a [journal](super::journal) that holds the truth, an
//! [index](super::index) of it, and in memory the overlay of what the index does not know yet.
//!
//! A commit goes from [`draft`] (checked, encoded) through the journal (durable) into the overlay
//! (visible). From there [`JournalStorage::index_some`] moves it into the index. A load looks at
//! the overlay, then at the index, then reads one record. No lock that a load takes is held while
//! something is written or synced.

mod changes;
mod current;
mod draft;
mod history;
mod indexing;
mod opening;
mod overlay;
mod quota;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use zeo_proto::{Identity, Oid, Tid, Validity};
use zeo_reactor::give_way;

use super::disk::Disk;
use super::fences::Fences;
use super::index::{Checkpoint, Index, IndexError, Place};
use super::journal::{Appended, Journal, Position};
use super::{
    Applied, Changes, Chores, Cursor, Found, HistoryEntry, HistoryLimit, HistoryRecord,
    ObjectsPage, Operation, Refused, Room, Size, SpillFile, Storage, StorageError,
    TransactionsPage, Usage,
};
use draft::{Draft, Drafted};
use indexing::Indexer;
use overlay::{Overlay, Queued};

/// Sizes that decide how a storage on disk works. Tests make them small.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Bytes of a segment of the journal, unless one group is longer; at most 1 GiB.
    pub segment_bytes: u32,
    /// Bytes of one group; what waits beyond that gets the next. One transaction is always whole.
    pub group_bytes: usize,
    /// Entries in the overlay at which commits wait for the index. The group with which it is
    /// reached may go beyond.
    pub overlay_entries: usize,
    /// Entries after which a checkpoint is due. It is also due after every segment.
    pub checkpoint_entries: usize,
    /// Entries that one [`Storage::index_some`] moves. As many gather in the overlay before it is
    /// asked for: fewer are not worth a hand-over between threads, and what was written lately is
    /// found faster in the overlay.
    pub index_step: usize,
    /// Fences that are remembered one by one.
    pub fences: usize,
    /// Bytes that the journal may have in use; what would take it beyond them is refused. Space
    /// that is prepared for coming commits does not count, nor does the index. `None`: no quota.
    pub quota_bytes: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            group_bytes: 32 << 20,
            overlay_entries: 256 << 10,
            checkpoint_entries: 64 << 10,
            index_step: 1 << 10,
            fences: super::fences::MAX_FENCES,
            quota_bytes: None,
        }
    }
}

impl Settings {
    /// Sizes so small that a short test goes beyond all of them.
    pub fn small() -> Self {
        Self {
            segment_bytes: 256 << 10,
            group_bytes: 64 << 10,
            overlay_entries: 512,
            checkpoint_entries: 256,
            index_step: 64,
            fences: 64,
            quota_bytes: None,
        }
    }
}

/// A storage whose truth is a journal on a `D` and whose index is an `I`.
#[derive(Debug)]
pub struct JournalStorage<D: Disk, I: Index> {
    identity: Identity,
    settings: Settings,
    journal: Journal<D>,
    index: I,
    overlay: RwLock<Overlay>,
    committer: Mutex<Committer>,
    indexer: Mutex<Indexer>,
    /// The last durable and visible commit, as a number.
    last_tid: AtomicU64,
    /// How many objects there are.
    objects: AtomicU64,
    /// Dropped last: until then nobody else may open the directory.
    _lock: D::Lock,
}

/// What only commits use.
#[derive(Debug)]
struct Committer {
    fences: Fences,
    oids: Oids,
    /// What is true at the end of the journal.
    latest: Checkpoint,
    /// Where the last milestone is.
    milestone: Position,
}

/// Names for objects: those handed out, and those reserved in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Oids {
    /// The next to hand out.
    next: Oid,
    /// All below this one are durably taken; at least `next`.
    reserved: Oid,
}

impl<D: Disk, I: Index> JournalStorage<D, I> {
    /// The last revision of an object before `bound`.
    fn last_before(&self, oid: Oid, bound: Tid) -> Result<Option<(Tid, Place)>, IndexError> {
        let last = self.overlay().around(oid, bound).0;
        last.map_or_else(|| self.index.revision_before(oid, bound), |found| Ok(Some(found)))
    }

    /// The revision before `bound`, where it is, and the tid that superseded it.
    fn revision(
        &self,
        oid: Oid,
        bound: Tid,
        as_of: Tid,
    ) -> Result<Option<(Validity, Place)>, IndexError> {
        let (last, newer) = self.overlay().around(oid, bound);
        let (last, end) = if last.is_some() {
            (last, newer)
        } else {
            // What is newer than the reader's horizon need not be looked for.
            let hidden = bound > as_of;
            let indexed = if hidden { None } else { self.index.revision_from(oid, bound)? };
            (self.index.revision_before(oid, bound)?, indexed.or(newer))
        };
        let end = end.filter(|&end| end <= as_of);
        Ok(last.map(|(serial, place)| (Validity { serial, end }, place)))
    }

    /// Makes a drafted group durable, and visible.
    fn append(&self, committer: &mut Committer, drafted: Drafted) -> Answers {
        let durable = committer.latest.tid;
        if drafted.group.is_empty() {
            committer.oids = drafted.oids;
            return drafted.answers;
        }
        match self.journal.append(drafted.group, durable) {
            Ok(appended) => {
                committer.oids = drafted.oids;
                committer.follow(appended, drafted.last_tid);
                committer.latest.objects = drafted.objects;
                self.objects.store(drafted.objects, Ordering::Release);
                let entries = drafted.revisions.iter().map(|revision| revision.entry(appended.at));
                let mut queued: Vec<_> =
                    entries.chain(drafted.outcomes).map(Queued::Entry).collect();
                queued.extend(committer.milestone());
                self.show(queued, drafted.last_tid);
                drafted.answers
            }
            Err(refusal) => draft::withdraw(drafted.answers, durable, &refusal),
        }
    }

    /// Lets loads see what has just become durable.
    fn show(&self, queued: Vec<Queued>, last_tid: Tid) {
        let mut queued = queued.into_iter();
        while !queued.as_slice().is_empty() {
            // No reader may know of them yet, and loads wait for the overlay.
            self.overlay_mut().extend(queued.by_ref().take(AT_ONCE));
            give_way();
        }
        self.last_tid.store(last_tid.number(), Ordering::Release);
    }

    /// How many entries the index does not know yet.
    #[cfg(test)]
    pub(super) fn overlay_len(&self) -> usize {
        self.overlay().len()
    }

    fn overlay(&self) -> RwLockReadGuard<'_, Overlay> {
        self.overlay.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn overlay_mut(&self) -> RwLockWriteGuard<'_, Overlay> {
        self.overlay.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D: Disk, I: Index> Storage for JournalStorage<D, I> {
    fn identity(&self) -> Identity {
        self.identity
    }

    fn last_tid(&self) -> Tid {
        Tid::new(self.last_tid.load(Ordering::Acquire))
    }

    fn load_before(&self, oid: Oid, before: Tid, as_of: Tid) -> Result<Found, StorageError> {
        let bound = before.min(as_of.next());
        let Some((validity, place)) = self.revision(oid, bound, as_of)? else {
            return Ok(Found::Absent);
        };
        if place.deleted {
            return Ok(Found::Deleted(validity));
        }
        let data = self.journal.load(place, oid, validity.serial)?;
        Ok(Found::Revision(validity, data))
    }

    fn apply(&self, group: &[Operation], unix_micros: u64) -> Answers {
        let mut committer = self.committer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut operations = group.iter();
        let mut answers = Vec::new();
        while !operations.as_slice().is_empty() {
            if let Err(error) = self.make_room() {
                let refused = Refused::from(error);
                answers.extend(operations.map(|_| Err(refused.clone())));
                return answers;
            }
            let mut draft = Draft::new(self, &mut committer, unix_micros);
            while draft.len() < self.settings.group_bytes
                && let Some(operation) = operations.next()
            {
                draft.carry_out(operation);
            }
            let drafted = draft.end();
            answers.extend(self.append(&mut committer, drafted));
        }
        answers
    }

    fn spill_file(&self) -> Result<Option<SpillFile>, StorageError> {
        Ok(Some(self.journal.spill_file()?))
    }

    fn changes_since(
        &self,
        since: Tid,
        through: Tid,
        limit: usize,
    ) -> Result<Changes, StorageError> {
        self.changes(since, through, limit)
    }

    fn history(
        &self,
        oid: Oid,
        before: Tid,
        as_of: Tid,
        limit: HistoryLimit,
    ) -> Result<Vec<HistoryEntry>, StorageError> {
        self.history_of(oid, before.min(as_of.next()), limit)
    }

    fn load_record(&self, oid: Oid, tid: Tid) -> Result<Option<HistoryRecord>, StorageError> {
        match self.last_before(oid, tid.next())?.filter(|&(serial, _)| serial == tid) {
            Some((serial, place)) => self.journal.record(place, oid, serial).map(Some),
            None => Ok(None),
        }
    }

    fn transactions(
        &self,
        from: &Cursor,
        through: Tid,
        bytes: usize,
    ) -> Result<TransactionsPage, StorageError> {
        self.page(from, through, bytes)
    }

    fn objects(&self, from: Oid, before: Tid, max: usize) -> Result<ObjectsPage, StorageError> {
        self.objects_from(from, before, max)
    }

    fn size(&self) -> Size {
        let bytes = self.journal.used().saturating_add(self.index.bytes());
        Size { objects: self.objects.load(Ordering::Acquire), bytes }
    }

    fn usage(&self) -> Usage {
        Usage {
            journal_bytes: self.journal.used(),
            index_bytes: self.index.bytes(),
            quota_bytes: self.settings.quota_bytes,
        }
    }

    fn chores(&self) -> Chores {
        let waiting = self.overlay().len();
        let Settings { overlay_entries: full, index_step, .. } = self.settings;
        let room = if waiting >= full {
            Room::None
        } else if waiting >= index_step.max(full / 2) {
            // Never without work for the index: its end is what large commits wait for.
            Room::Little
        } else {
            Room::Enough
        };
        let index = room == Room::None || waiting >= index_step;
        Chores { index, prepare: self.journal.wants_prepare(), room }
    }

    fn index_some(&self) -> Result<(), StorageError> {
        Ok(self.move_into_index()?)
    }

    fn prepare(&self) -> Result<(), StorageError> {
        self.journal.prepare()
    }

    fn close(&self) -> Result<(), StorageError> {
        let committer = self.committer.lock().unwrap_or_else(PoisonError::into_inner);
        self.overlay_mut().extend([Queued::Covered(Box::new(committer.latest))]);
        while self.overlay().len() > 0 {
            self.move_into_index()?;
        }
        Ok(self.close_index()?)
    }
}

type Answers = Vec<Result<Applied, Refused>>;

impl Committer {
    /// Takes note of a group that has become durable.
    fn follow(&mut self, appended: Appended, last_tid: Tid) {
        let Appended { at, end, crc } = appended;
        let latest = &mut self.latest;
        (latest.last_group, latest.end, latest.last_group_crc) = (at, end, crc);
        (latest.tid, latest.next_oid) = (last_tid, self.oids.reserved);
    }

    /// A milestone at the end of the journal, if the last one is far enough away.
    fn milestone(&mut self) -> Option<Queued> {
        let (last, end) = (self.milestone, self.latest.end);
        let near = last.segment == end.segment && end.offset - last.offset < MILESTONE_BYTES;
        if near {
            return None;
        }
        self.milestone = end;
        Some(Queued::Covered(Box::new(self.latest)))
    }
}

impl From<IndexError> for StorageError {
    fn from(error: IndexError) -> Self {
        Self::Index(error.0)
    }
}

/// Entries that come into the overlay, or leave it, at once: loads wait meanwhile.
const AT_ONCE: usize = 128;
/// How much of the journal is between two milestones: 64 KiB, or one group.
const MILESTONE_BYTES: u32 = 64 << 10;
