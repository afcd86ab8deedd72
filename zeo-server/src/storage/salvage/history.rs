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
