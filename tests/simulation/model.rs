//! What must be true of everything that was seen and done, held against the history that the
//! storage has in the end.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use zeo_client::{InDoubt, Revision};
use zeo_proto::{Oid, Tid};
use zeo_server::storage::{Found, Storage};

/// All that clients saw and did.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) observations: Vec<Observation>,
    pub(crate) fates: Vec<(Attempt, Fate)>,
    /// The tids that somebody was told of as that of his commit.
    pub(crate) acknowledged: BTreeSet<Tid>,
    /// Names for new objects that were handed out.
    pub(crate) names: BTreeSet<Oid>,
    /// Transactions of unknown outcome whose clients have closed.
    pub(crate) orphans: Vec<(Attempt, InDoubt)>,
}

impl Record {
    pub(crate) fn observe(&mut self, oid: Oid, before: Tid, found: Option<Revision>) {
        self.observations.push(Observation { oid, before, found });
    }

    pub(crate) fn ended(&mut self, attempt: Attempt, fate: Fate) {
        if let Fate::Committed(tid) = fate {
            self.acknowledged.insert(tid);
        }
        self.fates.push((attempt, fate));
    }
}

/// A load, and what it found.
pub(crate) struct Observation {
    pub(crate) oid: Oid,
    pub(crate) before: Tid,
    pub(crate) found: Option<Revision>,
}

/// A transaction that was to be committed: what it writes and depends on.
pub(crate) struct Attempt {
    /// What it stores; nobody else stores the same.
    pub(crate) tag: Bytes,
    pub(crate) snapshot: Tid,
    pub(crate) stores: BTreeSet<Oid>,
    pub(crate) deletes: BTreeSet<Oid>,
    /// The serial of each object that must still be current when it is committed; none where the
    /// snapshot must be.
    pub(crate) bases: BTreeMap<Oid, Option<Tid>>,
}

/// What its client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Committed(Tid),
    NotCommitted,
    /// Nothing: it may or may not be there, but wholly.
    Unknown,
}

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
        let mut tags = BTreeSet::new();
        for (attempt, fate) in &record.fates {
            assert!(tags.insert(&attempt.tag), "the test names no two transactions alike");
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
        let Attempt { tag, snapshot, stores, deletes, bases } = attempt;
        let places = self.places(tag);
        let tids: BTreeSet<Tid> = places.values().copied().collect();
        let text = String::from_utf8_lossy(tag);
        match fate {
            Fate::NotCommitted => assert!(places.is_empty(), "{text} was committed after all"),
            Fate::Unknown if places.is_empty() => {}
            // A transaction that writes nothing is committed without a trace, at its snapshot.
            Fate::Committed(tid) if stores.is_empty() => assert!(tid >= *snapshot, "{text}"),
            Fate::Committed(tid) => assert_eq!(tids, BTreeSet::from([tid]), "{text}"),
            Fate::Unknown => assert_eq!(tids.len(), 1, "{text}"),
        }
        let Some(&tid) = tids.first() else { return Vec::new() };
        assert!(places.keys().eq(stores), "{text} is there in part: {places:?}");
        for oid in deletes {
            assert_eq!(self.revisions[oid].get(&tid), Some(&None), "{text} did not delete {oid}");
        }
        for (&oid, &base) in bases {
            let superseded = self.latest(oid, tid).map_or(Tid::ZERO, |(tid, _)| tid);
            let overlooked = base.map_or(superseded > *snapshot, |base| superseded != base);
            assert!(!overlooked, "{text} overlooked a change of {oid} at {superseded}");
        }
        stores.union(deletes).map(|&oid| (oid, tid)).collect()
    }

    /// Where a transaction's data is.
    fn places(&self, tag: &Bytes) -> BTreeMap<Oid, Tid> {
        let mut places = BTreeMap::new();
        for (&oid, revisions) in &self.revisions {
            for (&tid, _) in revisions.iter().filter(|(_, data)| data.as_ref() == Some(tag)) {
                let twice = places.insert(oid, tid);
                assert_eq!(twice, None, "{tag:?} was applied twice");
            }
        }
        places
    }
}
