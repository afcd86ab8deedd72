//! What can be asked about the past: which transactions there were, what each of them wrote, and
//! what undoing some of them would write.
//!
//! Long answers come in pages. A page says where the next one begins, and is bounded in bytes, so
//! neither side ever holds more than one.

use bytes::Bytes;
use zeo_proto::{Oid, Tid, TxnId, TxnMeta};

use super::StorageError;
use super::journal::{Fields, Position};

/// One transaction that wrote an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The transaction: the serial of the revision that it wrote.
    pub tid: Tid,
    /// User, description, extension.
    pub meta: TxnMeta,
    /// Bytes of the object's data then; 0 if it was deleted.
    pub len: u32,
    /// Whether the object was deleted.
    pub deleted: bool,
}

/// How long one answer about the history of an object may be.
#[derive(Debug, Clone, Copy)]
pub struct HistoryLimit {
    /// Transactions.
    pub entries: usize,
    /// Bytes of user, description and extension; the first transaction may have more.
    pub bytes: usize,
}

/// Where a page of transactions begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The first transaction that is not before this tid.
    pub tid: Tid,
    /// How many records are left out if that is the transaction of exactly that tid; with 0 it
    /// comes with its head, otherwise without.
    pub record: u32,
    /// Where that is, as an earlier page of this storage said. It saves the search, and nothing
    /// else depends on it: a wrong one is found out.
    pub place: Option<CursorPlace>,
}

/// Where in a storage a [`Cursor`] points to; only that storage knows what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CursorPlace {
    /// The group of the journal.
    pub(super) group: Position,
    /// Bytes from the group's start to the item.
    pub(super) offset: u32,
    /// Ties the place to its storage and cursor.
    pub(super) crc: u32,
}

/// Some transactions in their order, or parts of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionsPage {
    /// Each transaction's head, then its records.
    pub items: Vec<HistoryItem>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<Cursor>,
}

/// A part of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HistoryItem {
    /// A transaction begins; its records follow, some of them perhaps on later pages.
    Transaction(TransactionHead),
    /// A record of the transaction begun last.
    Record(HistoryRecord),
}

/// A transaction without what it wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionHead {
    /// Its tid.
    pub tid: Tid,
    /// The name its client gave it.
    pub id: TxnId,
    /// The last tid that its reads saw.
    pub snapshot: Tid,
    /// User, description, extension.
    pub meta: TxnMeta,
    /// How many records follow.
    pub records: u32,
}

/// What a transaction made of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryRecord {
    /// The object.
    pub oid: Oid,
    /// The serial of the revision that this one replaced; [`Tid::ZERO`] if it was the first.
    pub previous: Tid,
    /// The object's data; `None` if it was deleted.
    pub data: Option<Bytes>,
    /// The oids that the data refers to, where the client said so.
    pub refs: Option<Vec<Oid>>,
}

/// Some objects in the order of their oids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectsPage {
    /// Each with its serial.
    pub objects: Vec<(Oid, Tid)>,
    /// Where to go on; `None` at the end. A page without any object need not be the last.
    pub next: Option<Oid>,
}

/// How much there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Objects that are not deleted, as of the last commit.
    pub objects: u64,
    /// Bytes on the disk; in memory, bytes of data.
    pub bytes: u64,
}

/// How much undoing may write.
#[derive(Debug, Clone, Copy)]
pub struct UndoLimits {
    /// Objects.
    pub objects: usize,
    /// Bytes of data and references.
    pub bytes: u64,
    /// What is beyond this many bytes in memory waits in a file, where the storage has files.
    pub spill_bytes: u64,
}

/// Why transactions cannot be undone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UndoRefused {
    /// There is none with that tid.
    #[error("there is no transaction {0}")]
    NoSuchTransaction(Tid),
    /// Later transactions changed these objects, in order; at most 1,000 are named.
    #[error("{} objects were changed since, the first is {}", .0.len(), first(.0))]
    InTheWay(Vec<Oid>),
    /// What would have to be written is beyond the limits.
    #[error("the undo is too large")]
    TooLarge,
}

impl Cursor {
    /// From the first transaction that is not before `tid`.
    pub fn new(tid: Tid) -> Self {
        Self { tid, record: 0, place: None }
    }
}

impl CursorPlace {
    /// Bytes that [`CursorPlace::to_bytes`] makes.
    pub const BYTES: usize = 16;

    /// As a client keeps it.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let fields = self.group.to_bytes().into_iter();
        let fields = fields.chain(self.offset.to_be_bytes()).chain(self.crc.to_be_bytes());
        bytes.iter_mut().zip(fields).for_each(|(byte, field)| *byte = field);
        bytes
    }

    /// What [`CursorPlace::to_bytes`] made, or anything else.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let mut fields = Fields(&bytes);
        let group = Position::from_bytes(fields.array().unwrap_or_default());
        let offset = fields.u32().unwrap_or_default();
        Self { group, offset, crc: fields.u32().unwrap_or_default() }
    }
}

impl HistoryItem {
    /// What it counts for in the bytes of a page: data, references, user, description and
    /// extension, and 64 for itself.
    #[inline]
    pub fn size(&self) -> usize {
        match self {
            Self::Transaction(head) => head.size(),
            Self::Record(record) => record.size(),
        }
    }
}

impl TransactionHead {
    pub(super) fn size(&self) -> usize {
        ITEM + self.meta.size()
    }
}

impl HistoryRecord {
    #[inline]
    pub(super) fn size(&self) -> usize {
        let refs = self.refs.as_ref().map_or(0, Vec::len);
        ITEM + self.data.as_ref().map_or(0, Bytes::len) + 8 * refs
    }
}

/// A page in the making.
///
/// No cursor points between a transaction's head and its first record, so these two are on one
/// page.
#[derive(Debug)]
pub(super) struct PageBuilder {
    items: Vec<HistoryItem>,
    size: usize,
    bytes: usize,
    /// Where the head is that was taken last, until a record follows.
    head: Option<Cursor>,
}

impl PageBuilder {
    /// A page of at most `bytes`, unless its first item is longer.
    pub(super) fn new(bytes: usize) -> Self {
        let items = Vec::with_capacity((bytes / ROOM_FOR_ITEMS_OF).min(MOST_ROOM));
        Self { items, size: 0, bytes, head: None }
    }

    /// What all that is still taken may count for, where it is not the first item.
    #[inline]
    pub(super) fn room(&self) -> usize {
        self.bytes.saturating_sub(self.size)
    }

    /// Whether an item that counts for so much is taken.
    #[inline]
    pub(super) fn has_room(&self, size: usize) -> bool {
        let first = self.items.len() <= usize::from(self.head.is_some());
        first || self.size.saturating_add(size) <= self.bytes
    }

    pub(super) fn transaction(&mut self, head: TransactionHead, at: Cursor) {
        self.head = (head.records > 0).then_some(at);
        self.push(HistoryItem::Transaction(head));
    }

    #[inline]
    pub(super) fn record(&mut self, record: HistoryRecord) {
        self.head = None;
        self.push(HistoryItem::Record(record));
    }

    #[inline]
    fn push(&mut self, item: HistoryItem) {
        self.size += item.size();
        self.items.push(item);
    }

    /// The page, after which there is nothing.
    pub(super) fn end(self) -> TransactionsPage {
        TransactionsPage { items: self.items, next: None }
    }

    /// The page, after which the item at `next` comes.
    pub(super) fn cut(mut self, next: Cursor) -> TransactionsPage {
        let head = self.head.take();
        if head.is_some() {
            self.items.pop();
        }
        TransactionsPage { items: self.items, next: Some(head.unwrap_or(next)) }
    }
}

/// Transactions whose parts are found by their names.
pub(super) trait Past {
    fn head(&self, tid: Tid) -> Result<TransactionHead, StorageError>;
    fn record(&self, oid: Oid, tid: Tid) -> Result<HistoryRecord, StorageError>;
}

/// A page of transactions from `from` on, of which `all` are the names, and their objects.
pub(super) fn transactions_page<'a>(
    past: &impl Past,
    from: &Cursor,
    bytes: usize,
    all: impl Iterator<Item = (Tid, &'a [Oid])>,
) -> Result<TransactionsPage, StorageError> {
    let mut page = PageBuilder::new(bytes);
    for (tid, oids) in all {
        let record = if tid == from.tid { from.record } else { 0 };
        let at = Cursor { tid, record, place: None };
        if let Some(next) = page.put(past, oids, at)? {
            return Ok(page.cut(next));
        }
    }
    Ok(page.end())
}

impl PageBuilder {
    /// Puts a transaction on the page, from that place on; returns where the page is full.
    fn put(
        &mut self,
        past: &impl Past,
        oids: &[Oid],
        mut at: Cursor,
    ) -> Result<Option<Cursor>, StorageError> {
        if at.record == 0 {
            let head = past.head(at.tid)?;
            if !self.has_room(head.size()) {
                return Ok(Some(at));
            }
            self.transaction(head, at);
        }
        for &oid in oids.iter().skip(at.record as usize) {
            let record = past.record(oid, at.tid)?;
            if !self.has_room(record.size()) {
                return Ok(Some(at));
            }
            self.record(record);
            at.record += 1;
        }
        Ok(None)
    }
}

/// The history of an object in the making.
#[derive(Debug)]
pub(super) struct Entries {
    pub(super) list: Vec<HistoryEntry>,
    limit: HistoryLimit,
    bytes: usize,
}

impl Entries {
    pub(super) fn new(limit: HistoryLimit) -> Self {
        Self { list: Vec::new(), limit, bytes: 0 }
    }

    /// Takes an entry; whether there may be room for another.
    pub(super) fn push(&mut self, entry: HistoryEntry) -> bool {
        let bytes = self.bytes.saturating_add(entry.meta.size());
        if !self.list.is_empty() && bytes > self.limit.bytes {
            return false;
        }
        self.bytes = bytes;
        self.list.push(entry);
        self.list.len() < self.limit.entries
    }
}

/// A page of objects. `latest` gives the first so many from one on, each with its serial if it is
/// there; fewer are all that are left.
pub(super) fn objects_page<E>(
    from: Oid,
    max: usize,
    mut latest: impl FnMut(Oid, usize) -> Result<Vec<(Oid, Option<Tid>)>, E>,
) -> Result<ObjectsPage, E> {
    let (mut objects, mut looked_at) = (Vec::new(), 0);
    let (max, step) = (max.max(1), max.clamp(FEWEST_OBJECTS, MOST_OBJECTS));
    let mut next = Some(from);
    while let Some(from) = next.filter(|_| looked_at < MOST_OBJECTS) {
        let some = latest(from, step)?;
        looked_at += some.len();
        let last = some.last().filter(|_| some.len() == step);
        next = last.and_then(|&(oid, _)| next_oid(oid));
        for (oid, serial) in some {
            let Some(serial) = serial else { continue };
            if objects.len() == max {
                return Ok(ObjectsPage { objects, next: Some(oid) });
            }
            objects.push((oid, serial));
        }
    }
    Ok(ObjectsPage { objects, next })
}

/// The object that is next in order; `None` after the last.
pub(super) fn next_oid(oid: Oid) -> Option<Oid> {
    oid.number().checked_add(1).map(Oid::new)
}

fn first(oids: &[Oid]) -> Oid {
    oids.first().copied().unwrap_or_default()
}

/// How many objects are looked at in one step, and for one page.
const FEWEST_OBJECTS: usize = 64;
const MOST_OBJECTS: usize = 8 << 10;
/// A page has room at once for as many items as it has of this many bytes, up to so many.
const ROOM_FOR_ITEMS_OF: usize = 1 << 10;
const MOST_ROOM: usize = 1 << 10;
/// What every item of a page counts for beside what is in it.
pub(crate) const ITEM: usize = 64;
