//! Opens a journal: finds its files, tells a torn tail from damage, and cuts the former.

use std::sync::Arc;

use zeo_proto::Tid;

use super::Journal;
use super::append::{Prepared, Tail};
use super::build::GroupBuilder;
use super::format::{
    FORMAT_VERSION, GroupHeader, Position, SEGMENT_HEADER, SegmentHeader, SegmentStart,
};
use super::parse::Item;
use super::scan::{first_beyond, is_zero_from, rewrite, wipe};
use super::segments::{Segments, cannot, shown};
use super::walk::{Walker, read_group_header, read_start};
use crate::storage::disk::{Disk, DiskFile};
use crate::storage::index::Checkpoint;
use crate::storage::spill::CopyError;
use crate::storage::{Damage, OpenError};

/// A journal whose files are found, and whose end is not.
#[derive(Debug)]
pub(in crate::storage) struct Opening<D: Disk> {
    segments: Segments<D>,
    uuid: [u8; 16],
    segment_bytes: u32,
}

/// Where the first group is.
pub(in crate::storage) const START: Position = Position { segment: 1, offset: SEGMENT_HEADER };

impl<D: Disk> Opening<D> {
    /// Finds the journal on a disk; makes one with `new_uuid` where there is none.
    pub(in crate::storage) fn find(
        disk: D,
        new_uuid: [u8; 16],
        segment_bytes: u32,
    ) -> Result<Self, OpenError> {
        let segments = Segments::open(disk).map_err(cannot("open", 1))?;
        let known = known_uuid(&segments)?;
        let uuid = known.unwrap_or(new_uuid);
        let mut opening = Self { segments, uuid, segment_bytes };
        if known.is_none() || !opening.begins()? {
            opening.check_unfinished()?;
            opening.uuid = new_uuid;
            opening.create().map_err(cannot("create", 1))?;
        }
        Ok(opening)
    }

    pub(in crate::storage) fn uuid(&self) -> [u8; 16] {
        self.uuid
    }

    /// Whether the checkpoint is at the end of a group of this journal.
    pub(in crate::storage) fn reaches(&self, checkpoint: &Checkpoint) -> Result<bool, OpenError> {
        let at = checkpoint.last_group;
        let Some(file) = self.segments.file(at.segment) else { return Ok(false) };
        let header = read_group_header(file.as_ref(), at, self.uuid);
        let header = header.map_err(cannot("read", at.segment))?;
        Ok(checkpoint.identity.uuid == self.uuid
            && header.is_some_and(|header| {
                header.end() == Some(checkpoint.end)
                    && header.items_crc == checkpoint.last_group_crc
            }))
    }

    /// Refuses if there is something at the end of a checkpoint that is no group any more: it was
    /// durable, and would be taken for a torn tail. Where there is nothing, or another group, an
    /// older journal was put back.
    pub(in crate::storage) fn check_covered(
        &self,
        checkpoint: &Checkpoint,
    ) -> Result<(), OpenError> {
        let at = checkpoint.last_group;
        let Some(file) = self.segments.file(at.segment) else { return Ok(()) };
        let broken = cannot("read", at.segment);
        let from = u64::from(at.offset);
        let group = read_group_header(file.as_ref(), at, self.uuid).map_err(&broken)?;
        if group.is_some() || is_zero_from(file.as_ref(), from).map_err(&broken)? {
            return Ok(());
        }
        Err(damaged(at, self.last_tid_before(at)?, KNOWN_TO_THE_INDEX.to_owned()))
    }

    /// Refuses if there is something beyond the last whole group, of which the index knows that it
    /// was durable: the same as with a checkpoint.
    pub(in crate::storage) fn check_nothing_beyond(
        &self,
        end: Position,
        last_tid: Tid,
    ) -> Result<(), OpenError> {
        for number in self.segments.numbers().into_iter().filter(|&number| number >= end.segment) {
            let broken = cannot("read", number);
            let file = self.segments.file(number).expect("it was listed");
            let from = if number == end.segment { u64::from(end.offset) } else { 0 };
            if !is_zero_from(file.as_ref(), from).map_err(&broken)? {
                let place = self.walk(end).next_place().map_err(&broken)?;
                return Err(damaged(place, last_tid, KNOWN_TO_THE_INDEX.to_owned()));
            }
        }
        Ok(())
    }

    /// The last transaction before a place, or before the first damage.
    fn last_tid_before(&self, place: Position) -> Result<Tid, OpenError> {
        let mut walker = self.walk(START);
        let mut last_tid = Tid::ZERO;
        while let Some(group) = walker.next().map_err(read_failed(place))? {
            let tids = group.items.filter_map(|item| match item {
                Ok(Item::Transaction { tid, .. }) => Some(tid),
                _ => None,
            });
            last_tid = tids.last().unwrap_or(last_tid);
        }
        Ok(last_tid)
    }

    /// Walks from the end of a group.
    pub(in crate::storage) fn walk(&self, from: Position) -> Walker<'_, D> {
        Walker::new(&self.segments, self.uuid, from)
    }

    /// Declares the place after the last whole group the end of the journal.
    ///
    /// If anything later proves that there was more, that is damage, and nothing is changed.
    /// Otherwise what is beyond was never durable: it is overwritten with zeros, so that none of
    /// it can come back to life. The last group is written once more, because an earlier process
    /// may have failed to sync it and seen it nonetheless.
    pub(in crate::storage) fn settle(
        self,
        last_group: Position,
        end: Position,
        last_tid: Tid,
    ) -> Result<Journal<D>, OpenError> {
        let broken = cannot("recover", end.segment);
        if let Some(proof) = first_beyond(&self.segments, self.uuid, end).map_err(&broken)? {
            let (file, offset) = (shown(proof.segment), proof.offset);
            let what = format!("broken, though {file} at byte {offset} was written after it");
            let place = self.walk(end).next_place().map_err(&broken)?;
            return Err(damaged(place, last_tid, what));
        }
        self.heal_headers(end.segment)?;
        let file = self.segments.file(end.segment).expect("the last group was read from it");
        let start = if last_group.offset == SEGMENT_HEADER { 0 } else { last_group.offset };
        rewrite(file.as_ref(), u64::from(start), u64::from(end.offset)).map_err(&broken)?;
        wipe(file.as_ref(), u64::from(end.offset)).map_err(&broken)?;
        file.sync_data().map_err(&broken)?;
        let ready = self.clear_beyond(end.segment)?;
        let prepared = file.size().map_err(&broken)? >= u64::from(self.segment_bytes);
        let before = self.used_before(end.segment).map_err(&broken)?;
        let tail = Tail::new(file, end, before, prepared);
        let prepared = Prepared::new(self.segment_bytes, end.segment, ready);
        Ok(Journal::new(self.segments, self.uuid, tail, prepared))
    }

    /// Bytes of the segments before that one: each says where the one before it ended.
    fn used_before(&self, last: u32) -> std::io::Result<u64> {
        let mut used = 0;
        for segment in self.segments.numbers().into_iter().filter(|&number| number <= last) {
            let file = self.segments.file(segment).expect("it was listed");
            if let SegmentStart::Valid(header) = read_start(file.as_ref())? {
                used += u64::from(header.before.offset);
            }
        }
        Ok(used)
    }

    /// Writes damaged headers of segments anew, up to the last segment: what is in them is known
    /// from the first group after them.
    fn heal_headers(&self, last: u32) -> Result<(), OpenError> {
        for segment in self.segments.numbers().into_iter().filter(|&number| number <= last) {
            let broken = cannot("recover", segment);
            let file = self.segments.file(segment).expect("it was listed");
            if read_start(file.as_ref()).map_err(&broken)? != SegmentStart::Invalid {
                continue;
            }
            let at = Position { segment, offset: SEGMENT_HEADER };
            let group = read_group_header(file.as_ref(), at, self.uuid).map_err(&broken)?;
            let Some(group) = group else { continue };
            tracing::error!(file = shown(segment), "its header was damaged and is written anew");
            let header = self.segment_header(segment, &group);
            file.write_at(&header.encode(), 0).map_err(&broken)?;
            file.sync_data().map_err(&broken)?;
        }
        Ok(())
    }

    /// The header of a segment that begins with that group.
    fn segment_header(&self, segment: u32, group: &GroupHeader) -> SegmentHeader {
        let before = if segment == START.segment { Position::default() } else { group.durable };
        SegmentHeader { segment, uuid: self.uuid, before, tid_before: group.tid_before }
    }

    /// Removes the files after the last segment, but for one that is prepared to be the next.
    fn clear_beyond(&self, last: u32) -> Result<Option<Arc<D::File>>, OpenError> {
        let mut ready = None;
        for number in self.segments.numbers().into_iter().filter(|&number| number > last) {
            let broken = cannot("recover", number);
            let file = self.segments.file(number).expect("it was listed");
            if number == last + 1 && self.is_prepared(file.as_ref()).map_err(&broken)? {
                ready = Some(file);
            } else {
                self.segments.remove(number).map_err(&broken)?;
            }
        }
        self.segments.disk.sync_dir().map_err(cannot("recover", last))?;
        Ok(ready)
    }

    fn is_prepared(&self, file: &D::File) -> std::io::Result<bool> {
        Ok(file.size()? == u64::from(self.segment_bytes) && is_zero_from(file, 0)?)
    }

    /// Whether the first group, which is written when a journal is made, is whole.
    fn begins(&self) -> Result<bool, OpenError> {
        let mut walker = self.walk(START);
        Ok(walker.next().map_err(cannot("read", START.segment))?.is_some())
    }

    /// Refuses unless all there is can be what a making left that did not come to its end.
    fn check_unfinished(&self) -> Result<(), OpenError> {
        for number in self.segments.numbers() {
            let file = self.segments.file(number).expect("it was listed");
            let from = if number == START.segment { u64::from(first_end()) } else { 0 };
            if !is_zero_from(file.as_ref(), from).map_err(cannot("read", number))? {
                let what = "the journal's beginning is missing or broken".to_owned();
                return Err(damaged(Position { offset: 0, ..START }, Tid::ZERO, what));
            }
        }
        Ok(())
    }

    /// Makes a journal, with a first group that says which epoch it is.
    fn create(&self) -> std::io::Result<()> {
        for number in self.segments.numbers() {
            self.segments.remove(number)?;
        }
        let file = self.segments.create(START.segment)?;
        let (header, mut group) = first_group();
        file.write_at(&self.segment_header(START.segment, &header).encode(), 0)?;
        group.seal(&header.encode(self.uuid));
        group.write(file.as_ref(), START.offset).map_err(CopyError::into_inner)?;
        file.sync_data()?;
        self.segments.insert(START.segment, file);
        Ok(())
    }
}

const KNOWN_TO_THE_INDEX: &str = "a group that the index knows is broken; if an older journal was \
                                  put back on purpose, delete the index";

/// The group that every journal begins with.
fn first_group() -> (GroupHeader, GroupBuilder) {
    let mut group = GroupBuilder::new();
    group.epoch(1);
    let (items_len, items_crc) = group.items();
    let (at, durable, tid_before) = (START, START, Tid::ZERO);
    (GroupHeader { items_crc, items_len, at, durable, tid_before }, group)
}

/// Where the first group ends.
fn first_end() -> u32 {
    first_group().0.end().expect("it is short").offset
}

/// The storage that the segments belong to, if any says so.
pub(super) fn known_uuid<D: Disk>(segments: &Segments<D>) -> Result<Option<[u8; 16]>, OpenError> {
    let mut known = None;
    for number in segments.numbers() {
        let file = segments.file(number).expect("it was listed");
        match read_start(file.as_ref()).map_err(cannot("read", number))? {
            SegmentStart::Newer(found) => {
                let (file, newest) = (shown(number), FORMAT_VERSION);
                return Err(OpenError::NewerFormat { file, found, newest });
            }
            SegmentStart::Valid(header) => {
                if header.segment != number || *known.get_or_insert(header.uuid) != header.uuid {
                    return Err(OpenError::ForeignFile { file: shown(number) });
                }
            }
            SegmentStart::Invalid => {}
        }
    }
    Ok(known)
}

pub(in crate::storage) fn damaged(at: Position, after: Tid, what: String) -> OpenError {
    let (file, offset) = (shown(at.segment), u64::from(at.offset));
    OpenError::Damaged(Damage { file, offset, after, what })
}

pub(in crate::storage) fn read_failed(at: Position) -> impl Fn(std::io::Error) -> OpenError {
    cannot("read", at.segment)
}
