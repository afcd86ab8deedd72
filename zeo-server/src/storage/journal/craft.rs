//! Makes the checksums of fuzzed bytes right, so that what is beneath them is reached.

use std::ops::Range;

use super::format::{
    ALIGNMENT, Fields, GROUP_HEADER, GROUP_MAGIC, GroupHeader, Position, SEGMENT_HEADER,
    SEGMENT_MAGIC,
};

/// Splits bytes into segment files: a new one begins at each magic.
pub(in crate::storage) fn segments(bytes: &[u8]) -> Vec<Vec<u8>> {
    let begins = |at: &usize| bytes.get(*at..).is_some_and(|rest| rest.starts_with(&SEGMENT_MAGIC));
    let mut starts: Vec<usize> = (1..bytes.len()).filter(begins).collect();
    starts.insert(0, 0);
    let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
    let file = |(&start, end): (&usize, usize)| bytes.get(start..end).unwrap_or_default().to_vec();
    starts.iter().zip(ends).map(file).collect()
}

/// Where the items of the group at that place begin, and where they end.
pub(in crate::storage) fn items_of(file: &[u8], at: u32, uuid: [u8; 16]) -> Option<Range<u32>> {
    let header = GroupHeader::decode(file.get(at as usize..)?, uuid)?;
    let start = header.items_start()?;
    Some(start..start.checked_add(header.items_len)?)
}

/// Lets a segment claim to be that one, and its groups and items to be whole and where they are.
pub(in crate::storage) fn repair(segment: u32, file: &mut [u8]) {
    let Some((header, mut rest)) = file.split_at_mut_checked(SEGMENT_HEADER as usize) else {
        return;
    };
    put(header, 12, segment);
    put(header, 60, crc32c::crc32c(header.get(..60).unwrap_or_default()));
    let uuid = crc32c::crc32c(header.get(16..32).unwrap_or_default());
    let mut at = Position { segment, offset: SEGMENT_HEADER };
    let mut durable = None;
    while rest.starts_with(&GROUP_MAGIC)
        && let Some(len) = repair_group(rest, at, durable, uuid)
        && let Some(offset) = at.offset.checked_add(len)
        && let Some((_, after)) = rest.split_at_mut_checked(len as usize)
    {
        at.offset = offset;
        (rest, durable) = (after, Some(at));
    }
}

/// Repairs the group at the start of `bytes`; returns how long it says to be.
fn repair_group(bytes: &mut [u8], at: Position, end: Option<Position>, uuid: u32) -> Option<u32> {
    let (header, items) = bytes.split_at_mut_checked(GROUP_HEADER as usize)?;
    let items_len = Fields(header.get(12..)?).u32()?;
    if let Some(items) = items.get_mut(..items_len as usize) {
        repair_items(items);
        put(header, 8, crc32c::crc32c(items));
    }
    put_place(header, 16, at);
    if let Some(end) = end {
        put_place(header, 24, end);
    }
    let crc = crc32c::crc32c_append(uuid, header.get(8..)?);
    put(header, 4, crc);
    GROUP_HEADER.checked_add(items_len)?.checked_next_multiple_of(ALIGNMENT)
}

fn repair_items(mut rest: &mut [u8]) {
    while let Some(len) = rest.get(4..).and_then(|rest| Fields(rest).u32())
        && len >= 8
        && let Some((item, after)) = rest.split_at_mut_checked(len as usize)
    {
        let crc = crc32c::crc32c(item.get(4..).unwrap_or_default());
        put(item, 0, crc);
        rest = after;
    }
}

fn put_place(bytes: &mut [u8], at: usize, place: Position) {
    put(bytes, at, place.segment);
    put(bytes, at + 4, place.offset);
}

fn put(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(field) = bytes.get_mut(at..at + 4) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::testing::World;

    #[test]
    fn a_sound_journal_needs_no_repair() {
        let world = World::new(1);
        drop(world.filled(20));
        let sound: Vec<_> = (1..=3).map(|number| world.segment(number)).collect();
        let mut repaired = segments(&sound.concat());
        assert_eq!(repaired, sound);
        for (number, file) in (1..).zip(&mut repaired) {
            repair(number, file);
        }
        assert_eq!(repaired, sound);
    }
}
