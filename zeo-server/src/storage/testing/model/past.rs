//! What the model says of the past, and of undoing it.

use std::collections::BTreeSet;

use bytes::Bytes;
use zeo_proto::{Oid, Tid};

use super::{Model, Revision};
use crate::storage::testing::{history, live, pages};
use crate::storage::{Cursor, HistoryEntry, HistoryItem, HistoryRecord, Record, Storage};

impl Model {
    /// Compares all transactions, the history of every object, and which there are at some tids.
    pub(in crate::storage) fn check_past(&self, storage: &dyn Storage) {
        let found = pages(storage, Cursor::new(Tid::ZERO), (Tid::MAX, 4_000), |at| at);
        assert_eq!(found, self.items());
        for &oid in self.revisions.keys() {
            assert_eq!(history(storage, oid.number(), 7), self.history(oid));
        }
        let tids = self.transactions.keys().step_by(9).copied();
        for before in tids.chain([Tid::MAX]) {
            assert_eq!(live(storage, before, 3), self.live(before));
        }
        assert_eq!(storage.size().objects, self.live(Tid::MAX).len() as u64);
    }

    fn items(&self) -> Vec<HistoryItem> {
        let items = self.transactions.values().flat_map(|transaction| {
            let tid = transaction.head.tid;
            let head = HistoryItem::Transaction(transaction.head.clone());
            let record = move |&oid| HistoryItem::Record(self.record(oid, tid));
            std::iter::once(head).chain(transaction.oids.iter().map(record))
        });
        items.collect()
    }

    fn record(&self, oid: Oid, tid: Tid) -> HistoryRecord {
        let all = &self.revisions[&oid];
        let previous = all.range(..tid).next_back().map_or(Tid::ZERO, |(&tid, _)| tid);
        let Revision { data, refs } = all[&tid].clone();
        HistoryRecord { oid, previous, data, refs }
    }

    fn history(&self, oid: Oid) -> Vec<HistoryEntry> {
        let entry = |(&tid, revision): (&Tid, &Revision)| {
            let meta = self.transactions[&tid].head.meta.clone();
            let len = revision.data.as_ref().map_or(0, Bytes::len);
            let (len, deleted) = (u32::try_from(len).unwrap(), revision.data.is_none());
            HistoryEntry { tid, meta, len, deleted }
        };
        self.revisions[&oid].iter().rev().map(entry).collect()
    }

    fn live(&self, before: Tid) -> Vec<(Oid, Tid)> {
        let all = self.revisions.iter().filter_map(|(&oid, all)| {
            let (&tid, last) = all.range(..before).next_back()?;
            last.data.is_some().then_some((oid, tid))
        });
        all.collect()
    }

    /// What undoing these transactions writes, or what is in the way.
    pub(in crate::storage) fn undo(&self, tids: &BTreeSet<Tid>) -> Result<Vec<Record>, Vec<Oid>> {
        let written = tids.iter().flat_map(|tid| &self.transactions[tid].oids);
        let written: BTreeSet<Oid> = written.copied().collect();
        let mut in_the_way = Vec::new();
        let mut records = Vec::new();
        for oid in written {
            match self.target(oid, tids) {
                Ok(revision) => records.push(self.record_of(oid, revision)),
                Err(()) => in_the_way.push(oid),
            }
        }
        if in_the_way.is_empty() { Ok(records) } else { Err(in_the_way) }
    }

    /// What an object becomes, `None` if it was not there before; an error if somebody is in the
    /// way.
    fn target(&self, oid: Oid, undone: &BTreeSet<Tid>) -> Result<Option<&Revision>, ()> {
        let mut left: Vec<(Tid, &Revision)> =
            self.revisions[&oid].iter().map(|(&tid, revision)| (tid, revision)).collect();
        while let Some((tid, revision)) = left.pop() {
            if undone.contains(&tid) {
                continue;
            }
            let Some(below) = left.iter().rposition(|(tid, _)| undone.contains(tid)) else {
                return Ok(Some(revision));
            };
            if left[below].1.data != revision.data {
                return Err(());
            }
            left.truncate(below);
        }
        Ok(None)
    }

    fn record_of(&self, oid: Oid, revision: Option<&Revision>) -> Record {
        let serial = Some(self.current(oid));
        match revision.and_then(|it| it.data.clone().map(|data| (data, it.refs.clone()))) {
            Some((data, refs)) => Record::store(oid, serial, data, refs),
            None => Record::delete(oid, serial),
        }
    }
}
