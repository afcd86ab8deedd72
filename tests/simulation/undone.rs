//! What undoing must have come to: the objects are as they were before what was undone.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use zeo_proto::{Oid, Tid};
use zeo_server::storage::{HistoryLimit, Storage};

use crate::history::History;
use crate::record::{Attempt, Fate, Record};

/// The transactions that say something of themselves, as only those do that undo others.
pub(crate) fn described(
    storage: &dyn Storage,
    oids: impl Iterator<Item = Oid>,
) -> BTreeMap<Tid, String> {
    let limit = HistoryLimit { entries: usize::MAX, bytes: usize::MAX };
    let entries = |oid| storage.history(oid, Tid::MAX, Tid::MAX, limit).unwrap();
    let described = oids.flat_map(entries).map(|entry| (entry.tid, entry.meta.description));
    described.filter(|(_, description)| !description.is_empty()).collect()
}

impl History {
    /// One that undoes another is there once, where it was said to be, or not at all. Returns what
    /// it changed, and when.
    pub(crate) fn check_undo(
        &self,
        Attempt { name, .. }: &Attempt,
        undone: Tid,
        fate: Fate,
    ) -> Vec<(Oid, Tid)> {
        let tids = self.undoes.iter().filter(|(_, description)| *description == name);
        let tids: BTreeSet<Tid> = tids.map(|(tid, _)| *tid).collect();
        match fate {
            Fate::NotCommitted => assert!(tids.is_empty(), "{name} was committed after all"),
            Fate::Committed(tid) => assert_eq!(tids, BTreeSet::from([tid]), "{name}"),
            Fate::Unknown => assert!(tids.len() < 2, "{name} is there twice"),
        }
        let Some(&tid) = tids.first() else { return Vec::new() };
        self.oids()
            .filter(|oid| self.is_undone(*oid, (undone, tid), name))
            .map(|oid| (oid, tid))
            .collect()
    }

    /// Whether an object was changed by that; then it is again what it was.
    fn is_undone(&self, oid: Oid, (undone, tid): (Tid, Tid), name: &str) -> bool {
        let changes = self.changes(oid);
        let (was, is) = (changes.get(&undone), changes.get(&tid));
        assert_eq!(was.is_some(), is.is_some(), "{name}: {oid} is one of both, or not");
        let (Some(was), Some(is)) = (was, is) else { return false };
        assert_eq!(self.data_before(oid, tid), was.as_ref(), "{name}: {oid} was changed since");
        assert_eq!(is.as_ref(), self.data_before(oid, undone), "{name}: {oid} is something else");
        true
    }

    fn data_before(&self, oid: Oid, tid: Tid) -> Option<&Bytes> {
        self.latest(oid, tid)?.1.as_ref()
    }

    /// What was said to be in the way of an undo had been changed.
    pub(crate) fn check_refusals(&self, record: &Record) {
        for (undone, oids) in &record.refusals {
            for oid in oids {
                let later = self.changes(*oid).range(undone.next()..).next();
                assert!(later.is_some(), "{oid} is not in the way of undoing {undone}");
            }
        }
    }
}
