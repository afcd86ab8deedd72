//! A database as simple as can be: which transaction made what of which object.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use zeo_client::{HistoryEntry, Oid, Record, Tid, TxnMeta};

/// What an object is: its data, none if it is deleted, and what it refers to, where that is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) data: Option<Bytes>,
    pub(crate) refs: Option<Vec<Oid>>,
}

/// What a transaction does.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Write(BTreeMap<Oid, State>),
    Undo(BTreeSet<Tid>),
}

/// All transactions of one storage.
#[derive(Debug, Default)]
pub(crate) struct Model {
    revisions: BTreeMap<Oid, BTreeMap<Tid, State>>,
    transactions: BTreeMap<Tid, (String, BTreeSet<Oid>)>,
}

impl Model {
    /// Makes a transaction, which is the newest.
    pub(crate) fn make(&mut self, tid: Tid, description: String, change: &Change) {
        assert!(tid > self.last_tid());
        let states = match change {
            Change::Write(states) => states.clone(),
            Change::Undo(tids) => self.undo(tids, Tid::MAX).expect("nothing was in the way"),
        };
        self.transactions.insert(tid, (description, states.keys().copied().collect()));
        for (oid, state) in states {
            self.revisions.entry(oid).or_default().insert(tid, state);
        }
    }

    pub(crate) fn last_tid(&self) -> Tid {
        self.transactions.last_key_value().map_or(Tid::ZERO, |(&tid, _)| tid)
    }

    /// The tids of all transactions.
    pub(crate) fn tids(&self) -> impl Iterator<Item = Tid> {
        self.transactions.keys().copied()
    }

    /// What an object is just before a tid, who made it that, and who changed it next.
    pub(crate) fn at(&self, oid: Oid, before: Tid) -> Option<(Tid, &State, Option<Tid>)> {
        let all = self.revisions.get(&oid)?;
        let (&tid, state) = all.range(..before).next_back()?;
        let end = all.range(tid.next()..).next().map(|(&end, _)| end);
        Some((tid, state, end))
    }

    /// Whether a transaction changed an object.
    pub(crate) fn has_changed(&self, oid: Oid, tid: Tid) -> bool {
        self.revisions.get(&oid).is_some_and(|all| all.contains_key(&tid))
    }

    /// Each transaction with what it says of itself, and its records.
    pub(crate) fn history(&self) -> Vec<(Tid, String, Vec<Record>)> {
        let all = self.transactions.iter().map(|(&tid, (description, oids))| {
            let records = oids.iter().map(|&oid| self.record(oid, tid)).collect();
            (tid, description.clone(), records)
        });
        all.collect()
    }

    fn record(&self, oid: Oid, tid: Tid) -> Record {
        let previous = self.at(oid, tid).map_or(Tid::ZERO, |(tid, ..)| tid);
        let State { data, refs } = self.revisions[&oid][&tid].clone();
        Record { oid, previous, data, refs }
    }

    /// Who changed an object, the newest first.
    pub(crate) fn history_of(&self, oid: Oid) -> Vec<HistoryEntry> {
        let all = self.revisions.get(&oid).into_iter().flatten().rev();
        let entry = |(&tid, State { data, .. }): (&Tid, &State)| {
            let description = self.transactions[&tid].0.clone();
            let data_len = u32::try_from(data.as_ref().map_or(0, Bytes::len)).unwrap();
            let meta = TxnMeta { description, ..TxnMeta::default() };
            HistoryEntry { tid, data_len, deleted: data.is_none(), meta }
        };
        all.map(entry).collect()
    }

    /// The objects that are there just before a tid.
    pub(crate) fn objects(&self, before: Tid) -> Vec<(Oid, Tid)> {
        let there = self.revisions.keys().filter_map(|&oid| {
            let (tid, state, _) = self.at(oid, before)?;
            state.data.is_some().then_some((oid, tid))
        });
        there.collect()
    }

    /// What undoing these transactions makes of their objects, where nothing is known of what is
    /// after `as_of`; the error names what is in the way.
    pub(crate) fn undo(
        &self,
        tids: &BTreeSet<Tid>,
        as_of: Tid,
    ) -> Result<BTreeMap<Oid, State>, Vec<Oid>> {
        let oids: BTreeSet<Oid> =
            tids.iter().flat_map(|tid| &self.transactions[tid].1).copied().collect();
        let (mut states, mut in_the_way) = (BTreeMap::new(), Vec::new());
        for oid in oids {
            match self.undone(oid, tids, as_of) {
                Some(state) => drop(states.insert(oid, state)),
                None => in_the_way.push(oid),
            }
        }
        if in_the_way.is_empty() { Ok(states) } else { Err(in_the_way) }
    }

    /// What an object becomes; none if something is in the way. What stands above an undone
    /// revision and has the same data is as good as that one.
    fn undone(&self, oid: Oid, tids: &BTreeSet<Tid>, as_of: Tid) -> Option<State> {
        let mut left: Vec<(&Tid, &State)> = self.revisions[&oid].range(..=as_of).collect();
        while let Some((tid, state)) = left.pop() {
            if tids.contains(tid) {
                continue;
            }
            let Some(below) = left.iter().rposition(|(tid, _)| tids.contains(tid)) else {
                return Some(state.clone());
            };
            if left[below].1.data != state.data {
                return None;
            }
            left.truncate(below);
        }
        Some(State::default())
    }
}
