//! What is said on the wire, in the words of storages.

use bytes::Bytes;
use zeo_proto::{Failure, MAX_BATCH, Reply};

use super::peer::Answer;
use crate::storage::{
    Applied, Cursor, HistoryEntry, HistoryItem, HistoryRecord, Refused, TransactionHead,
};

/// What became of an operation.
pub(super) fn applied(answer: Answer) -> Result<Applied, Refused> {
    match answer {
        Ok((Reply::Finished(tid), _)) => Ok(Applied::Committed(tid)),
        Ok((Reply::Voted, _)) => Ok(Applied::Checked(Vec::new())),
        Ok((Reply::Conflicts(found), _)) => {
            Ok(Applied::Checked(found.into_iter().map(|found| found.conflict).collect()))
        }
        Ok((Reply::NewOids(first, _), _)) => Ok(Applied::Reserved(first)),
        Ok((Reply::Outcome(outcome), _)) => Ok(Applied::Outcome(outcome)),
        Err(Failure::Conflict(conflict)) => Err(Refused::Conflict(conflict)),
        Err(Failure::Fenced) => Err(Refused::Fenced),
        Err(Failure::TidOutOfOrder(last)) => Err(Refused::OutOfOrder(last)),
        other => panic!("{other:?}"),
    }
}

/// An item of a page, whose data is the first of what is left of the page's.
pub(super) fn item_of(item: zeo_proto::HistoryItem, data: &mut Bytes) -> HistoryItem {
    match item {
        zeo_proto::HistoryItem::Transaction(head) => {
            let zeo_proto::TransactionHead { tid, id, snapshot, records, meta } = head;
            HistoryItem::Transaction(TransactionHead { tid, id, snapshot, meta, records })
        }
        zeo_proto::HistoryItem::Record(record) => {
            let zeo_proto::HistoryRecord { oid, previous, data_len, refs } = record;
            let data = data_len.map(|len| data.split_to(len as usize));
            HistoryItem::Record(HistoryRecord { oid, previous, data, refs })
        }
    }
}

pub(super) fn entry_of(entry: zeo_proto::HistoryEntry) -> HistoryEntry {
    let zeo_proto::HistoryEntry { tid, data_len, deleted, meta } = entry;
    HistoryEntry { tid, meta, len: data_len, deleted }
}

pub(super) fn cursor(zeo_proto::Cursor { tid, record }: zeo_proto::Cursor) -> Cursor {
    Cursor { tid, record, place: None }
}

/// How many a client may ask for at once.
pub(super) fn count(wanted: usize) -> u32 {
    u32::try_from(wanted.clamp(1, MAX_BATCH)).unwrap()
}
