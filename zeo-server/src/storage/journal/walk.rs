//! Walks through the journal group by group, in the order of its commits.

use std::io;
use std::sync::Arc;

use zeo_proto::Tid;

use super::format::{
    GROUP_HEADER, GroupHeader, Position, SEGMENT_HEADER, SegmentHeader, SegmentStart,
};
use super::parse::Items;
use super::segments::Segments;
use crate::storage::disk::{Disk, DiskFile};

/// How much is read at once: 1 MiB, or a group if that is longer.
const WINDOW: u64 = 1 << 20;

/// A place in the journal that moves from group to group.
#[derive(Debug)]
pub(in crate::storage) struct Walker<'a, D: Disk> {
    segments: &'a Segments<D>,
    uuid: [u8; 16],
    at: Position,
    window: Window<D::File>,
}

/// A whole group.
pub(in crate::storage) struct Group<'a> {
    pub(in crate::storage) at: Position,
    pub(in crate::storage) end: Position,
    pub(in crate::storage) tid_before: Tid,
    /// The crc of its items.
    pub(in crate::storage) crc: u32,
    pub(in crate::storage) items: Items<'a>,
}

impl<'a, D: Disk> Walker<'a, D> {
    /// Starts where a group starts or the journal ends.
    pub(super) fn new(segments: &'a Segments<D>, uuid: [u8; 16], at: Position) -> Self {
        Self { segments, uuid, at, window: Window::closed() }
    }

    /// The next group; `None` where there is none that is whole.
    pub(in crate::storage) fn next(&mut self) -> io::Result<Option<Group<'_>>> {
        let Some(header) = self.next_header()? else { return Ok(None) };
        let (Some(start), Some(end)) = (header.items_start(), header.end()) else {
            return Ok(None);
        };
        let items = self.window.bytes(start, header.items_len)?;
        let whole = |items: &&[u8]| crc32c::crc32c(items) == header.items_crc;
        let Some(items) = items.filter(whole) else { return Ok(None) };
        self.at = end;
        let GroupHeader { at, tid_before, items_crc: crc, .. } = header;
        Ok(Some(Group { at, end, tid_before, crc, items: Items::new(items) }))
    }

    /// Bytes of the next group, as its header says; 0 where there is none.
    pub(in crate::storage) fn next_len(&mut self) -> io::Result<u32> {
        Ok(self.next_header()?.and_then(|header| header.group_len()).unwrap_or(0))
    }

    /// The header of the next group, here or at the start of the next segment.
    fn next_header(&mut self) -> io::Result<Option<GroupHeader>> {
        if let Some(header) = self.header_at(self.at)? {
            return Ok(Some(header));
        }
        if !self.next_segment_begins_here()? {
            return Ok(None);
        }
        let Some(segment) = self.at.segment.checked_add(1) else { return Ok(None) };
        self.header_at(Position { segment, offset: SEGMENT_HEADER })
    }

    fn header_at(&mut self, at: Position) -> io::Result<Option<GroupHeader>> {
        if !self.window.enter(self.segments, at.segment) {
            return Ok(None);
        }
        let header = self.window.bytes(at.offset, GROUP_HEADER)?;
        let header = header.and_then(|bytes| GroupHeader::decode(bytes, self.uuid));
        Ok(header.filter(|header| header.at == at && header.durable == self.at))
    }

    fn next_segment_begins_here(&self) -> io::Result<bool> {
        let next = self.at.segment.checked_add(1);
        let Some(file) = next.and_then(|number| self.segments.file(number)) else {
            return Ok(false);
        };
        let start = read_start(file.as_ref())?;
        Ok(matches!(start, SegmentStart::Valid(header) if header.before == self.at))
    }
}

/// Reads and decodes the header of a segment.
pub(super) fn read_start(file: &impl DiskFile) -> io::Result<SegmentStart> {
    let mut bytes = [0; SEGMENT_HEADER as usize];
    file.read_at(&mut bytes, 0)?;
    Ok(SegmentHeader::decode(&bytes))
}

/// A part of a segment, held in memory.
#[derive(Debug)]
struct Window<F> {
    segment: u32,
    file: Option<Arc<F>>,
    start: u64,
    bytes: Vec<u8>,
}

impl<F: DiskFile> Window<F> {
    fn closed() -> Self {
        Self { segment: 0, file: None, start: 0, bytes: Vec::new() }
    }

    /// Moves to a segment; false if there is no such file.
    fn enter<D: Disk<File = F>>(&mut self, segments: &Segments<D>, segment: u32) -> bool {
        if self.file.is_none() || self.segment != segment {
            self.file = segments.file(segment);
            self.segment = segment;
            self.bytes.clear();
        }
        self.file.is_some()
    }

    /// The bytes of the segment there; `None` where the file ends before.
    fn bytes(&mut self, offset: u32, len: u32) -> io::Result<Option<&[u8]>> {
        let (offset, len) = (u64::from(offset), u64::from(len));
        if !self.holds(offset, len) && !self.fill(offset, len)? {
            return Ok(None);
        }
        let from = in_memory(offset - self.start);
        Ok(self.bytes.get(from..from + in_memory(len)))
    }

    fn holds(&self, offset: u64, len: u64) -> bool {
        self.start <= offset && offset + len <= self.start + self.bytes.len() as u64
    }

    /// Reads from `offset` on; false if the file ends before `len` bytes.
    fn fill(&mut self, offset: u64, len: u64) -> io::Result<bool> {
        let Some(file) = &self.file else { return Ok(false) };
        let left = file.size()?.saturating_sub(offset);
        if left < len {
            return Ok(false);
        }
        self.bytes.resize(in_memory(left.min(len.max(WINDOW))), 0);
        self.start = offset;
        let read = file.read_at(&mut self.bytes, offset);
        self.bytes.truncate(*read.as_ref().unwrap_or(&0));
        read.map(|_| self.holds(offset, len))
    }
}

/// A length within a segment, which is below 4 GiB.
fn in_memory(len: u64) -> usize {
    usize::try_from(len).expect("a segment fits into the address space")
}
