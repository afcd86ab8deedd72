//! What readers of history were told, held against the history that there is in the end: as far as
//! it was published then, it has not changed.

use std::collections::BTreeSet;

use zeo_client::{CallError, Client, Deferred, Record, TransactionsPage};
use zeo_proto::{HistoryEntry, ObjectsPage, Oid, Tid};
use zeo_server::storage::disk::Random;

use crate::history::History;

/// What somebody was told, and the last tid that he knew when he asked.
pub(crate) struct Reading {
    pub(crate) known: Tid,
    pub(crate) told: Told,
}

pub(crate) enum Told {
    /// Who wrote an object before a tid.
    Object(Oid, Tid, Vec<HistoryEntry>),
    /// The transactions from a tid on.
    Transactions(Tid, TransactionsPage),
    /// The objects that there were from one on.
    Objects(Oid, ObjectsPage),
}

type Page<T> = Deferred<Result<T, CallError>>;

/// A question that is under way.
pub(crate) enum Question {
    Object(Oid, Tid, Page<Vec<HistoryEntry>>),
    Transactions(Tid, Page<TransactionsPage>),
    Objects(Oid, Page<ObjectsPage>),
}

impl Question {
    /// About an object, or from it on; about a time, or from then on.
    pub(crate) fn ask(client: &Client, (oid, tid): (Oid, Tid), random: &mut Random) -> Self {
        match random.below(4) {
            0 => Self::Object(oid, Tid::MAX, client.nb().history_page(oid, Tid::MAX)),
            1 => Self::Object(oid, tid, client.nb().history_page(oid, tid)),
            2 => Self::Transactions(tid, client.nb().transactions_page(tid..)),
            _ => {
                let before = client.last_tid().next();
                Self::Objects(oid, client.nb().objects_page(oid, before))
            }
        }
    }

    pub(crate) fn answer(&mut self) -> Option<Result<Told, CallError>> {
        Some(match self {
            Self::Object(oid, before, page) => {
                let told = |entries| Told::Object(*oid, *before, entries);
                page.try_take()?.unwrap().map(told)
            }
            Self::Transactions(from, page) => {
                page.try_take()?.unwrap().map(|page| Told::Transactions(*from, page))
            }
            Self::Objects(from, page) => {
                page.try_take()?.unwrap().map(|page| Told::Objects(*from, page))
            }
        })
    }
}

impl Reading {
    pub(crate) fn check(&self, history: &History) {
        match &self.told {
            Told::Object(oid, before, entries) => {
                self.check_object(history, *oid, *before, entries)
            }
            Told::Transactions(from, page) => self.check_transactions(history, *from, page),
            Told::Objects(from, page) => self.check_objects(history, *from, page),
        }
    }

    /// All changes before a tid, newest first, from one that nobody knew of yet, perhaps.
    fn check_object(&self, history: &History, oid: Oid, before: Tid, entries: &[HistoryEntry]) {
        let told: BTreeSet<Tid> = entries.iter().map(|entry| entry.tid).collect();
        let last = told.last().copied().max(Some(self.known));
        let truth = history.changes(oid).range(..before);
        let truth = truth.map(|(&tid, _)| tid).filter(|tid| Some(*tid) <= last);
        assert_eq!(told, truth.collect(), "changes of {oid} before {before}");
        assert!(entries.is_sorted_by(|a, b| a.tid > b.tid), "{oid}: {entries:?}");
        for HistoryEntry { tid, data_len, deleted, .. } in entries {
            let data = &history.changes(oid)[tid];
            let length = data.as_ref().map_or(0, |data| data.len() as u64);
            assert_eq!((u64::from(*data_len), *deleted), (length, data.is_none()), "{oid}, {tid}");
        }
    }

    fn check_transactions(&self, history: &History, from: Tid, page: &TransactionsPage) {
        let told: Vec<Tid> = page.transactions.iter().map(|txn| txn.head.tid).collect();
        let last = told.last().copied().max(Some(self.known));
        let through = page.next.map_or(last, |next| Some(next.previous()));
        let truth: Vec<Tid> = history.tids().into_iter().filter(|tid| *tid >= from).collect();
        let truth: Vec<Tid> = truth.into_iter().filter(|tid| Some(*tid) <= through).collect();
        assert_eq!(told, truth, "transactions from {from} to {:?}", page.next);
        for txn in &page.transactions {
            for Record { oid, previous, data, .. } in &txn.records {
                let changes = history.changes(*oid);
                assert_eq!(data, &changes[&txn.head.tid], "{oid} of {}", txn.head.tid);
                let before = changes.range(..txn.head.tid).next_back();
                assert_eq!(*previous, before.map_or(Tid::ZERO, |(&tid, _)| tid), "before {oid}");
            }
        }
    }

    fn check_objects(&self, history: &History, from: Oid, page: &ObjectsPage) {
        let told = page.objects.clone();
        let is_in = |oid: &Oid| *oid >= from && page.next.is_none_or(|next| *oid < next);
        let serial = |oid| Some((oid, history.at(oid, self.known.next())?.0));
        let truth: Vec<_> = history.oids().filter(is_in).filter_map(serial).collect();
        assert_eq!(told, truth, "objects from {from} as of {}", self.known);
    }
}
