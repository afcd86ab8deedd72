//! Reads the items of a group, and single records by their place.

use bytes::Bytes;
use zeo_proto::{Oid, Tid, TxnId};

use super::build::Span;
use super::format::{DELETED, EPOCH, Fields, RECORD, RESERVED, TRANSACTION};

/// One item of a group, as far as the index and the catch-up want to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::storage) enum Item {
    Transaction { tid: Tid, id: TxnId },
    Record { oid: Oid, tid: Tid, deleted: bool, span: Span },
    Reserved(Oid),
    Epoch(u64),
}

/// The item whose first bytes these are, at least [`ITEM_HEAD`] where the group has as many, and
/// its length. `offset` is its distance from the start of its group.
pub(super) fn item(head: &[u8], offset: u32) -> Option<(u32, Item)> {
    let len = Fields(head.get(4..)?).u32()?;
    let known = head.len().min(usize::try_from(len).ok()?);
    let parsed = item_at(head.get(..known)?, Span { offset, len })?;
    Some((len, parsed))
}

fn item_at(item: &[u8], span: Span) -> Option<Item> {
    let mut fields = Fields(item);
    fields.bytes(8)?;
    let [kind, flags, _, _] = fields.array()?;
    match kind {
        TRANSACTION => {
            let tid = Tid::from_bytes(fields.array()?);
            Some(Item::Transaction { tid, id: TxnId::from_bytes(fields.array()?) })
        }
        RECORD => {
            let oid = Oid::from_bytes(fields.array()?);
            let tid = Tid::from_bytes(fields.array()?);
            Some(Item::Record { oid, tid, deleted: flags & DELETED != 0, span })
        }
        RESERVED => Some(Item::Reserved(Oid::from_bytes(fields.array()?))),
        EPOCH => Some(Item::Epoch(fields.u64()?)),
        _ => None,
    }
}

/// The data in the bytes of a record, which must be that of `oid` at `tid` and undamaged.
pub(super) fn record_data(record: &Bytes, oid: Oid, tid: Tid) -> Result<Bytes, &'static str> {
    let mut fields = Fields(record);
    let crc = fields.u32().ok_or("it is cut off")?;
    if crc32c::crc32c(fields.0) != crc {
        return Err("its checksum is wrong");
    }
    let found = record_head(fields).ok_or("it is no record")?;
    if (found.oid, found.tid) != (oid, tid) {
        return Err("another record is there");
    }
    record.get(found.data_offset..).ok_or("it is cut off")?;
    Ok(record.slice(found.data_offset..))
}

struct RecordHead {
    oid: Oid,
    tid: Tid,
    data_offset: usize,
}

/// What stands after a record's crc.
fn record_head(mut fields: Fields<'_>) -> Option<RecordHead> {
    fields.u32()?;
    let [kind, ..] = fields.array::<4>()?;
    let oid = Oid::from_bytes(fields.array()?);
    let tid = Tid::from_bytes(fields.array()?);
    fields.u64()?;
    let refs = usize::try_from(fields.u32()?).ok()?;
    let data_offset = refs.checked_mul(8)?.checked_add(RECORD_HEAD)?;
    (kind == RECORD).then_some(RecordHead { oid, tid, data_offset })
}

/// Bytes of an item that tell all that an [`Item`] has.
pub(super) const ITEM_HEAD: u32 = 36;
/// Bytes of a record before the oids that it refers to.
pub(super) const RECORD_HEAD: usize = 40;

#[cfg(test)]
mod tests {
    use zeo_proto::TxnMeta;

    use super::*;
    use crate::storage::journal::build::{GroupBuilder, Piece};
    use crate::storage::journal::format::GROUP_HEADER;
    use crate::storage::{Commit, Record};

    #[test]
    fn items_are_read_as_they_were_built() {
        let (bytes, spans) = sample(b"data".to_vec());
        let found: Vec<Item> = items(&bytes).into_iter().map(Option::unwrap).collect();
        let record = |number, deleted, span| Item::Record {
            oid: Oid::new(number),
            tid: Tid::new(9),
            deleted,
            span,
        };
        let expected = [
            Item::Epoch(1),
            Item::Transaction { tid: Tid::new(9), id: TxnId::from_bytes([3; 16]) },
            record(7, false, spans[0]),
            record(8, true, spans[1]),
            Item::Reserved(Oid::new(99)),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_record_gives_its_data_and_only_to_who_asks_for_it() {
        for data in [b"data".to_vec(), vec![5; 100_000]] {
            let (bytes, [span, _]) = sample(data.clone());
            let start = (span.offset - GROUP_HEADER) as usize;
            let record = Bytes::from(bytes).slice(start..start + span.len as usize);
            let found = record_data(&record, Oid::new(7), Tid::new(9)).unwrap();
            assert_eq!(found, data);
            record_data(&record, Oid::new(8), Tid::new(9)).unwrap_err();
            record_data(&record, Oid::new(7), Tid::new(8)).unwrap_err();
            let mut damaged = record.to_vec();
            *damaged.last_mut().unwrap() ^= 1;
            record_data(&damaged.into(), Oid::new(7), Tid::new(9)).unwrap_err();
            record_data(&record.slice(..3), Oid::new(7), Tid::new(9)).unwrap_err();
        }
    }

    #[test]
    fn no_bytes_make_the_parser_fall() {
        let (bytes, _) = sample(b"data".to_vec());
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0xff;
            items(&changed);
            items(&bytes[..at]);
        }
        assert_eq!(items(&[0; 64]), [None]);
    }

    /// All items up to the first that makes no sense.
    fn items(bytes: &[u8]) -> Vec<Option<Item>> {
        let (mut found, mut at) = (Vec::new(), 0);
        while at < bytes.len() && found.last() != Some(&None) {
            let offset = GROUP_HEADER + u32::try_from(at).unwrap();
            let item = item(&bytes[at..], offset);
            at += item.map_or(0, |(len, _)| len as usize);
            found.push(item.map(|(_, item)| item));
        }
        found
    }

    fn in_memory(piece: Piece<'_>) -> &[u8] {
        let Piece::Bytes(bytes) = piece else { panic!("nothing was spilled") };
        bytes
    }

    fn sample(data: Vec<u8>) -> (Vec<u8>, [Span; 2]) {
        let (tid, old) = (Tid::new(9), Tid::new(4));
        let commit = Commit {
            id: TxnId::from_bytes([3; 16]),
            snapshot: old,
            meta: TxnMeta { user: "u".into(), description: "d".into(), extension: vec![1] },
            records: Vec::new(),
            read_current: Vec::new(),
            restore: None,
        };
        let mut group = GroupBuilder::new();
        group.epoch(1);
        group.transaction(&commit, tid, 2);
        let refs = Some(vec![Oid::ROOT, Oid::new(8)]);
        let first = group.record(&Record::store(Oid::new(7), None, data.into(), refs), tid, old);
        let second = group.record(&Record::delete(Oid::new(8), None), tid, old);
        group.reserved(Oid::new(99));
        let items = GROUP_HEADER as usize;
        let bytes: Vec<u8> = group.pieces(items).flat_map(in_memory).copied().collect();
        let crc = crc32c::crc32c(&bytes);
        assert_eq!(group.items(), (u32::try_from(bytes.len()).unwrap(), crc));
        (bytes, [first, second])
    }
}
