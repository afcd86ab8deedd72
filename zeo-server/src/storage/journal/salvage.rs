//! Reads what is whole of a damaged journal, and says where it is not.
//!
//! Every item has a checksum of its own, so an item is as good as it was whatever is around it:
//! from a group that is not whole the others are taken one by one, and where not even a group's
//! header is whole, those that stand where its items began. What may be a torn tail was never
//! acknowledged: it is taken, and called damage, only if a later group proves that it was durable.

use std::io;

use bytes::Bytes;
use zeo_proto::{Oid, Tid};

use super::format::{GROUP_HEADER, GroupHeader, Position, SEGMENT_HEADER};
use super::opening::{damaged, known_uuid};
use super::parse::{ITEM_HEAD, Item, item};
use super::scan::{find_header, is_zero_from};
use super::segments::{Segments, cannot, shown};
use super::walk::Window;
use crate::storage::disk::{Disk, DiskFile};
use crate::storage::index::Place;
use crate::storage::{HistoryRecord, OpenError, StorageError, TransactionHead};

/// The files of a damaged journal, for reading only.
#[derive(Debug)]
pub(in crate::storage) struct Remains<D: Disk> {
    segments: Segments<D>,
    uuid: [u8; 16],
}

impl<D: Disk> Remains<D> {
    /// Finds them on a disk, and what is whole in them.
    pub(in crate::storage) fn find(disk: D) -> Result<(Self, Salvaged), OpenError> {
        let segments = Segments::open(disk).map_err(cannot("open", 1))?;
        let nameless = || {
            let what = "no segment says of which storage it is".to_owned();
            damaged(Position { segment: 1, offset: 0 }, Tid::ZERO, what)
        };
        let uuid = known_uuid(&segments)?.ok_or_else(nameless)?;
        let salvaged = Salvager::new(&segments, uuid).run().map_err(cannot("read", 1))?;
        Ok((Self { segments, uuid }, salvaged))
    }

    pub(in crate::storage) fn uuid(&self) -> [u8; 16] {
        self.uuid
    }

    pub(in crate::storage) fn load(
        &self,
        place: Place,
        oid: Oid,
        tid: Tid,
    ) -> Result<Bytes, StorageError> {
        self.segments.load(place, oid, tid)
    }

    pub(in crate::storage) fn record(
        &self,
        place: Place,
        oid: Oid,
        tid: Tid,
    ) -> Result<HistoryRecord, StorageError> {
        self.segments.record(place, oid, tid)
    }

    pub(in crate::storage) fn data_len(
        &self,
        place: Place,
        oid: Oid,
        tid: Tid,
    ) -> Result<u32, StorageError> {
        self.segments.data_len(place, oid, tid)
    }

    pub(in crate::storage) fn transaction(
        &self,
        place: Place,
    ) -> Result<TransactionHead, StorageError> {
        self.segments.transaction(place)
    }
}

/// An item, and where the group is that it stands in.
pub(in crate::storage) type Found = (Position, Item);

/// Reads a journal from its first segment to its last.
pub(super) struct Salvager<'a, D: Disk> {
    segments: &'a Segments<D>,
    uuid: [u8; 16],
    window: Window<D::File>,
    /// What was found in groups that are not whole, and where these are: not proven yet.
    unproven: Vec<(Position, Vec<Found>)>,
    salvaged: Salvaged,
}

/// What is left of a journal.
#[derive(Debug, Default)]
pub(in crate::storage) struct Salvaged {
    /// In the order of the journal.
    pub(in crate::storage) items: Vec<Found>,
    /// Where something is missing.
    pub(in crate::storage) damage: Vec<Position>,
}

impl<'a, D: Disk> Salvager<'a, D> {
    pub(super) fn new(segments: &'a Segments<D>, uuid: [u8; 16]) -> Self {
        let window = Window::new(segments.buffers.clone());
        let salvaged = Salvaged::default();
        Self { segments, uuid, window, unproven: Vec::new(), salvaged }
    }

    pub(super) fn run(mut self) -> io::Result<Salvaged> {
        let mut expected = 1;
        for number in self.segments.numbers() {
            if number > expected {
                self.salvaged.damage.push(Position { segment: expected, offset: 0 });
            }
            expected = number.saturating_add(1);
            self.segment(number)?;
        }
        Ok(self.salvaged)
    }

    fn segment(&mut self, segment: u32) -> io::Result<()> {
        let file = self.segments.file(segment).expect("it was listed");
        if !self.window.enter(self.segments, segment) {
            return Ok(());
        }
        let mut at = Position { segment, offset: SEGMENT_HEADER };
        loop {
            at = match self.header(at)? {
                Some(header) => self.group(&header)?,
                None if is_zero_from(file.as_ref(), u64::from(at.offset))? => return Ok(()),
                None => match self.no_header(file.as_ref(), at)? {
                    Some(next) => next,
                    None => return Ok(()),
                },
            };
        }
    }

    /// Takes a group, whole or in part; returns where it ends.
    fn group(&mut self, header: &GroupHeader) -> io::Result<Position> {
        self.prove(header.durable);
        let (Some(start), Some(end)) = (header.items_start(), header.end()) else {
            return Ok(header.at.after(1));
        };
        let found = self.items(header.at, start.saturating_add(header.items_len))?;
        if self.window.crc(start, header.items_len)? == Some(header.items_crc) {
            self.salvaged.items.extend(found);
        } else {
            self.unproven.push((header.at, found));
        }
        Ok(end)
    }

    /// Takes what can be taken where a group's header should be; returns where the next one is.
    fn no_header(&mut self, file: &D::File, at: Position) -> io::Result<Option<Position>> {
        let next = find_header(file, self.uuid, at.after(1), |_| true)?.map(|header| header.at);
        let end = match next {
            Some(next) => next.offset,
            None => u32::try_from(file.size()?).unwrap_or(u32::MAX),
        };
        let found = self.items(at, end)?;
        self.unproven.push((at, found));
        Ok(next)
    }

    /// What was written before a place is known to have been durable.
    fn prove(&mut self, durable: Position) {
        let proven = self.unproven.iter().take_while(|&&(at, _)| at < durable).count();
        for (at, found) in self.unproven.drain(..proven) {
            self.salvaged.damage.push(at);
            self.salvaged.items.extend(found);
        }
    }

    /// The items of the group there that are whole, up to `end` or to one whose length is not known.
    fn items(&mut self, group: Position, end: u32) -> io::Result<Vec<Found>> {
        let mut found = Vec::new();
        let mut at = group.offset.saturating_add(GROUP_HEADER);
        while at < end {
            let head = self.window.bytes(at, ITEM_HEAD.min(end - at))?;
            let Some((len, item)) = head.and_then(|head| item(head, at - group.offset)) else {
                break;
            };
            if self.is_whole(at, len)? {
                found.push((group, item));
            }
            let Some(next) = at.checked_add(len).filter(|&next| next <= end) else { break };
            at = next;
        }
        Ok(found)
    }

    /// Whether an item's bytes have its checksum, which is the first of them.
    fn is_whole(&mut self, at: u32, len: u32) -> io::Result<bool> {
        let Some(crc) = self.window.bytes(at, CRC)? else { return Ok(false) };
        let crc = crc.try_into().map(u32::from_be_bytes).ok();
        let (Some(start), Some(len)) = (at.checked_add(CRC), len.checked_sub(CRC)) else {
            return Ok(false);
        };
        Ok(start.checked_add(len).is_some() && self.window.crc(start, len)? == crc)
    }

    fn header(&mut self, at: Position) -> io::Result<Option<GroupHeader>> {
        let bytes = self.window.bytes(at.offset, GROUP_HEADER)?;
        let header = bytes.and_then(|bytes| GroupHeader::decode(bytes, self.uuid));
        Ok(header.filter(|header| header.at == at))
    }
}

impl Salvaged {
    /// Names the places where something is missing.
    pub(in crate::storage) fn places(&self) -> Vec<String> {
        let name = |at: &Position| format!("{} at byte {}", shown(at.segment), at.offset);
        self.damage.iter().map(name).collect()
    }
}

impl Position {
    /// The next place at which a group may start, that many steps on.
    fn after(self, steps: u32) -> Self {
        Self { offset: self.offset.saturating_add(steps * super::format::ALIGNMENT), ..self }
    }
}

/// Bytes of a checksum.
const CRC: u32 = 4;
