//! The bytes of the journal: segment headers, groups and their items.
//!
//! All numbers are big-endian. A *place* is a segment's number and an offset in it, 4 bytes each.
//! Every crc is CRC-32C; that of a header starts from the crc of the storage's UUID, so that
//! another storage's bytes are not taken for ours.
//!
//! ```text
//! segment file: 00000001.log, 00000002.log, …
//! ┌────────────────┬─────────┬─────────┬─ ─ ─ ─┬───────────────────────────┐
//! │ segment header │ group   │ group   │       │ zeros, prepared for more  │
//! └────────────────┴─────────┴─────────┴─ ─ ─ ─┴───────────────────────────┘
//!
//! segment header, 64 bytes
//!   0   8  magic "zeo.jrnl"
//!   8   4  format version; it, the magic and the crc keep their place in all versions
//!  12   4  number of the segment, from 1
//!  16  16  UUID of the storage
//!  32   8  place: the end of the journal when the segment was begun
//!  40   8  tid of the last transaction before the segment
//!  48  12  zero
//!  60   4  crc of bytes 0 to 59, not started from the UUID
//!
//! group, one write and one sync; starts at a multiple of 8, padded with zeros to the next
//! ┌──────────────┬──────┬──────┬─ ─ ─┬──────────┐
//! │ group header │ item │ item │     │ 0–7 zero │
//! └──────────────┴──────┴──────┴─ ─ ─┴──────────┘
//! group header, 48 bytes
//!   0   4  magic "ZGRP"
//!   4   4  crc of bytes 8 to 47
//!   8   4  crc of the items
//!  12   4  length of the items
//!  16   8  place: where this group is
//!  24   8  place: the end of the journal that was durable when this group was written
//!  32   8  tid of the last transaction before the group
//!  40   8  zero
//!
//! item, one of the kinds below
//!   0   4  crc of the rest of the item
//!   4   4  length of the item
//!   8   1  kind
//!   9   1  flags
//!  10   2  zero
//!  12      by kind:
//!
//! kind 1, transaction; its records follow      kind 2, record of the transaction before it
//!  12   8  tid                                  12   8  oid
//!  20  16  id that its client gave it           20   8  tid
//!  36   8  snapshot                             28   8  serial of the revision it replaces
//!  44   4  number of its records                36   4  number of oids that it refers to, n
//!  48   4  length of the user, u                40  8n  those oids
//!  52   4  length of the description, d               …  data
//!  56   u  user, in UTF-8                        flag 1: the object is deleted, no data
//!       d  description, in UTF-8                 flag 2: the oids are known (n = 0 is "none")
//!       …  extension                            flag 4: it replaces a deletion
//!
//! kind 3, reservation                          kind 4, epoch
//!  12   8  all oids below this one are taken    12   8  the epoch that begins here
//! ```
//!
//! A group says where it is and what was durable before it. So where a group is not whole, a
//! later header that calls that place durable proves *damage*; without such a proof it is a *torn
//! tail*: it was never durable, so nobody was told of it, and it is cut off.

use zeo_proto::Tid;

/// The newest format that this version reads, and the one that it writes.
pub(in crate::storage) const FORMAT_VERSION: u32 = 1;
/// Bytes of a segment header.
pub(in crate::storage) const SEGMENT_HEADER: u32 = 64;
/// Bytes of a group header.
pub(super) const GROUP_HEADER: u32 = 48;
/// Groups start at multiples of this.
pub(super) const ALIGNMENT: u32 = 8;
/// What a group starts with.
pub(super) const GROUP_MAGIC: [u8; 4] = *b"ZGRP";

/// Kind of an item: a transaction.
pub(super) const TRANSACTION: u8 = 1;
/// Kind of an item: a record of the transaction before it.
pub(super) const RECORD: u8 = 2;
/// Kind of an item: a reservation of oids.
pub(super) const RESERVED: u8 = 3;
/// Kind of an item: a new epoch.
pub(super) const EPOCH: u8 = 4;
/// Flag of a record: the object is deleted.
pub(super) const DELETED: u8 = 1;
/// Flag of a record: the oids that it refers to are known.
pub(super) const WITH_REFS: u8 = 2;
/// Flag of a record: the revision that it replaces is a deletion.
pub(super) const REPLACES_DELETION: u8 = 4;

/// What a segment starts with.
pub(super) const SEGMENT_MAGIC: [u8; 8] = *b"zeo.jrnl";

/// A place in the journal; places are in the order in which they are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Number of the segment, from 1.
    pub segment: u32,
    /// Bytes from the start of the segment.
    pub offset: u32,
}

impl Position {
    /// As it is written in the journal and the index.
    pub(in crate::storage) fn to_bytes(self) -> [u8; 8] {
        self.to_number().to_be_bytes()
    }

    /// What [`Position::to_bytes`] wrote.
    pub(in crate::storage) fn from_bytes(bytes: [u8; 8]) -> Self {
        Self::from_number(u64::from_be_bytes(bytes))
    }

    /// A number in the order of the places.
    pub(super) fn to_number(self) -> u64 {
        u64::from(self.segment) << 32 | u64::from(self.offset)
    }

    /// What [`Position::to_number`] made.
    #[expect(clippy::cast_possible_truncation, reason = "the two halves are taken apart")]
    pub(super) fn from_number(number: u64) -> Self {
        Self { segment: (number >> 32) as u32, offset: number as u32 }
    }
}

/// The start of a segment file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) segment: u32,
    pub(super) uuid: [u8; 16],
    /// The end of the journal when the segment was begun.
    pub(super) before: Position,
    /// The last transaction before the segment.
    pub(super) tid_before: Tid,
}

/// What the first bytes of a segment file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SegmentStart {
    Valid(SegmentHeader),
    /// A header of a format that this version does not know.
    Newer(u32),
    /// No header, or not all of one.
    Invalid,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER as usize] {
        let mut writer = Layout::default();
        writer.put(&SEGMENT_MAGIC);
        writer.put(&FORMAT_VERSION.to_be_bytes());
        writer.put(&self.segment.to_be_bytes());
        writer.put(&self.uuid);
        writer.put(&self.before.to_bytes());
        writer.put(&self.tid_before.to_bytes());
        writer.put(&[0; 12]);
        writer.put(&crc32c::crc32c(&writer.0).to_be_bytes());
        writer.array()
    }

    pub(super) fn decode(bytes: &[u8]) -> SegmentStart {
        Self::decode_known(bytes).unwrap_or(SegmentStart::Invalid)
    }

    fn decode_known(bytes: &[u8]) -> Option<SegmentStart> {
        let mut fields = Fields(bytes.get(..SEGMENT_HEADER as usize)?);
        let (checked, crc) = fields.0.split_last_chunk::<4>()?;
        let whole = crc32c::crc32c(checked) == u32::from_be_bytes(*crc);
        if !whole || fields.array()? != SEGMENT_MAGIC {
            return None;
        }
        let version = fields.u32()?;
        if version > FORMAT_VERSION {
            return Some(SegmentStart::Newer(version));
        }
        Some(SegmentStart::Valid(Self {
            segment: fields.u32()?,
            uuid: fields.array()?,
            before: Position::from_bytes(fields.array()?),
            tid_before: Tid::from_bytes(fields.array()?),
        }))
    }
}

/// The start of a group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct GroupHeader {
    pub(super) items_crc: u32,
    pub(super) items_len: u32,
    pub(super) at: Position,
    /// The end of the journal that was durable when this was written.
    pub(super) durable: Position,
    pub(super) tid_before: Tid,
}

impl GroupHeader {
    pub(super) fn encode(&self, uuid: [u8; 16]) -> [u8; GROUP_HEADER as usize] {
        let mut checked = Layout::default();
        checked.put(&self.items_crc.to_be_bytes());
        checked.put(&self.items_len.to_be_bytes());
        checked.put(&self.at.to_bytes());
        checked.put(&self.durable.to_bytes());
        checked.put(&self.tid_before.to_bytes());
        checked.put(&[0; 8]);
        let mut writer = Layout::default();
        writer.put(&GROUP_MAGIC);
        writer.put(&header_crc(uuid, &checked.0).to_be_bytes());
        writer.put(&checked.0);
        writer.array()
    }

    /// The header at the start of `bytes`, if there is a whole one of this storage.
    pub(super) fn decode(bytes: &[u8], uuid: [u8; 16]) -> Option<Self> {
        let mut fields = Fields(bytes.get(..GROUP_HEADER as usize)?);
        if fields.array()? != GROUP_MAGIC || fields.u32()? != header_crc(uuid, fields.0) {
            return None;
        }
        Some(Self {
            items_crc: fields.u32()?,
            items_len: fields.u32()?,
            at: Position::from_bytes(fields.array()?),
            durable: Position::from_bytes(fields.array()?),
            tid_before: Tid::from_bytes(fields.array()?),
        })
    }

    /// Where the items start.
    pub(super) fn items_start(&self) -> Option<u32> {
        self.at.offset.checked_add(GROUP_HEADER)
    }

    /// Bytes of the whole group: header, items and padding. `None` beyond what a place can name.
    pub(super) fn group_len(&self) -> Option<u32> {
        GROUP_HEADER.checked_add(self.items_len)?.checked_next_multiple_of(ALIGNMENT)
    }

    /// Where the group ends.
    pub(super) fn end(&self) -> Option<Position> {
        let offset = self.at.offset.checked_add(self.group_len()?)?;
        Some(Position { segment: self.at.segment, offset })
    }
}

fn header_crc(uuid: [u8; 16], bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&uuid), bytes)
}

/// Fields of a fixed layout, put one after the other.
#[derive(Default)]
struct Layout(Vec<u8>);

impl Layout {
    fn put(&mut self, field: &[u8]) {
        self.0.extend_from_slice(field);
    }

    fn array<const N: usize>(&self) -> [u8; N] {
        self.0.as_slice().try_into().expect("the fields of a header add up to its length")
    }
}

/// Takes fields from the front of some bytes; `None` when they are at their end.
#[derive(Clone, Copy)]
pub(in crate::storage) struct Fields<'a>(pub(in crate::storage) &'a [u8]);

impl<'a> Fields<'a> {
    pub(in crate::storage) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    pub(in crate::storage) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (field, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(field)
    }

    pub(in crate::storage) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(in crate::storage) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_their_encoding() {
        let segment = segment_header();
        assert_eq!(SegmentHeader::decode(&segment.encode()), SegmentStart::Valid(segment));
        let group = group_header();
        assert_eq!(GroupHeader::decode(&group.encode(UUID), UUID), Some(group));
        assert_eq!(group.end(), Some(Position { segment: 3, offset: 64 + 48 + 16 }));
    }

    #[test]
    fn a_header_with_any_bit_changed_is_none() {
        for bit in 0..64 * 8 {
            let mut bytes = segment_header().encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&bytes), SegmentStart::Invalid);
        }
        for bit in 0..48 * 8 {
            let mut bytes = group_header().encode(UUID);
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(GroupHeader::decode(&bytes, UUID), None);
        }
        assert_eq!(GroupHeader::decode(&group_header().encode(UUID), [8; 16]), None);
        assert_eq!(SegmentHeader::decode(&[0; 64]), SegmentStart::Invalid);
        assert_eq!(SegmentHeader::decode(b"short"), SegmentStart::Invalid);
    }

    #[test]
    fn a_newer_format_is_known_as_such() {
        let mut bytes = segment_header().encode();
        bytes[8..12].copy_from_slice(&9_u32.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(SegmentHeader::decode(&bytes), SegmentStart::Newer(9));
    }

    const UUID: [u8; 16] = [7; 16];

    fn segment_header() -> SegmentHeader {
        let before = Position { segment: 2, offset: 4096 };
        SegmentHeader { segment: 3, uuid: UUID, before, tid_before: Tid::new(5) }
    }

    fn group_header() -> GroupHeader {
        let at = Position { segment: 3, offset: 64 };
        let durable = Position { segment: 2, offset: 4096 };
        GroupHeader { items_crc: 1, items_len: 9, at, durable, tid_before: Tid::new(5) }
    }
}
