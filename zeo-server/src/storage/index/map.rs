//! An index in memory that may lose what a crash could cost it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zeo_proto::{Oid, Tid, TxnId};

use super::{Checkpoint, Entry, Index, IndexError, Latest, Place};
use crate::storage::disk::Random;
use crate::storage::journal::Position;
use crate::storage::memory::latest;

/// An index in ordered maps. Clones are the same index, as if reopened.
#[derive(Debug, Clone, Default)]
pub struct MapIndex(Arc<Mutex<State>>);

#[derive(Debug, Clone, Default)]
struct State {
    revisions: BTreeMap<(Oid, Tid), Place>,
    outcomes: BTreeMap<TxnId, Tid>,
    milestones: BTreeMap<Tid, Position>,
    checkpoint: Option<Checkpoint>,
    raised: Tid,
    /// What was inserted since the checkpoint, in order: any suffix may be lost.
    unsure: Vec<Entry>,
    resets: u32,
    change_fails_in: Option<u64>,
}

impl MapIndex {
    /// Loses any suffix of what was inserted since the last checkpoint; one time in eight, all
    /// there is.
    pub fn crash(&self, random: &mut Random) {
        let mut state = self.state();
        if random.below(8) == 0 {
            state.clear();
            return;
        }
        let kept = random.below(state.unsure.len() as u64 + 1);
        let kept = usize::try_from(kept).unwrap_or(usize::MAX);
        for entry in state.unsure.split_off(kept) {
            state.remove(&entry);
        }
    }

    /// Loses everything.
    pub fn lose_all(&self) {
        self.state().clear();
    }

    /// Lets the `changes`-th change from now (0 is the next) fail, once, before it does anything.
    pub fn fail_change_in(&self, changes: u64) {
        self.state().change_fails_in = Some(changes);
    }

    /// Whether a failure that was ordered has not come yet.
    pub fn is_waiting_to_fail(&self) -> bool {
        self.state().change_fails_in.is_some()
    }

    /// Takes that back.
    pub fn forgive(&self) {
        self.state().change_fails_in = None;
    }

    /// Another index that holds the same.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.state().clone())))
    }

    /// How often the index was made anew.
    pub fn resets(&self) -> u32 {
        self.state().resets
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index for MapIndex {
    fn revision_before(&self, oid: Oid, before: Tid) -> Result<Option<(Tid, Place)>, IndexError> {
        let state = self.state();
        let last = state.revisions.range((oid, Tid::ZERO)..(oid, before)).next_back();
        Ok(last.map(|(&(_, tid), &place)| (tid, place)))
    }

    fn revision_from(&self, oid: Oid, from: Tid) -> Result<Option<Tid>, IndexError> {
        let state = self.state();
        Ok(state.revisions.range((oid, from)..=(oid, Tid::MAX)).next().map(|(&(_, tid), _)| tid))
    }

    fn latest(&self, from: Oid, before: Tid, max: usize) -> Result<Vec<Latest>, IndexError> {
        let state = self.state();
        let place = |(tid, &place)| (tid, place);
        let all = latest(&state.revisions, from, before);
        Ok(all.take(max).map(|(oid, last)| (oid, last.map(place))).collect())
    }

    fn outcome(&self, id: TxnId) -> Result<Option<Tid>, IndexError> {
        Ok(self.state().outcomes.get(&id).copied())
    }

    fn milestone(&self, tid: Tid) -> Result<Option<(Tid, Position)>, IndexError> {
        let state = self.state();
        let range = (Bound::Unbounded, Bound::Included(tid));
        Ok(state.milestones.range(range).next_back().map(|(&tid, &at)| (tid, at)))
    }

    fn insert(&self, entry: &Entry) -> Result<(), IndexError> {
        let mut state = self.state();
        state.count_change()?;
        if state.insert(entry) {
            state.unsure.push(*entry);
        }
        Ok(())
    }

    fn raise(&self, tid: Tid) -> Result<(), IndexError> {
        let mut state = self.state();
        state.count_change()?;
        state.raised = state.raised.max(tid);
        Ok(())
    }

    fn raised(&self) -> Result<Tid, IndexError> {
        Ok(self.state().raised)
    }

    fn checkpoint(&self) -> Result<Option<Checkpoint>, IndexError> {
        Ok(self.state().checkpoint)
    }

    fn write_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), IndexError> {
        let mut state = self.state();
        state.count_change()?;
        state.unsure.clear();
        state.checkpoint = Some(*checkpoint);
        Ok(())
    }

    fn bytes(&self) -> u64 {
        0
    }

    fn reset(&mut self, _reason: &str) -> Result<(), IndexError> {
        let mut state = self.state();
        state.count_change()?;
        state.clear();
        state.resets += 1;
        Ok(())
    }

    fn close(&self) -> Result<(), IndexError> {
        self.state().count_change()
    }
}

impl State {
    fn count_change(&mut self) -> Result<(), IndexError> {
        let due = self.change_fails_in == Some(0);
        self.change_fails_in = self.change_fails_in.and_then(|left| left.checked_sub(1));
        if due { Err(IndexError("the simulated index fails".to_owned())) } else { Ok(()) }
    }

    /// False if the entry was there.
    fn insert(&mut self, entry: &Entry) -> bool {
        match *entry {
            Entry::Revision(oid, tid, place) => self.revisions.insert((oid, tid), place).is_none(),
            Entry::Outcome(id, tid) => self.outcomes.insert(id, tid).is_none(),
            Entry::Milestone(tid, at) => self.milestones.insert(tid, at).is_none(),
        }
    }

    fn remove(&mut self, entry: &Entry) {
        match entry {
            Entry::Revision(oid, tid, _) => drop(self.revisions.remove(&(*oid, *tid))),
            Entry::Outcome(id, _) => drop(self.outcomes.remove(id)),
            Entry::Milestone(tid, _) => drop(self.milestones.remove(tid)),
        }
    }

    fn clear(&mut self) {
        let &mut Self { resets, change_fails_in, .. } = self;
        *self = Self { resets, change_fails_in, ..Self::default() };
    }
}
