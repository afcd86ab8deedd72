//! Reads the items of a group, and single records by their place.
//!
//! What is done for every item of a long reading is marked to be inlined, here, in `read`, `walk`
//! and the pages: its parts would go from function to function through memory otherwise, which
//! takes as long as parsing them.

use bytes::Bytes;
use zeo_proto::{Oid, Tid, TxnId, TxnMeta};

use super::build::Span;
use super::format::{
    DELETED, EPOCH, Fields, RECORD, REPLACES_DELETION, RESERVED, TRANSACTION, WITH_REFS,
};
use crate::storage::{HistoryRecord, TransactionHead};

/// One item of a group, as far as the index and the catch-up want to know. A record `replaces` an
/// object that was there, and not a deletion or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::storage) enum Item {
    Transaction { tid: Tid, id: TxnId, span: Span },
    Record { oid: Oid, tid: Tid, deleted: bool, replaces: bool, span: Span },
    Reserved(Oid),
    Epoch(u64),
}

/// The item whose first bytes these are, at least [`ITEM_HEAD`] where the group has as many, and
/// its length. `offset` is its distance from the start of its group.
#[inline]
pub(super) fn item(head: &[u8], offset: u32) -> Option<(u32, Item)> {
    let len = Fields(head.get(4..)?).u32()?;
    let known = head.len().min(usize::try_from(len).ok()?);
    let parsed = item_at(head.get(..known)?, Span { offset, len })?;
    Some((len, parsed))
}

#[inline]
fn item_at(item: &[u8], span: Span) -> Option<Item> {
    let mut fields = Fields(item);
    fields.bytes(8)?;
    let [kind, flags, _, _] = fields.array()?;
    match kind {
        TRANSACTION => {
            let tid = Tid::from_bytes(fields.array()?);
            Some(Item::Transaction { tid, id: TxnId::from_bytes(fields.array()?), span })
        }
        RECORD => {
            let oid = Oid::from_bytes(fields.array()?);
            let tid = Tid::from_bytes(fields.array()?);
            let first = Tid::from_bytes(fields.array()?) == Tid::ZERO;
            let replaces = !first && flags & REPLACES_DELETION == 0;
            Some(Item::Record { oid, tid, deleted: flags & DELETED != 0, replaces, span })
        }
        RESERVED => Some(Item::Reserved(Oid::from_bytes(fields.array()?))),
        EPOCH => Some(Item::Epoch(fields.u64()?)),
        _ => None,
    }
}

/// The data in the bytes of a record, which must be that of `oid` at `tid` and undamaged.
pub(super) fn record_data(record: &Bytes, oid: Oid, tid: Tid) -> Result<Bytes, &'static str> {
    let found = whole_record_head(record)?;
    if (found.oid, found.tid) != (oid, tid) {
        return Err(ANOTHER);
    }
    Ok(record.slice(found.data_offset..))
}

/// What is in the bytes of a record, which must be undamaged.
#[inline]
pub(super) fn record(record: &[u8]) -> Result<ParsedRecord, &'static str> {
    let RecordHead { oid, tid, previous, flags, data_offset } = whole_record_head(record)?;
    let refs = record.get(RECORD_HEAD..data_offset).unwrap_or_default().as_chunks().0;
    let refs = || refs.iter().copied().map(Oid::from_bytes).collect();
    let refs = (flags & WITH_REFS != 0).then(refs);
    let record = HistoryRecord { oid, previous, data: None, refs };
    let data_offset = (flags & DELETED == 0).then_some(data_offset);
    Ok(ParsedRecord { tid, record, data_offset })
}

/// A record whose data is not taken yet, so that whoever has its memory need not copy it.
pub(super) struct ParsedRecord {
    pub(super) tid: Tid,
    pub(super) record: HistoryRecord,
    /// Where in the record its data begins; `None` for a deletion.
    pub(super) data_offset: Option<usize>,
}

/// All that is in the bytes of a transaction's own item, which must be undamaged.
pub(super) fn transaction(item: &[u8]) -> Result<TransactionHead, &'static str> {
    transaction_head(whole(item)?).ok_or("it is no transaction")
}

/// Bytes of data in the record of which these are the first bytes, at least [`RECORD_HEAD`], and
/// which is `len` long. It must be that of `oid` at `tid`; whether it is whole is not looked at.
pub(super) fn data_len(head: &[u8], len: u32, (oid, tid): (Oid, Tid)) -> Result<u32, &'static str> {
    let mut fields = Fields(head);
    fields.u32();
    let found = record_head(fields).ok_or(NO_RECORD)?;
    if (found.oid, found.tid) != (oid, tid) {
        return Err(ANOTHER);
    }
    let before = u32::try_from(found.data_offset).ok();
    before.and_then(|before| len.checked_sub(before)).ok_or(CUT_OFF)
}

/// What stands after an item's crc, which must be right.
#[inline]
pub(super) fn whole(item: &[u8]) -> Result<Fields<'_>, &'static str> {
    let mut fields = Fields(item);
    let crc = fields.u32().ok_or(CUT_OFF)?;
    if crc32c::crc32c(fields.0) == crc { Ok(fields) } else { Err("its checksum is wrong") }
}

#[inline]
fn whole_record_head(record: &[u8]) -> Result<RecordHead, &'static str> {
    let head = record_head(whole(record)?).ok_or(NO_RECORD)?;
    if head.data_offset <= record.len() { Ok(head) } else { Err(CUT_OFF) }
}

struct RecordHead {
    oid: Oid,
    tid: Tid,
    previous: Tid,
    flags: u8,
    data_offset: usize,
}

/// What stands after a record's crc.
#[inline]
fn record_head(mut fields: Fields<'_>) -> Option<RecordHead> {
    fields.u32()?;
    let [kind, flags, ..] = fields.array::<4>()?;
    let oid = Oid::from_bytes(fields.array()?);
    let tid = Tid::from_bytes(fields.array()?);
    let previous = Tid::from_bytes(fields.array()?);
    let refs = usize::try_from(fields.u32()?).ok()?;
    let data_offset = refs.checked_mul(8)?.checked_add(RECORD_HEAD)?;
    (kind == RECORD).then_some(RecordHead { oid, tid, previous, flags, data_offset })
}

/// What stands after a transaction's crc.
fn transaction_head(mut fields: Fields<'_>) -> Option<TransactionHead> {
    fields.u32()?;
    let [kind, ..] = fields.array::<4>()?;
    let tid = Tid::from_bytes(fields.array()?);
    let id = TxnId::from_bytes(fields.array()?);
    let snapshot = Tid::from_bytes(fields.array()?);
    let records = fields.u32()?;
    let [user, description] = [fields.u32()?, fields.u32()?];
    let user = text(&mut fields, user)?;
    let description = text(&mut fields, description)?;
    let meta = TxnMeta { user, description, extension: fields.0.to_vec() };
    (kind == TRANSACTION).then_some(TransactionHead { tid, id, snapshot, meta, records })
}

fn text(fields: &mut Fields<'_>, len: u32) -> Option<String> {
    let bytes = fields.bytes(usize::try_from(len).ok()?)?;
    str::from_utf8(bytes).ok().map(str::to_owned)
}

const CUT_OFF: &str = "it is cut off";
const NO_RECORD: &str = "it is no record";
pub(super) const ANOTHER: &str = "another record is there";

/// Bytes of an item that tell all that an [`Item`] has.
pub(super) const ITEM_HEAD: u32 = 36;
/// Bytes of a record before the oids that it refers to.
pub(in crate::storage) const RECORD_HEAD: usize = 40;
/// Bytes of a transaction's own item before its texts.
pub(in crate::storage) const TRANSACTION_HEAD: usize = 56;

#[cfg(test)]
mod tests {
    use zeo_proto::TxnMeta;

    use super::*;
    use crate::storage::journal::build::{GroupBuilder, Piece, Replaced};
    use crate::storage::journal::format::GROUP_HEADER;
    use crate::storage::{Commit, Record};

    #[test]
    fn items_are_read_as_they_were_built() {
        let (bytes, spans) = sample(b"data".to_vec());
        let found: Vec<Item> = items(&bytes).into_iter().map(Option::unwrap).collect();
        let Item::Transaction { span, .. } = found[1] else { panic!("{found:?}") };
        let record = |number, deleted, span| Item::Record {
            oid: Oid::new(number),
            tid: Tid::new(9),
            deleted,
            replaces: true,
            span,
        };
        let id = TxnId::from_bytes([3; 16]);
        let expected = [
            Item::Epoch(1),
            Item::Transaction { tid: Tid::new(9), id, span },
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
        let replaced = Replaced { serial: old, deleted: false };
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
        let first =
            group.record(&Record::store(Oid::new(7), None, data.into(), refs), tid, replaced);
        let second = group.record(&Record::delete(Oid::new(8), None), tid, replaced);
        group.reserved(Oid::new(99));
        let items = GROUP_HEADER as usize;
        let bytes: Vec<u8> = group.pieces(items).flat_map(in_memory).copied().collect();
        let crc = crc32c::crc32c(&bytes);
        assert_eq!(group.items(), (u32::try_from(bytes.len()).unwrap(), crc));
        (bytes, [first, second])
    }
}
