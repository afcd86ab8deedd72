//! Builds a group: its items as they will be in the journal.

use bytes::Bytes;
use zeo_proto::{Oid, Tid};

use super::format::{
    ALIGNMENT, DELETED, EPOCH, GROUP_HEADER, RECORD, RESERVED, TRANSACTION, WITH_REFS,
};
use crate::storage::{Commit, Record};

/// Data from this size on is written from where it lies; smaller data is copied into the group's
/// buffer, so that a group of small objects is one write.
const COPIED_BELOW: usize = 64 << 10;

/// A group on its way into the journal: room for its header, then its items.
#[derive(Debug)]
pub(in crate::storage) struct GroupBuilder {
    buffer: Vec<u8>,
    /// Data that was not copied, and before which byte of `buffer` it belongs.
    large: Vec<(usize, Bytes)>,
    large_bytes: usize,
}

/// Where the items start.
const ITEMS: usize = GROUP_HEADER as usize;

/// Where a record is, counted from the start of its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::storage) struct Span {
    pub(in crate::storage) offset: u32,
    pub(in crate::storage) len: u32,
}

impl GroupBuilder {
    pub(in crate::storage) fn new() -> Self {
        Self { buffer: vec![0; ITEMS], large: Vec::new(), large_bytes: 0 }
    }

    pub(in crate::storage) fn is_empty(&self) -> bool {
        self.len() == ITEMS
    }

    /// Bytes of the header and all items so far.
    pub(in crate::storage) fn len(&self) -> usize {
        self.buffer.len() + self.large_bytes
    }

    /// Begins a transaction with `records` records, which must follow.
    pub(in crate::storage) fn transaction(&mut self, commit: &Commit, tid: Tid, records: usize) {
        let meta = &commit.meta;
        let start = self.begin(TRANSACTION, 0);
        self.put(&tid.to_bytes());
        self.put(&commit.id.to_bytes());
        self.put(&commit.snapshot.to_bytes());
        self.put_len(records);
        self.put_len(meta.user.len());
        self.put_len(meta.description.len());
        self.put(meta.user.as_bytes());
        self.put(meta.description.as_bytes());
        self.put(&meta.extension);
        self.end(start, None);
    }

    /// A record of the transaction begun last.
    pub(in crate::storage) fn record(&mut self, record: &Record, tid: Tid, previous: Tid) -> Span {
        let offset = self.len();
        let deleted = if record.data.is_none() { DELETED } else { 0 };
        let with_refs = if record.refs.is_some() { WITH_REFS } else { 0 };
        let refs = record.refs.as_deref().unwrap_or_default();
        let start = self.begin(RECORD, deleted | with_refs);
        self.put(&record.oid.to_bytes());
        self.put(&tid.to_bytes());
        self.put(&previous.to_bytes());
        self.put_len(refs.len());
        for oid in refs {
            self.put(&oid.to_bytes());
        }
        let len = self.end(start, record.data.as_ref());
        Span { offset: bounded(offset), len: bounded(len) }
    }

    /// All oids below `end` are taken.
    pub(in crate::storage) fn reserved(&mut self, end: Oid) {
        let start = self.begin(RESERVED, 0);
        self.put(&end.to_bytes());
        self.end(start, None);
    }

    /// A new epoch begins.
    pub(in crate::storage) fn epoch(&mut self, epoch: u64) {
        let start = self.begin(EPOCH, 0);
        self.put(&epoch.to_be_bytes());
        self.end(start, None);
    }

    /// The items' length and crc.
    pub(super) fn items(&self) -> (u32, u32) {
        (bounded(self.len() - ITEMS), self.slices(ITEMS).fold(0, crc32c::crc32c_append))
    }

    /// Fills in the header and pads the group to its full length.
    pub(super) fn seal(&mut self, header: &[u8; ITEMS]) {
        let room = self.buffer.first_chunk_mut().expect("the header has its room");
        *room = *header;
        let padding = self.len().next_multiple_of(ALIGNMENT as usize) - self.len();
        self.buffer.resize(self.buffer.len() + padding, 0);
    }

    /// The group's bytes in order, without the first `skip` of the buffer.
    pub(super) fn slices(&self, skip: usize) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(skip).chain(self.large.iter().map(|&(at, _)| at));
        let data = self.large.iter().map(|(at, data)| (*at, data.as_ref()));
        let data = data.chain(std::iter::once((self.buffer.len(), [].as_slice())));
        let pairs = starts.zip(data).flat_map(|(start, (end, data))| {
            [self.buffer.get(start..end).unwrap_or_default(), data]
        });
        pairs.filter(|slice| !slice.is_empty())
    }

    fn put(&mut self, field: &[u8]) {
        self.buffer.extend_from_slice(field);
    }

    fn put_len(&mut self, len: usize) {
        self.put(&bounded(len).to_be_bytes());
    }

    /// Begins an item; its crc and length are filled in at its end.
    fn begin(&mut self, kind: u8, flags: u8) -> usize {
        let start = self.buffer.len();
        self.put(&[0; 8]);
        self.put(&[kind, flags, 0, 0]);
        start
    }

    /// Ends the item begun at `start` with data; returns the item's length.
    fn end(&mut self, start: usize, data: Option<&Bytes>) -> usize {
        let bytes = data.map_or([].as_slice(), Bytes::as_ref);
        let len = self.buffer.len() - start + bytes.len();
        self.patch(start + 4, bounded(len));
        let head = self.buffer.get(start + 4..).unwrap_or_default();
        let crc = crc32c::crc32c_append(crc32c::crc32c(head), bytes);
        self.patch(start, crc);
        match data {
            Some(data) if data.len() >= COPIED_BELOW => self.put_large(data.clone()),
            _ => self.put(bytes),
        }
        len
    }

    fn put_large(&mut self, data: Bytes) {
        self.large_bytes += data.len();
        self.large.push((self.buffer.len(), data));
    }

    fn patch(&mut self, at: usize, value: u32) {
        let field = self.buffer.get_mut(at..at + 4).expect("the item's head was put");
        field.copy_from_slice(&value.to_be_bytes());
    }
}

/// A length as the journal writes it.
fn bounded(len: usize) -> u32 {
    u32::try_from(len).expect("a group is bounded to 2 GiB")
}
