//! What must be true of everything that was seen and done, held against the history that the
//! storage has in the end.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use zeo_client::Revision;
use zeo_proto::{Oid, Tid};
use zeo_server::storage::{Found, Storage};

use crate::record::{Attempt, Fate, Observation, Record};

/// The history of every object, as the storage has it; a deletion has no data.
pub(crate) struct History {
    revisions: BTreeMap<Oid, BTreeMap<Tid, Option<Bytes>>>,
    last_tid: Tid,
}

impl History {
    /// Walks every object back through time.
    pub(crate) fn of(storage: &dyn Storage, oids: impl Iterator<Item = Oid>) -> Self {
        let walk = |oid| {
            let (mut revisions, mut before) = (BTreeMap::new(), Tid::MAX);
            loop {
                let (serial, data) = match storage.load_before(oid, before, Tid::MAX).unwrap() {
                    Found::Revision(validity, data) => (validity.serial, Some(data)),
                    Found::Deleted(validity) => (validity.serial, None),
                    Found::Absent => return (oid, revisions),
                };
                revisions.insert(serial, data);
                before = serial;
            }
        };
        Self { revisions: oids.map(walk).collect(), last_tid: storage.last_tid() }
    }

    pub(crate) fn last_tid(&self) -> Tid {
        self.last_tid
    }

    /// The tids of all commits that wrote something.
    pub(crate) fn tids(&self) -> BTreeSet<Tid> {
        self.revisions.values().flat_map(|revisions| revisions.keys().copied()).collect()
    }

    /// The revision that a reader with that `before` sees.
    pub(crate) fn at(&self, oid: Oid, before: Tid) -> Option<(Tid, &Bytes)> {
        let (tid, data) = self.latest(oid, before)?;
        Some((tid, data.as_ref()?))
    }

    /// The last change before a tid; without data where it was a deletion.
    fn latest(&self, oid: Oid, before: Tid) -> Option<(Tid, &Option<Bytes>)> {
        let revisions = self.revisions.get(&oid)?;
        revisions.range(..before).next_back().map(|(&tid, data)| (tid, data))
    }

    /// When an object last changed, if it ever did.
    pub(crate) fn last_change(&self, oid: Oid) -> Option<Tid> {
        self.latest(oid, Tid::MAX).map(|(tid, _)| tid)
    }

    pub(crate) fn check(&self, record: &Record) {
        for observation in &record.observations {
            self.check_observation(observation);
        }
        let mut explained = BTreeSet::new();
        for (attempt, fate) in &record.fates {
            explained.extend(self.check_fate(attempt, *fate));
        }
        for (&oid, revisions) in &self.revisions {
            for &tid in revisions.keys() {
                assert!(explained.contains(&(oid, tid)), "nobody wrote {oid} at {tid}");
            }
        }
    }

    fn check_observation(&self, Observation { oid, before, found }: &Observation) {
        let truth = self.at(*oid, *before);
        let seen = found.as_ref().map(|revision| (revision.tid, &revision.data));
        assert_eq!(seen, truth, "{oid} before {before}");
        let Some(Revision { tid, end: Some(end), .. }) = found else { return };
        let after = self.at(*oid, *end).map(|(tid, _)| tid);
        assert_eq!(after, Some(*tid), "{oid} from {tid} is said to be valid until {end}");
    }

    /// A transaction is there whole, once, at one tid and where it was said to be, or not at all.
    /// Returns what it changed, and when.
    fn check_fate(&self, attempt: &Attempt, fate: Fate) -> Vec<(Oid, Tid)> {
        let Attempt { name, snapshot, stores, deletes, bases } = attempt;
        let places = self.places(attempt);
        let tids: BTreeSet<Tid> = places.iter().map(|&(_, tid)| tid).collect();
        match fate {
            Fate::NotCommitted => assert!(places.is_empty(), "{name} was committed after all"),
            Fate::Unknown if places.is_empty() => {}
            // A transaction that writes nothing is committed without a trace, at its snapshot.
            Fate::Committed(tid) if stores.is_empty() => assert!(tid >= *snapshot, "{name}"),
            Fate::Committed(tid) => assert_eq!(tids, BTreeSet::from([tid]), "{name}"),
            Fate::Unknown => assert_eq!(tids.len(), 1, "{name}"),
        }
        let Some(&tid) = tids.first() else { return Vec::new() };
        let all_once = places.iter().map(|(oid, _)| oid).eq(stores.keys());
        assert!(all_once, "{name} is there in part, or twice: {places:?}");
        for oid in deletes {
            assert_eq!(self.revisions[oid].get(&tid), Some(&None), "{name} did not delete {oid}");
        }
        for (&oid, &base) in bases {
            let superseded = self.latest(oid, tid).map_or(Tid::ZERO, |(tid, _)| tid);
            let overlooked = base.map_or(superseded > *snapshot, |base| superseded != base);
            assert!(!overlooked, "{name} overlooked a change of {oid} at {superseded}");
        }
        places.into_iter().chain(deletes.iter().map(|&oid| (oid, tid))).collect()
    }

    /// Where a transaction's data is.
    fn places(&self, attempt: &Attempt) -> Vec<(Oid, Tid)> {
        let mut places = Vec::new();
        for (oid, data) in &attempt.stores {
            let revisions = self.revisions[oid].iter();
            let same = revisions.filter(|(_, found)| found.as_ref() == Some(data));
            places.extend(same.map(|(&tid, _)| (*oid, tid)));
        }
        places
    }
}
