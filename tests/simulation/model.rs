//! What must be true of everything that was seen and done, held against the history that the
//! storage has in the end.

use std::collections::BTreeSet;

use zeo_client::Revision;
use zeo_proto::{Oid, Tid};

use crate::courier::ACCOUNT;
use crate::history::History;
use crate::record::{Attempt, Fate, Hold, Observation, Record};

impl History {
    pub(crate) fn check(&self, record: &Record) {
        for observation in &record.observations {
            self.check_observation(observation);
        }
        record.readings.iter().for_each(|reading| reading.check(self));
        record.holds.iter().for_each(|hold| self.check_hold(hold));
        self.check_refusals(record);
        let mut explained = BTreeSet::new();
        for (attempt, fate) in &record.fates {
            explained.extend(self.check_fate(attempt, *fate));
        }
        // Couriers are looked after elsewhere.
        for (&oid, revisions) in self.revisions.iter().filter(|(oid, _)| **oid != ACCOUNT) {
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
        if let Some(undone) = attempt.undoes {
            return self.check_undo(attempt, undone, fate);
        }
        let Attempt { name, snapshot, stores, deletes, bases, .. } = attempt;
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
            let overlooked = self.overlooked((oid, base), *snapshot, tid);
            assert_eq!(overlooked, None, "{name} overlooked a change of {oid}");
        }
        places.into_iter().chain(deletes.iter().map(|&oid| (oid, tid))).collect()
    }

    /// While objects were locked, nobody changed them.
    fn check_hold(&self, Hold { snapshot, bases, to }: &Hold) {
        for (&oid, &base) in bases {
            let changed = self.overlooked((oid, base), *snapshot, to.next());
            assert!(changed.is_none_or(|tid| Some(tid) < base), "{oid} was changed under its lock");
        }
    }

    /// A change before a tid that who read an object has not seen.
    fn overlooked(
        &self,
        (oid, base): (Oid, Option<Tid>),
        snapshot: Tid,
        before: Tid,
    ) -> Option<Tid> {
        let superseded = self.latest(oid, before).map_or(Tid::ZERO, |(tid, _)| tid);
        let overlooked = base.map_or(superseded > snapshot, |base| superseded != base);
        overlooked.then_some(superseded)
    }

    /// Where a transaction's data is; an undo may bring it again.
    fn places(&self, attempt: &Attempt) -> Vec<(Oid, Tid)> {
        let mut places = Vec::new();
        for (oid, data) in &attempt.stores {
            let revisions = self.revisions[oid].iter();
            let same = revisions.filter(|(tid, found)| {
                found.as_ref() == Some(data) && !self.undoes.contains_key(tid)
            });
            places.extend(same.map(|(&tid, _)| (*oid, tid)));
        }
        places
    }
}
