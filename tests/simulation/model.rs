//! What must be true of everything that was seen and done, held against the history that the
//! storage has in the end.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use zeo_client::Revision;
use zeo_proto::{Oid, Tid};
use zeo_server::storage::{Found, Storage};

/// All that clients saw and did.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) observations: Vec<Observation>,
    pub(crate) fates: Vec<(Attempt, Fate)>,
}

/// A load, and what it found.
pub(crate) struct Observation {
    pub(crate) oid: Oid,
    pub(crate) before: Tid,
    pub(crate) found: Option<Revision>,
}

/// A transaction that was to be committed: what it writes, and what it depends on, each with the
/// serial that was read.
pub(crate) struct Attempt {
    pub(crate) tag: Bytes,
    pub(crate) snapshot: Tid,
    pub(crate) writes: BTreeMap<Oid, Tid>,
    pub(crate) depends: BTreeMap<Oid, Tid>,
}

/// What its client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Committed(Tid),
    NotCommitted,
    /// Nothing: it may or may not be there, but wholly.
    Unknown,
}

/// The history of every object, as the storage has it.
pub(crate) struct History {
    revisions: BTreeMap<Oid, BTreeMap<Tid, Bytes>>,
    last_tid: Tid,
}

impl History {
    /// Walks every object back through time.
    pub(crate) fn of(storage: &dyn Storage, oids: impl Iterator<Item = Oid>) -> Self {
        let walk = |oid| {
            let (mut revisions, mut before) = (BTreeMap::new(), Tid::MAX);
            while let Found::Revision(validity, data) =
                storage.load_before(oid, before, Tid::MAX).unwrap()
            {
                revisions.insert(validity.serial, data);
                before = validity.serial;
            }
            (oid, revisions)
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
        let revisions = self.revisions.get(&oid)?;
        revisions.range(..before).next_back().map(|(&tid, data)| (tid, data))
    }

    pub(crate) fn check(&self, record: &Record) {
        for observation in &record.observations {
            self.check_observation(observation);
        }
        let mut tags = BTreeSet::new();
        for (attempt, fate) in &record.fates {
            assert!(tags.insert(&attempt.tag), "the test names no two transactions alike");
            self.check_fate(attempt, *fate);
        }
        self.check_nothing_else(&tags);
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
    fn check_fate(&self, attempt: &Attempt, fate: Fate) {
        let Attempt { tag, snapshot, writes, depends } = attempt;
        let places = self.places(tag);
        let tids: BTreeSet<Tid> = places.values().copied().collect();
        let text = String::from_utf8_lossy(tag);
        match fate {
            Fate::NotCommitted => assert!(places.is_empty(), "{text} was committed after all"),
            Fate::Unknown if places.is_empty() => {}
            // A transaction that writes nothing is committed without a trace, at its snapshot.
            Fate::Committed(tid) if writes.is_empty() => assert!(tid >= *snapshot, "{text}"),
            Fate::Committed(tid) => assert_eq!(tids, BTreeSet::from([tid]), "{text}"),
            Fate::Unknown => assert_eq!(tids.len(), 1, "{text}"),
        }
        let Some(&tid) = tids.first() else { return };
        assert!(places.keys().eq(writes.keys()), "{text} is there in part: {places:?}");
        for (&oid, &read) in writes.iter().chain(depends) {
            let superseded = self.at(oid, tid).map_or(Tid::ZERO, |(tid, _)| tid);
            assert_eq!(superseded, read, "{text} overlooked a change of {oid}");
        }
    }

    /// Where a transaction's data is.
    fn places(&self, tag: &Bytes) -> BTreeMap<Oid, Tid> {
        let mut places = BTreeMap::new();
        for (&oid, revisions) in &self.revisions {
            for (&tid, _) in revisions.iter().filter(|(_, data)| *data == tag) {
                let twice = places.insert(oid, tid);
                assert_eq!(twice, None, "{tag:?} was applied twice");
            }
        }
        places
    }

    fn check_nothing_else(&self, tags: &BTreeSet<&Bytes>) {
        for data in self.revisions.values().flat_map(BTreeMap::values) {
            assert!(tags.contains(data), "nobody wrote {data:?}");
        }
    }
}
