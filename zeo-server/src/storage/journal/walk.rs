//! Walks through the journal group by group, in the order of its commits.
//!
//! Groups are read through a window, so that one of a GiB takes no more memory than one of a MiB.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use zeo_proto::Tid;

use super::buffers::{BUFFER, Buffers};
use super::format::{
    GROUP_HEADER, GroupHeader, Position, SEGMENT_HEADER, SegmentHeader, SegmentStart,
};
use super::parse::{ITEM_HEAD, Item, item};
use super::segments::Segments;
use crate::storage::disk::{Disk, DiskFile};

/// How much is read at once unless told otherwise: 256 KiB.
const WINDOW: u32 = 256 << 10;
const _: () = assert!(WINDOW as usize == BUFFER, "what is read fits a buffer that is kept");

/// A place in the journal that moves from group to group.
#[derive(Debug)]
pub(in crate::storage) struct Walker<'a, D: Disk> {
    segments: &'a Segments<D>,
    uuid: [u8; 16],
    at: Position,
    window: Window<D::File>,
}

/// A whole group.
pub(in crate::storage) struct Group<'a, F> {
    pub(in crate::storage) at: Position,
    pub(in crate::storage) end: Position,
    pub(in crate::storage) tid_before: Tid,
    /// The crc of its items.
    pub(in crate::storage) crc: u32,
    pub(in crate::storage) items: Items<'a, F>,
}

/// The items of a group, whose crc has been verified.
pub(in crate::storage) struct Items<'a, F> {
    window: &'a mut Window<F>,
    group: u32,
    at: u32,
    end: u32,
}

/// An item cannot be had.
#[derive(Debug)]
pub(in crate::storage) enum ItemError {
    /// Its bytes are whole and yet no item: written by a broken program.
    Malformed,
    /// Reading it failed.
    Io(io::Error),
}

impl<'a, D: Disk> Walker<'a, D> {
    /// Starts where a group starts or the journal ends.
    pub(super) fn new(segments: &'a Segments<D>, uuid: [u8; 16], at: Position) -> Self {
        Self { segments, uuid, at, window: Window::new(segments.buffers.clone()) }
    }

    /// The next group; `None` where there is none that is whole.
    pub(in crate::storage) fn next(&mut self) -> io::Result<Option<Group<'_, D::File>>> {
        let Some(header) = self.next_header()? else { return Ok(None) };
        let (Some(start), Some(end)) = (header.items_start(), header.end()) else {
            return Ok(None);
        };
        if self.window.crc(start, header.items_len)? != Some(header.items_crc) {
            return Ok(None);
        }
        self.at = end;
        let GroupHeader { at, tid_before, items_crc: crc, items_len, .. } = header;
        let (window, group) = (&mut self.window, at.offset);
        let items = Items { window, group, at: start, end: start + items_len };
        Ok(Some(Group { at, end, tid_before, crc, items }))
    }

    /// The end of the last group.
    pub(super) fn at(&self) -> Position {
        self.at
    }

    /// Goes on from the end of another group.
    pub(super) fn go_to(&mut self, end: Position) {
        self.at = end;
    }

    /// Reads so much at once from now on.
    pub(super) fn set_step(&mut self, step: u32) {
        self.window.step = step;
    }

    /// The item at the start of `rest`, which is the rest of the items of the group there, and its
    /// length.
    #[inline]
    pub(super) fn item(
        &mut self,
        group: Position,
        rest: Range<u32>,
    ) -> Result<(Item, u32), ItemError> {
        self.window.enter(self.segments, group.segment);
        self.window.item(group.offset, rest)
    }

    /// Bytes from there on; `None` where the file ends before.
    #[inline]
    pub(super) fn bytes(&mut self, at: Position, len: u32) -> io::Result<Option<&[u8]>> {
        self.window.enter(self.segments, at.segment);
        self.window.bytes(at.offset, len)
    }

    /// The same for keeps: what is read next goes elsewhere.
    #[inline]
    pub(super) fn slice(&mut self, at: Position, len: u32) -> io::Result<Option<Bytes>> {
        self.window.enter(self.segments, at.segment);
        self.window.slice(at.offset, len)
    }

    /// Bytes of the next group, as its header says; 0 where there is none.
    pub(in crate::storage) fn next_len(&mut self) -> io::Result<u32> {
        Ok(self.next_header()?.and_then(|header| header.group_len()).unwrap_or(0))
    }

    /// The header of the next group, here or at the start of the next segment.
    pub(super) fn next_header(&mut self) -> io::Result<Option<GroupHeader>> {
        if let Some(header) = self.header_at(self.at)? {
            return Ok(Some(header));
        }
        match self.next_segment()? {
            // The group says itself what a damaged segment header cannot say any more.
            Some((segment, SegmentStart::Invalid)) => self.header_at(first_group_of(segment)),
            Some((segment, SegmentStart::Valid(header))) if header.before == self.at => {
                self.header_at(first_group_of(segment))
            }
            Some((_, SegmentStart::Valid(_) | SegmentStart::Newer(_))) | None => Ok(None),
        }
    }

    /// Where the next group must be if there is one: in the next segment if that says so.
    pub(super) fn next_place(&self) -> io::Result<Position> {
        Ok(match self.next_segment()? {
            Some((segment, SegmentStart::Valid(header))) if header.before == self.at => {
                first_group_of(segment)
            }
            _ => self.at,
        })
    }

    fn header_at(&mut self, at: Position) -> io::Result<Option<GroupHeader>> {
        if !self.window.enter(self.segments, at.segment) {
            return Ok(None);
        }
        let header = self.window.bytes(at.offset, GROUP_HEADER)?;
        let header = header.and_then(|bytes| GroupHeader::decode(bytes, self.uuid));
        Ok(header.filter(|header| header.at == at && header.durable == self.at))
    }

    /// The header of a group at any place, whatever is before it; nothing else is read.
    pub(super) fn any_header_at(&self, at: Position) -> io::Result<Option<GroupHeader>> {
        let Some(file) = self.segments.file(at.segment) else { return Ok(None) };
        read_group_header(file.as_ref(), at, self.uuid)
    }

    fn next_segment(&self) -> io::Result<Option<(u32, SegmentStart)>> {
        let number = self.at.segment.checked_add(1);
        let file = number.and_then(|number| Some((number, self.segments.file(number)?)));
        file.map(|(number, file)| Ok((number, read_start(file.as_ref())?))).transpose()
    }
}

impl<F: DiskFile> Items<'_, F> {
    fn take(&mut self) -> Result<Item, ItemError> {
        let (item, len) = self.window.item(self.group, self.at..self.end)?;
        self.at += len;
        Ok(item)
    }
}

impl<F: DiskFile> Iterator for Items<'_, F> {
    type Item = Result<Item, ItemError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at == self.end {
            return None;
        }
        let item = self.take();
        if item.is_err() {
            self.at = self.end;
        }
        Some(item)
    }
}

/// Where the first group of a segment is.
fn first_group_of(segment: u32) -> Position {
    Position { segment, offset: SEGMENT_HEADER }
}

/// The header of the group at that place, if there is one.
pub(super) fn read_group_header(
    file: &impl DiskFile,
    at: Position,
    uuid: [u8; 16],
) -> io::Result<Option<GroupHeader>> {
    let mut bytes = [0; GROUP_HEADER as usize];
    file.read_at(&mut bytes, u64::from(at.offset))?;
    Ok(GroupHeader::decode(&bytes, uuid).filter(|header| header.at == at))
}

/// Reads and decodes the header of a segment.
pub(super) fn read_start(file: &impl DiskFile) -> io::Result<SegmentStart> {
    let mut bytes = [0; SEGMENT_HEADER as usize];
    file.read_at(&mut bytes, 0)?;
    Ok(SegmentHeader::decode(&bytes))
}

/// A part of a segment, held in memory.
#[derive(Debug)]
pub(in crate::storage) struct Window<F> {
    segment: u32,
    file: Option<Arc<F>>,
    start: u64,
    bytes: Bytes,
    buffers: Buffers,
    /// How much is read at once.
    step: u32,
}

impl<F: DiskFile> Window<F> {
    /// Where nothing is read yet.
    pub(super) fn new(buffers: Buffers) -> Self {
        Self { segment: 0, file: None, start: 0, bytes: Bytes::new(), buffers, step: WINDOW }
    }

    /// The item at the start of `rest`, which is the rest of a group's items, and its length.
    #[inline]
    fn item(&mut self, group: u32, rest: Range<u32>) -> Result<(Item, u32), ItemError> {
        let Range { start, end } = rest;
        let head = self.bytes(start, ITEM_HEAD.min(end - start));
        let head = head.map_err(ItemError::Io)?.ok_or(ItemError::Malformed)?;
        let (len, item) = item(head, start - group).ok_or(ItemError::Malformed)?;
        if len > end - start { Err(ItemError::Malformed) } else { Ok((item, len)) }
    }

    /// Moves to a segment; false if there is no such file.
    pub(super) fn enter<D: Disk<File = F>>(
        &mut self,
        segments: &Segments<D>,
        segment: u32,
    ) -> bool {
        if self.file.is_none() || self.segment != segment {
            self.file = segments.file(segment);
            self.segment = segment;
            self.bytes = Bytes::new();
        }
        self.file.is_some()
    }

    /// The crc of bytes of the segment; `None` where the file ends before.
    pub(super) fn crc(&mut self, offset: u32, len: u32) -> io::Result<Option<u32>> {
        let mut crc = 0;
        for done in (0..len).step_by(self.step as usize) {
            let Some(bytes) = self.bytes(offset + done, self.step.min(len - done))? else {
                return Ok(None);
            };
            crc = crc32c::crc32c_append(crc, bytes);
        }
        Ok(Some(crc))
    }

    /// Some bytes of the segment, at most a window; `None` where the file ends before.
    #[inline]
    pub(super) fn bytes(&mut self, offset: u32, len: u32) -> io::Result<Option<&[u8]>> {
        let (offset, len) = (u64::from(offset), u64::from(len));
        if !self.holds(offset, len) && !self.fill(offset, len)? {
            return Ok(None);
        }
        let from = in_memory(offset - self.start);
        Ok(self.bytes.get(from..from + in_memory(len)))
    }

    /// The same for keeps.
    #[inline]
    fn slice(&mut self, offset: u32, len: u32) -> io::Result<Option<Bytes>> {
        if self.bytes(offset, len)?.is_none() {
            return Ok(None);
        }
        let from = in_memory(u64::from(offset) - self.start);
        Ok(Some(self.bytes.slice(from..from + len as usize)))
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
        // The same memory again, unless somebody has kept a part of it.
        self.bytes = Bytes::new();
        let wanted = in_memory(left.min(len.max(u64::from(self.step))));
        self.bytes = self.buffers.fill(wanted, |buffer| file.read_at(buffer, offset))?;
        self.start = offset;
        Ok(self.holds(offset, len))
    }
}

/// A length within a segment, which is below 4 GiB.
fn in_memory(len: u64) -> usize {
    usize::try_from(len).expect("a segment fits into the address space")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use zeo_proto::{Oid, Tid};

    use crate::storage::testing::{World, changes, commit, committed, load, new, objects};
    use crate::storage::{Found, OpenError, Record};

    #[test]
    fn a_group_that_is_larger_than_the_window_is_read_in_parts() {
        let (world, at) = large_transaction();
        let storage = world.open().unwrap();
        assert_eq!(changes(&storage, Tid::ZERO), objects(1..=5));
        for oid in 1..=5 {
            assert!(matches!(load(&storage, oid), Found::Revision(..)));
        }
        drop(storage);
        world.disk.damage("00000002.log", at);
        assert!(matches!(world.open(), Err(OpenError::Damaged(_))));
    }

    /// A transaction of several MiB, one behind it, and a place in the middle of the first.
    fn large_transaction() -> (World, usize) {
        let world = World::new(1);
        let storage = world.open().unwrap();
        let large = |oid, len| {
            let data = Bytes::from(vec![7; len]);
            Record::store(Oid::new(oid), Some(Tid::ZERO), data, Some(vec![Oid::ROOT; 3]))
        };
        let records = [new(1, "a"), large(2, 3 << 20), large(3, (1 << 20) - 40), new(4, "d")];
        committed(&storage, commit(1, records));
        committed(&storage, commit(2, [new(5, "e")]));
        (world, 2 << 20)
    }
}
