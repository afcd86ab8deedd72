//! The past of a storage in memory.

use std::convert::Infallible;

use bytes::Bytes;
use zeo_proto::{Oid, Tid};

use super::{State, latest};
use crate::storage::history::{Entries, Past, objects_page, transactions_page};
use crate::storage::{
    Cursor, HistoryEntry, HistoryLimit, HistoryRecord, ObjectsPage, StorageError, TransactionHead,
    TransactionsPage,
};

impl State {
    pub(super) fn history(&self, oid: Oid, before: Tid, limit: HistoryLimit) -> Vec<HistoryEntry> {
        let mut entries = Entries::new(limit);
        for (&(_, tid), record) in self.revisions.range((oid, Tid::ZERO)..(oid, before)).rev() {
            let Some(transaction) = self.transactions.get(&tid) else { continue };
            let meta = transaction.head.meta.clone();
            let len = record.data.as_ref().map_or(0, Bytes::len);
            let len = u32::try_from(len).unwrap_or(u32::MAX);
            if !entries.push(HistoryEntry { tid, meta, len, deleted: record.data.is_none() }) {
                break;
            }
        }
        entries.list
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

    pub(super) fn objects(&self, from: Oid, before: Tid, max: usize) -> ObjectsPage {
        let serial = |(tid, record): (Tid, &HistoryRecord)| record.data.is_some().then_some(tid);
        let page = objects_page(from, max, |from, count| {
            let some = latest(&self.revisions, from, before).take(count);
            Ok::<_, Infallible>(some.map(|(oid, last)| (oid, last.and_then(serial))).collect())
        });
        let Ok(page) = page;
        page
    }
}

impl Past for State {
    fn head(&self, tid: Tid) -> Result<TransactionHead, StorageError> {
        let transaction = self.transactions.get(&tid);
        transaction.map(|found| found.head.clone()).ok_or_else(|| missing(tid))
    }

    fn record(&self, oid: Oid, tid: Tid) -> Result<HistoryRecord, StorageError> {
        self.revisions.get(&(oid, tid)).cloned().ok_or_else(|| missing(tid))
    }
}

fn missing(tid: Tid) -> StorageError {
    StorageError::Damaged(format!("a part of transaction {tid} is missing"))
}
