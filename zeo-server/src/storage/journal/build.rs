//! Builds a group: its items as they will be in the journal.

use bytes::Bytes;
use zeo_proto::{Oid, Tid};

use super::format::{
    ALIGNMENT, DELETED, EPOCH, GROUP_HEADER, RECORD, REPLACES_DELETION, RESERVED, TRANSACTION,
    WITH_REFS,
};
use crate::storage::disk::DiskFile;
use crate::storage::spill::CopyError;
use crate::storage::{Body, Commit, Record, Spilled};

/// Data from this size on is written from where it lies; smaller data is copied into the group's
/// buffer, so that a group of small objects is one write.
const COPIED_BELOW: usize = 64 << 10;

/// A group on its way into the journal: room for its header, then its items.
#[derive(Debug)]
pub(in crate::storage) struct GroupBuilder {
    buffer: Vec<u8>,
    /// Data that was not copied, and before which byte of `buffer` it belongs.
    large: Vec<(usize, Large)>,
    large_bytes: usize,
}

/// Data that is written from where it lies.
#[derive(Debug)]
enum Large {
    Held(Bytes),
    Spilled(Spilled),
}

/// A part of a group, in memory or in a spill file.
#[derive(Debug, Clone, Copy)]
pub(super) enum Piece<'a> {
    Bytes(&'a [u8]),
    Spilled(&'a Spilled),
}

/// Where the items start.
const ITEMS: usize = GROUP_HEADER as usize;

/// Where a record is, counted from the start of its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::storage) struct Span {
    pub(in crate::storage) offset: u32,
    pub(in crate::storage) len: u32,
}

/// The current revision that a record replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::storage) struct Replaced {
    /// [`Tid::ZERO`] if there is none.
    pub(in crate::storage) serial: Tid,
    /// Whether it is a deletion.
    pub(in crate::storage) deleted: bool,
}

impl Replaced {
    /// Whether there is an object.
    pub(in crate::storage) fn is_object(self) -> bool {
        self.serial != Tid::ZERO && !self.deleted
    }
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
        self.end(start, &meta.extension);
    }

    /// A record of the transaction begun last.
    pub(in crate::storage) fn record(
        &mut self,
        record: &Record,
        tid: Tid,
        replaced: Replaced,
    ) -> Span {
        let offset = self.len();
        let body = &record.body;
        let deleted = if body.is_deleted() { DELETED } else { 0 };
        let with_refs = if body.refs_count().is_some() { WITH_REFS } else { 0 };
        let recreates = if replaced.deleted { REPLACES_DELETION } else { 0 };
        let start = self.begin(RECORD, deleted | with_refs | recreates);
        self.put(&record.oid.to_bytes());
        self.put(&tid.to_bytes());
        self.put(&replaced.serial.to_bytes());
        self.put_len(body.refs_count().unwrap_or(0));
        let len = match body {
            Body::Deleted => self.end(start, &[]),
            Body::Held { data, refs } => self.end_held(start, data, refs.as_deref()),
            Body::Spilled(spilled) => self.end_spilled(start, spilled),
        };
        Span { offset: bounded(offset), len: bounded(len) }
    }

    /// All oids below `end` are taken.
    pub(in crate::storage) fn reserved(&mut self, end: Oid) {
        let start = self.begin(RESERVED, 0);
        self.end(start, &end.to_bytes());
    }

    /// A new epoch begins.
    pub(in crate::storage) fn epoch(&mut self, epoch: u64) {
        let start = self.begin(EPOCH, 0);
        self.end(start, &epoch.to_be_bytes());
    }

    /// The items' length and crc.
    pub(super) fn items(&self) -> (u32, u32) {
        let crc = self.pieces(ITEMS).fold(0, |crc, piece| match piece {
            Piece::Bytes(bytes) => crc32c::crc32c_append(crc, bytes),
            Piece::Spilled(spilled) => and_spilled(crc, spilled),
        });
        (bounded(self.len() - ITEMS), crc)
    }

    /// Fills in the header and pads the group to its full length.
    pub(super) fn seal(&mut self, header: &[u8; ITEMS]) {
        let room = self.buffer.first_chunk_mut().expect("the header has its room");
        *room = *header;
        let padding = self.len().next_multiple_of(ALIGNMENT as usize) - self.len();
        self.buffer.resize(self.buffer.len() + padding, 0);
    }

    /// Writes a sealed group into a segment, from `offset` on.
    pub(super) fn write(&self, file: &impl DiskFile, offset: u32) -> Result<(), CopyError> {
        let mut offset = u64::from(offset);
        let mut write = |bytes: &[u8]| {
            file.write_at(bytes, offset)?;
            offset += bytes.len() as u64;
            Ok(())
        };
        for piece in self.pieces(0) {
            match piece {
                Piece::Bytes(bytes) => write(bytes).map_err(CopyError::Write)?,
                Piece::Spilled(spilled) => spilled.copy(&mut write)?,
            }
        }
        Ok(())
    }

    /// The group's bytes in order, without the first `skip` of the buffer.
    pub(super) fn pieces(&self, skip: usize) -> impl Iterator<Item = Piece<'_>> {
        let starts = std::iter::once(skip).chain(self.large.iter().map(|&(at, _)| at));
        let ends = self.large.iter().map(|(at, data)| (*at, Some(data.piece())));
        let ends = ends.chain(std::iter::once((self.buffer.len(), None)));
        starts.zip(ends).flat_map(|(start, (end, data))| {
            let copied = self.buffer.get(start..end).filter(|bytes| !bytes.is_empty());
            [copied.map(Piece::Bytes), data].into_iter().flatten()
        })
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

    /// Ends the item begun at `start` with its last field; returns its length.
    fn end(&mut self, start: usize, last: &[u8]) -> usize {
        self.put(last);
        self.end_with(start, 0, |crc| crc)
    }

    fn end_held(&mut self, start: usize, data: &Bytes, refs: Option<&[Oid]>) -> usize {
        for oid in refs.unwrap_or_default() {
            self.put(&oid.to_bytes());
        }
        if data.len() < COPIED_BELOW {
            return self.end(start, data);
        }
        let len = self.end_with(start, data.len(), |crc| crc32c::crc32c_append(crc, data));
        self.put_large(Large::Held(data.clone()), data.len());
        len
    }

    fn end_spilled(&mut self, start: usize, spilled: &Spilled) -> usize {
        let len = self.end_with(start, spilled.len(), |crc| and_spilled(crc, spilled));
        self.put_large(Large::Spilled(spilled.clone()), spilled.len());
        len
    }

    /// Fills in length and crc of the item begun at `start`, which `more` bytes follow that are
    /// not copied; `follow` continues its crc over them.
    fn end_with(&mut self, start: usize, more: usize, follow: impl FnOnce(u32) -> u32) -> usize {
        let len = self.buffer.len() - start + more;
        self.patch(start + 4, bounded(len));
        let head = self.buffer.get(start + 4..).unwrap_or_default();
        let crc = follow(crc32c::crc32c(head));
        self.patch(start, crc);
        len
    }

    fn put_large(&mut self, data: Large, len: usize) {
        self.large_bytes += len;
        self.large.push((self.buffer.len(), data));
    }

    fn patch(&mut self, at: usize, value: u32) {
        let field = self.buffer.get_mut(at..at + 4).expect("the item's head was put");
        field.copy_from_slice(&value.to_be_bytes());
    }
}

impl Large {
    fn piece(&self) -> Piece<'_> {
        match self {
            Self::Held(data) => Piece::Bytes(data),
            Self::Spilled(spilled) => Piece::Spilled(spilled),
        }
    }
}

/// Continues a crc over what was spilled, without reading it.
fn and_spilled(crc: u32, spilled: &Spilled) -> u32 {
    crc32c::crc32c_combine(crc, spilled.crc(), spilled.len())
}

/// A length as the journal writes it.
fn bounded(len: usize) -> u32 {
    u32::try_from(len).expect("a group is bounded to 2 GiB")
}
