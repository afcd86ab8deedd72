//! What holds revisions: the [`Storage`] trait, and the storages that implement it.
//!
//! A storage has no thread of its own and no clock. Its methods may block on the disk, so the
//! server calls them in stages: [`Storage::apply`] in the commit stage, one group at a time;
//! [`Storage::load_before`] and [`Storage::changes_since`] in the load stage, from several threads
//! at once; [`Storage::index_some`] and [`Storage::prepare`] in stages of their own whenever
//! [`Storage::chores`] says that there is work.
//!
//! A storage knows nothing of what is *published*: it is durable state, and readers say with
//! `as_of` how much of it they may see.

mod check;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod crashes;
#[cfg(test)]
mod damage;
pub mod disk;
mod error;
#[cfg(test)]
mod failures;
mod fences;
#[cfg(any(test, feature = "sim"))]
#[doc(hidden)]
pub mod fuzzing;
mod history;
pub mod index;
mod journal;
mod journaled;
mod memory;
#[cfg(test)]
mod quotas;
mod record;
mod salvage;
mod spill;
#[cfg(test)]
mod testing;
mod undo;

use std::path::Path;

use bytes::Bytes;
use zeo_proto::{Conflict, Identity, Oid, Outcome, OutcomeQuery, Tid, TxnId, TxnMeta, Validity};

pub use error::{Damage, OpenError};
pub(crate) use history::ITEM;
pub use history::{
    Cursor, CursorPlace, HistoryEntry, HistoryItem, HistoryLimit, HistoryRecord, ObjectsPage, Size,
    TransactionHead, TransactionsPage, UndoLimits, UndoRefused,
};
pub use journal::Position;
pub use journaled::{JournalStorage, Settings};
pub use memory::MemoryStorage;
pub use record::{Body, Record};
pub use salvage::SalvagedStorage;
pub use spill::{SpillFile, Spilled};

use disk::RealDisk;
use index::SledIndex;

/// How to open a storage on disk.
#[derive(Debug, Clone, Copy)]
pub struct OpenOptions {
    /// The UUID that the storage gets if it is created now: 16 random bytes.
    pub new_uuid: [u8; 16],
    /// Memory for the pages of the index, in bytes; what it really takes is up to three times
    /// that.
    pub index_cache_bytes: u64,
    /// Sizes of the journal's and the index's steps.
    pub settings: Settings,
}

impl OpenOptions {
    /// The defaults, with the UUID for a storage that does not exist yet.
    pub fn new(new_uuid: [u8; 16]) -> Self {
        Self { new_uuid, index_cache_bytes: 64 << 20, settings: Settings::default() }
    }
}

/// Opens the storage in a directory, and creates both where there is none.
///
/// The directory has `journal/` (segment files), `index/` (sled) and `lock` (the process id of
/// whoever has it open).
pub fn open(
    dir: &Path,
    options: OpenOptions,
) -> Result<JournalStorage<RealDisk, SledIndex>, OpenError> {
    let disk = RealDisk::new(dir).map_err(|source| {
        let what = format!("create {}", dir.display());
        OpenError::Io { what, source }
    })?;
    let index = dir.join("index");
    let index = || SledIndex::open(&index, options.index_cache_bytes, index::boot_id());
    JournalStorage::open(disk, index, options.settings, options.new_uuid)
}

/// Opens what is whole of a damaged storage, for reading only; see [`SalvagedStorage`].
pub fn open_damaged(dir: &Path) -> Result<SalvagedStorage<RealDisk>, OpenError> {
    let disk = RealDisk::existing(dir).map_err(|source| {
        let what = format!("open {}", dir.display());
        OpenError::Io { what, source }
    })?;
    SalvagedStorage::open(disk)
}

/// What holds revisions.
///
/// The contract that every implementation passes is the test-suite in `contract`.
pub trait Storage: Send + Sync + std::fmt::Debug + 'static {
    /// Which database this is.
    fn identity(&self) -> Identity;

    /// The tid of the last durable commit; [`Tid::ZERO`] when there is none.
    fn last_tid(&self) -> Tid;

    /// The revision of `oid` that was valid just before `before`, as seen by a reader who knows of
    /// commits up to and including `as_of` and of none after.
    ///
    /// The revision's `end` is the tid that superseded it if that is ≤ `as_of`, else `None`.
    fn load_before(&self, oid: Oid, before: Tid, as_of: Tid) -> Result<Found, StorageError>;

    /// Carries out a group of operations in order and makes them durable with one sync.
    ///
    /// Each commit is checked against everything before it, also in this group; the refusal of one
    /// leaves nothing behind and does not disturb the others. Results come in the order of the
    /// operations. When this returns, what it says is durable. `unix_micros` is the time of day
    /// that tids are made from. Calls do not overlap.
    fn apply(&self, group: &[Operation], unix_micros: u64) -> Vec<Result<Applied, Refused>>;

    /// A place for the data of a transaction that is too large to wait in memory for its commit;
    /// `None` where memory is all there is.
    fn spill_file(&self) -> Result<Option<SpillFile>, StorageError> {
        Ok(None)
    }

    /// The objects written by commits after `since`, up to and including `through`, each once;
    /// [`Changes::TooMany`] when there are more than `limit` or the way there is too long.
    fn changes_since(
        &self,
        since: Tid,
        through: Tid,
        limit: usize,
    ) -> Result<Changes, StorageError>;

    /// The transactions that wrote `oid`, the newest first, before `before` and up to `as_of`.
    ///
    /// There may be more even if there are fewer than the limit; only an empty list is the end.
    fn history(
        &self,
        oid: Oid,
        before: Tid,
        as_of: Tid,
        limit: HistoryLimit,
    ) -> Result<Vec<HistoryEntry>, StorageError>;

    /// The record by which the transaction `tid` wrote `oid`, if it did.
    fn load_record(&self, oid: Oid, tid: Tid) -> Result<Option<HistoryRecord>, StorageError>;

    /// A page of the transactions up to and including `through`, in order: at most `bytes`, as
    /// [`HistoryItem::size`] counts them, but at least one item, where there is one.
    ///
    /// The first item may be longer, and a transaction's head always has its first record with
    /// it. What is before a damaged place comes on a page; the page from there on is the error.
    /// With a later tid in the cursor the rest can be read.
    fn transactions(
        &self,
        from: &Cursor,
        through: Tid,
        bytes: usize,
    ) -> Result<TransactionsPage, StorageError>;

    /// The objects from `from` on, in order, that are there for who knows of no commit from
    /// `before` on; at most `max`.
    ///
    /// One call looks at a bounded number of objects, whether they are there or not.
    fn objects(&self, from: Oid, before: Tid, max: usize) -> Result<ObjectsPage, StorageError>;

    /// How many objects there are, and how much room all takes. Waits for nothing.
    fn size(&self) -> Size;

    /// What of that room is for what, and how much there may be. Waits for nothing.
    fn usage(&self) -> Usage {
        Usage { journal_bytes: self.size().bytes, index_bytes: 0, quota_bytes: None }
    }

    /// Whether it takes no commits, whoever asks, because of what it is.
    fn is_read_only(&self) -> bool {
        false
    }

    /// What a commit has to write to undo these transactions, in the order of the oids: an object
    /// that one of them wrote becomes what it was before, or is deleted.
    ///
    /// Each record has the serial that is current now, so whatever comes in between is a
    /// conflict. A transaction is not in the way if the object has again the data that it had
    /// before that: an undo can be undone, and transactions one after the other.
    fn undo(
        &self,
        tids: &[Tid],
        limits: UndoLimits,
    ) -> Result<Result<Vec<Record>, UndoRefused>, StorageError> {
        undo::undo(self, tids, limits)
    }

    /// Which background work waits to be done.
    fn chores(&self) -> Chores {
        Chores::default()
    }

    /// Moves a bounded number of entries from the overlay into the index, and makes a checkpoint
    /// when one is due. Calls do not overlap each other, but do overlap everything else.
    fn index_some(&self) -> Result<(), StorageError> {
        Ok(())
    }

    /// Prepares the space that coming commits are written into. Calls do not overlap each other.
    fn prepare(&self) -> Result<(), StorageError> {
        Ok(())
    }

    /// Makes what is left to do for a quick opening durable. Nothing is called after it.
    fn close(&self) -> Result<(), StorageError> {
        Ok(())
    }
}

/// What a load found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// No revision before that tid, or never any.
    Absent,
    /// The object was deleted.
    Deleted(Validity),
    /// A revision and its data.
    Revision(Validity, Bytes),
}

/// What the commit stage is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Commit a transaction. Answer: [`Applied::Committed`].
    Commit(Commit),
    /// Would a transaction conflict, if it were committed now? Nothing is written. Answer:
    /// [`Applied::Checked`].
    Check(Check),
    /// Reserve names for that many new objects, durably. Answer: [`Applied::Reserved`].
    ReserveOids(u32),
    /// What became of a transaction; fences it if it was not committed. Answer:
    /// [`Applied::Outcome`]; after a failed write, which may yet turn out to be durable,
    /// [`Refused::Failed`] instead of "not committed".
    Outcome(OutcomeQuery),
}

/// A transaction ready to be committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The name its client gave it.
    pub id: TxnId,
    /// The last tid that its reads saw. A commit that is sent again has the same.
    pub snapshot: Tid,
    /// User, description, extension.
    pub meta: TxnMeta,
    /// The objects it writes; of two records of one oid, the later counts.
    pub records: Vec<Record>,
    /// Objects that it read and depends on, with the serials read.
    pub read_current: Vec<(Oid, Tid)>,
    /// The tid that it gets, as a copy of a transaction from elsewhere: newer than the last, and at
    /// most a day ahead of the clock. Nothing is checked for conflicts then. `None`: the next.
    pub restore: Option<Tid>,
}

/// What has to be known of a transaction to tell whether it would conflict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Check {
    /// The last tid that its reads saw.
    pub snapshot: Tid,
    /// The objects that it writes, with the serials read; of two of one object, the later counts.
    pub writes: Vec<(Oid, Option<Tid>)>,
    /// Objects that it read and depends on, with the serials read.
    pub read_current: Vec<(Oid, Tid)>,
    /// Bytes of data and references that it writes, and of its texts, for which there has to be
    /// room; and what others will write before it, if that is known.
    pub bytes: u64,
}

/// What became of an operation that was carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// The commit is durable at this tid.
    Committed(Tid),
    /// What the transaction conflicts with, at most [`MAX_BATCH`](zeo_proto::MAX_BATCH) objects.
    Checked(Vec<Conflict>),
    /// The first of the reserved oids; as many as asked for follow one another.
    Reserved(Oid),
    /// The answer to the question.
    Outcome(Outcome),
}

/// Why an operation was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// An object was changed since it was read.
    #[error("object {} was changed at {} (read: {})", .0.oid, .0.committed, .0.read)]
    Conflict(Conflict),
    /// Its client was told that it was not committed.
    #[error("the transaction is fenced")]
    Fenced,
    /// There is no space left; nothing was written.
    #[error("no space left on the disk")]
    DiskFull,
    /// The storage has reached its quota of so many bytes; nothing was written.
    #[error("the storage has reached its quota of {0} bytes")]
    QuotaExceeded(u64),
    /// A transaction to be restored is not newer than the last, which has this tid, or too far
    /// ahead of the clock.
    #[error("a restored transaction must be newer than {0}, and not of the future")]
    OutOfOrder(Tid),
    /// Refused before anything was written; the text says why.
    #[error("{0}")]
    Failed(String),
    /// A write or sync failed half-way: whether it is durable shows on the next opening. The
    /// storage refuses all writes until then.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
}

/// The changes after a tid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changes {
    /// Objects, each once, in no particular order.
    Objects(Vec<Oid>),
    /// More than the caller wants to know.
    TooMany,
    /// `since` is not the tid of a transaction of this history (nor [`Tid::ZERO`]).
    NotOfThisHistory,
}

/// The room that a storage takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of the journal that are in use; for a storage in memory, bytes of data.
    pub journal_bytes: u64,
    /// Bytes of the index.
    pub index_bytes: u64,
    /// What `journal_bytes` may come to, if there is a quota.
    pub quota_bytes: Option<u64>,
}

/// Which background work waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Chores {
    /// [`Storage::index_some`] has enough to do.
    pub index: bool,
    /// [`Storage::prepare`] has something to do.
    pub prepare: bool,
    /// What the overlay still takes in.
    pub room: Room,
}

/// How much a storage can still commit before its index has to catch up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Room {
    /// As much as comes.
    #[default]
    Enough,
    /// Large commits should wait, so that small ones need not.
    Little,
    /// Nothing: no commit may be applied before a [`Storage::index_some`] has ended.
    None,
}

/// A read, or a chore, failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The bytes on disk are not what was written.
    #[error("damaged: {0}")]
    Damaged(String),
    /// The disk failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, to which file.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The index failed in a way that rebuilding it can cure.
    #[error("index: {0}")]
    Index(String),
}

impl StorageError {
    /// Whether there was no room on the disk.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if disk::is_full(source))
    }
}
