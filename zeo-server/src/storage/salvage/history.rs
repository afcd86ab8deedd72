//! The past as far as it is whole.
//!
//! A transaction whose head is lost has one without a name, and what is left of its records.

use std::convert::Infallible;

use zeo_proto::{Oid, Tid, TxnId, TxnMeta};

use super::SalvagedStorage;
use crate::storage::disk::Disk;
use crate::storage::history::{Entries, Past, objects_page, transactions_page};
use crate::storage::index::Place;
use crate::storage::memory::latest;
use crate::storage::{
    Cursor, HistoryEntry, HistoryLimit, HistoryRecord, ObjectsPage, Size, StorageError,
    TransactionHead, TransactionsPage,
};

impl<D: Disk> SalvagedStorage<D> {
    pub(super) fn history_of(
        &self,
        oid: Oid,
        bound: Tid,
        limit: HistoryLimit,
    ) -> Result<Vec<HistoryEntry>, StorageError> {
        let mut entries = Entries::new(limit);
        for (&(_, tid), &place) in self.revisions.range((oid, Tid::ZERO)..(oid, bound)).rev() {
            let len = if place.deleted { 0 } else { self.journal.data_len(place, oid, tid)? };
            let meta = self.head(tid)?.meta;
            if !entries.push(HistoryEntry { tid, meta, len, deleted: place.deleted }) {
                break;
            }
        }
        Ok(entries.list)
    }

    pub(super) fn page(
        &self,
        from: &Cursor,
        through: Tid,
        bytes: usize,
    ) -> Result<TransactionsPage, StorageError> {
        let all = self.transactions.range(from.tid..).take_while(|&(&tid, _)| tid <= through);
        let all = all.map(|(&tid, transaction)| (tid, transaction.oids.as_slice()));
        transactions_page(self, from, bytes, all)
    }

    pub(super) fn objects_from(&self, from: Oid, before: Tid, max: usize) -> ObjectsPage {
        let serial = |(tid, place): (Tid, &Place)| (!place.deleted).then_some(tid);
        let Ok(page) = objects_page(from, max, |from, count| {
            let some = latest(&self.revisions, from, before).take(count);
            Ok::<_, Infallible>(some.map(|(oid, last)| (oid, last.and_then(serial))).collect())
        });
        page
    }

    /// Objects, and bytes of records.
    pub(super) fn count(&self) -> Size {
        let newest = latest(&self.revisions, Oid::ROOT, Tid::MAX);
        let is_there = |last: Option<(Tid, &Place)>| last.is_some_and(|(_, place)| !place.deleted);
        let objects = newest.filter(|&(_, last)| is_there(last)).count() as u64;
        let bytes = self.revisions.values().map(|place| u64::from(place.len)).sum();
        Size { objects, bytes }
    }
}

impl<D: Disk> Past for SalvagedStorage<D> {
    fn head(&self, tid: Tid) -> Result<TransactionHead, StorageError> {
        let found = self.transactions.get(&tid);
        let records = u32::try_from(found.map_or(0, |found| found.oids.len())).unwrap_or(u32::MAX);
        match found.and_then(|found| found.head) {
            Some(place) => Ok(TransactionHead { records, ..self.journal.transaction(place)? }),
            None => Ok(TransactionHead {
                tid,
                id: TxnId::default(),
                snapshot: Tid::ZERO,
                meta: TxnMeta::default(),
                records,
            }),
        }
    }

    fn record(&self, oid: Oid, tid: Tid) -> Result<HistoryRecord, StorageError> {
        let place = self.revisions.get(&(oid, tid)).expect("it is one of the transaction's");
        self.journal.record(*place, oid, tid)
    }
}

#[cfg(test)]
mod tests {
    use zeo_proto::{Oid, Tid};

    use crate::storage::disk::Random;
    use crate::storage::testing::{
        Model, NOW, World, commit, committed, delete, new, transactions, update,
    };
    use crate::storage::{
        Cursor, HistoryItem, Operation, SalvagedStorage, Storage, TransactionHead, UndoLimits,
    };

    #[test]
    fn all_of_a_sound_storage_is_there() {
        let (world, mut model, mut random) = (World::new(1), Model::default(), Random::new(1));
        let storage = world.open().unwrap();
        for round in 0..50 {
            let commit = model.random_commit(&mut random);
            let answers = storage.apply(&[Operation::Commit(commit.clone())], NOW + round);
            model.answered(&commit, &answers[0]);
        }
        drop(storage);
        model.check_past(&SalvagedStorage::open(world.disk.clone()).unwrap());
    }

    #[test]
    fn records_whose_transaction_has_lost_its_head_are_those_of_one_without_a_name() {
        let world = World::new(1);
        let storage = world.open().unwrap();
        let first = committed(&storage, commit(1, [new(1, "a"), new(2, "b")]));
        let second = committed(&storage, commit(2, [update(1, first, "c"), delete(2, first)]));
        let sound = transactions(&storage);
        drop(storage);
        let description = world.segment(1).windows(4).position(|bytes| bytes == b"usde").unwrap();
        world.disk.damage("00000001.log", description);
        let storage = SalvagedStorage::open(world.disk.clone()).unwrap();
        let found = transactions(&storage);
        assert_eq!(found[1..], sound[1..]);
        let nameless = TransactionHead {
            tid: first,
            id: zeo_proto::TxnId::default(),
            snapshot: Tid::ZERO,
            meta: zeo_proto::TxnMeta::default(),
            records: 2,
        };
        assert_eq!(found[0], HistoryItem::Transaction(nameless));
        let page = storage.transactions(&Cursor::new(second), Tid::MAX, 1).unwrap();
        assert_eq!(page.items, sound[3..5]);
        let limits = UndoLimits { objects: 9, bytes: 9, spill_bytes: 9 };
        let undo = storage.undo(&[second], limits).unwrap().unwrap();
        assert_eq!(undo[1].oid, Oid::new(2));
    }
}
