//! What a commit writes, as its publication needs it: each object once, in order.
//!
//! A publication is one turn, whatever its size, so all that does not need the reactor is done
//! before, in the commit stage.

use bytes::Bytes;
use zeo_proto::Oid;

use crate::storage::{Commit, Operation, Record};

/// Objects and, where it is in memory, their new data; `None` forgets what was known of one.
#[derive(Debug, Default)]
pub(crate) struct Writes(Vec<(Oid, Option<Bytes>)>);

impl Writes {
    /// What an operation writes; of two records of one object, the later counts. The data of very
    /// many is not kept: it is not worth the turn that it would take.
    pub(crate) fn of(operation: &Operation) -> Self {
        let Operation::Commit(Commit { records, .. }) = operation else { return Self::default() };
        let is_kept = records.len() <= MANY;
        let data = |record: &Record| record.body.held().filter(|_| is_kept).cloned();
        let mut writes: Vec<_> = records.iter().map(|record| (record.oid, data(record))).collect();
        writes.sort_by_key(|&(oid, _)| oid);
        writes.dedup_by(|later, kept| {
            let is_same = later.0 == kept.0;
            if is_same {
                core::mem::swap(later, kept);
            }
            is_same
        });
        Self(writes)
    }

    /// The objects.
    pub(crate) fn oids(&self) -> Vec<Oid> {
        self.0.iter().map(|&(oid, _)| oid).collect()
    }

    /// Each object with its new data.
    pub(crate) fn into_data(self) -> impl Iterator<Item = (Oid, Option<Bytes>)> {
        self.0.into_iter()
    }
}

/// Objects of one commit of which none is kept in memory, and that are not remembered one by one.
pub(crate) const MANY: usize = 4_096;

#[cfg(test)]
mod tests {
    use zeo_proto::{Tid, TxnId, TxnMeta};

    use super::*;

    #[test]
    fn of_two_writes_of_one_object_the_later_counts() {
        let data = |text: &'static str| Bytes::from_static(text.as_bytes());
        let (a, b) = (Oid::new(1), Oid::new(2));
        let stores = [(b, "1"), (a, "2"), (b, "3")];
        let mut records: Vec<Record> =
            stores.map(|(oid, text)| Record::store(oid, None, data(text), None)).into();
        records.push(Record::delete(b, None));
        let writes = Writes::of(&Operation::Commit(commit(records)));
        assert_eq!(writes.oids(), [a, b]);
        assert_eq!(writes.into_data().collect::<Vec<_>>(), [(a, Some(data("2"))), (b, None)]);
    }

    #[test]
    fn the_data_of_very_many_is_not_kept() {
        let record = |number| Record::store(Oid::new(number), None, Bytes::from("a"), None);
        for (count, is_kept) in [(MANY, true), (MANY + 1, false)] {
            let records = (0..count as u64).map(record).collect();
            let writes = Writes::of(&Operation::Commit(commit(records)));
            assert_eq!(writes.oids().len(), count);
            assert!(writes.into_data().all(|(_, data)| data.is_some() == is_kept));
        }
    }

    fn commit(records: Vec<Record>) -> Commit {
        Commit {
            id: TxnId::default(),
            snapshot: Tid::ZERO,
            meta: TxnMeta::default(),
            records,
            read_current: Vec::new(),
            restore: None,
        }
    }
}
