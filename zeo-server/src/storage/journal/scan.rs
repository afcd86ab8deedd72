//! Looks at what is beyond the last whole group: proof of damage, or leftovers to be wiped.

use std::io;
use std::ops::ControlFlow;

use super::format::{
    ALIGNMENT, GROUP_HEADER, GROUP_MAGIC, GroupHeader, Position, SEGMENT_HEADER, SegmentStart,
};
use super::segments::Segments;
use super::walk::read_start;
use crate::storage::disk::{Disk, DiskFile};

/// How much is looked at, or written, at once: 1 MiB.
const CHUNK: usize = 1 << 20;
static ZEROS: [u8; CHUNK] = [0; CHUNK];

/// The first header beyond `end` that proves that the journal did not end there: all that may be
/// beyond is what was being written when `end` was its durable end.
pub(super) fn first_beyond<D: Disk>(
    segments: &Segments<D>,
    uuid: [u8; 16],
    end: Position,
) -> io::Result<Option<Position>> {
    for number in segments.numbers().into_iter().filter(|&number| number >= end.segment) {
        let file = segments.file(number).expect("it was listed");
        let mut from = end.offset;
        if number > end.segment {
            let start = read_start(file.as_ref())?;
            if matches!(start, SegmentStart::Valid(header) if header.before != end) {
                return Ok(Some(Position { segment: number, offset: 0 }));
            }
            from = SEGMENT_HEADER;
        }
        let from = Position { segment: number, offset: from };
        let proves = |header: &GroupHeader| header.durable != end;
        if let Some(header) = find_header(file.as_ref(), uuid, from, proves)? {
            return Ok(Some(header.at));
        }
    }
    Ok(None)
}

/// The first group header from there on that is in its place, and of which `wanted` is true.
pub(super) fn find_header(
    file: &impl DiskFile,
    uuid: [u8; 16],
    from: Position,
    wanted: impl Fn(&GroupHeader) -> bool,
) -> io::Result<Option<GroupHeader>> {
    let found = chunks(file, u64::from(from.offset), GROUP_HEADER as usize, |offset, bytes| {
        let headers = (0..bytes.len()).step_by(ALIGNMENT as usize).filter_map(|at| {
            let bytes = bytes.get(at..).filter(|bytes| bytes.starts_with(&GROUP_MAGIC))?;
            let place = u32::try_from(offset + at as u64).ok()?;
            let header = GroupHeader::decode(bytes, uuid)?;
            (header.at == Position { offset: place, ..from }).then_some(header)
        });
        match headers.into_iter().find(|header| wanted(header)) {
            Some(header) => Ok(ControlFlow::Break(header)),
            None => Ok(ControlFlow::Continue(())),
        }
    })?;
    Ok(found.break_value())
}

/// Whether there is nothing but zeros from `from` to the end of the file.
pub(super) fn is_zero_from(file: &impl DiskFile, from: u64) -> io::Result<bool> {
    let found = chunks(file, from, 0, |_, _| Ok(ControlFlow::Break(())))?;
    Ok(found.is_continue())
}

/// Overwrites whatever is not zero from `from` to the end of the file.
pub(super) fn wipe(file: &impl DiskFile, from: u64) -> io::Result<()> {
    let wipe_chunk = |offset, bytes: &[u8]| {
        file.write_at(ZEROS.get(..bytes.len()).unwrap_or(&ZEROS), offset)?;
        Ok(ControlFlow::<()>::Continue(()))
    };
    chunks(file, from, 0, wipe_chunk).map(|_| ())
}

/// Writes that many zeros into an empty file, and makes them durable.
pub(super) fn fill_with_zeros(file: &impl DiskFile, len: u32) -> io::Result<()> {
    let mut offset = 0;
    while offset < len {
        let left = usize::try_from(len - offset).ok();
        let part = left.and_then(|left| ZEROS.get(..left)).unwrap_or(&ZEROS);
        file.write_at(part, u64::from(offset))?;
        offset = offset.saturating_add(u32::try_from(part.len()).unwrap_or(u32::MAX));
    }
    file.sync_data()
}

/// Writes what can be read there once more, so that the next sync makes it durable for sure.
pub(super) fn rewrite(file: &impl DiskFile, from: u64, end: u64) -> io::Result<()> {
    let rewrite_chunk = |offset, bytes: &[u8]| {
        let left = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let bytes = bytes.get(..left).unwrap_or(bytes);
        file.write_at(bytes, offset)?;
        let done = bytes.len() == left;
        Ok(if done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    };
    chunks(file, from, 0, rewrite_chunk).map(|_| ())
}

/// Visits the chunks of a file that are not all zero, each with `overlap` bytes of the next.
fn chunks<B>(
    file: &impl DiskFile,
    from: u64,
    overlap: usize,
    mut visit: impl FnMut(u64, &[u8]) -> io::Result<ControlFlow<B>>,
) -> io::Result<ControlFlow<B>> {
    let end = file.size()?;
    let longest = usize::try_from(end.saturating_sub(from)).unwrap_or(CHUNK).min(CHUNK);
    let mut buffer = vec![0; longest + overlap];
    let mut offset = from;
    while offset < end {
        let read = file.read_at(&mut buffer, offset)?;
        let bytes = buffer.get(..read).unwrap_or_default();
        let zero = bytes.chunks(CHUNK).all(|part| ZEROS.starts_with(part));
        if !zero && let ControlFlow::Break(found) = visit(offset, bytes)? {
            return Ok(ControlFlow::Break(found));
        }
        offset += CHUNK as u64;
    }
    Ok(ControlFlow::Continue(()))
}
