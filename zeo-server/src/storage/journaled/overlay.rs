//! What is durable and not yet in the index: in the order of the journal, and by key.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use zeo_proto::{Oid, Tid, TxnId};

use crate::storage::index::{Checkpoint, Entry, Latest, Place};
use crate::storage::journal::Position;
use crate::storage::memory::latest;

/// What the index does not know yet.
#[derive(Debug)]
pub(super) struct Overlay {
    queue: VecDeque<Queued>,
    revisions: BTreeMap<(Oid, Tid), Place>,
    outcomes: BTreeMap<TxnId, Tid>,
    milestones: BTreeMap<Tid, Position>,
    /// Outcomes up to this tid are in the index, all later ones are here.
    floor: Tid,
    /// How many entries have left it so far.
    left: u64,
}

/// What waits to be put into the index.
#[derive(Debug, Clone)]
pub(super) enum Queued {
    /// An entry.
    Entry(Entry),
    /// With this, the index covers the journal so far. It is a milestone as well.
    Covered(Box<Checkpoint>),
}

impl Overlay {
    /// An overlay over an index that has the outcomes of all transactions up to `floor`.
    pub(super) fn new(floor: Tid) -> Self {
        Self {
            queue: VecDeque::new(),
            revisions: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            milestones: BTreeMap::new(),
            floor,
            left: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// How many entries have left it for the index so far.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// The last revision before `bound`, and the tid of the first from there on.
    pub(super) fn around(&self, oid: Oid, bound: Tid) -> (Option<(Tid, Place)>, Option<Tid>) {
        let before = self.revisions.range((oid, Tid::ZERO)..(oid, bound)).next_back();
        let after = self.revisions.range((oid, bound)..=(oid, Tid::MAX)).next();
        (before.map(|(&(_, tid), &place)| (tid, place)), after.map(|(&(_, tid), _)| tid))
    }

    /// The first `max` objects from `from` on, in order, each with its last revision before a tid.
    pub(super) fn latest(&self, from: Oid, before: Tid, max: usize) -> Vec<Latest> {
        let place = |(tid, &place)| (tid, place);
        let all = latest(&self.revisions, from, before).take(max);
        all.map(|(oid, last)| (oid, last.map(place))).collect()
    }

    pub(super) fn outcome(&self, id: TxnId) -> Option<Tid> {
        self.outcomes.get(&id).copied()
    }

    /// Whether the outcomes of all transactions after `tid` are here.
    pub(super) fn has_outcomes_after(&self, tid: Tid) -> bool {
        tid >= self.floor
    }

    /// The last milestone whose tid is not after `tid`.
    pub(super) fn milestone(&self, tid: Tid) -> Option<(Tid, Position)> {
        let range = (Bound::Unbounded, Bound::Included(tid));
        self.milestones.range(range).next_back().map(|(&tid, &at)| (tid, at))
    }

    pub(super) fn extend(&mut self, queued: impl IntoIterator<Item = Queued>) {
        for queued in queued {
            match queued.entry() {
                Entry::Revision(oid, tid, place) => drop(self.revisions.insert((oid, tid), place)),
                Entry::Outcome(id, tid) => drop(self.outcomes.insert(id, tid)),
                Entry::Milestone(tid, at) => drop(self.milestones.insert(tid, at)),
            }
            self.queue.push_back(queued);
        }
    }

    /// The first `count` in the queue.
    pub(super) fn oldest(&self, count: usize) -> Vec<Queued> {
        self.queue.iter().take(count).cloned().collect()
    }

    /// Forgets the first `count` in the queue, which the index knows now.
    pub(super) fn forget(&mut self, count: usize) {
        self.left += count as u64;
        for queued in self.queue.drain(..count.min(self.queue.len())) {
            match queued.entry() {
                Entry::Revision(oid, tid, _) => drop(self.revisions.remove(&(oid, tid))),
                Entry::Outcome(id, tid) => {
                    self.outcomes.remove(&id);
                    self.floor = tid;
                }
                Entry::Milestone(tid, _) => drop(self.milestones.remove(&tid)),
            }
        }
    }
}

impl Queued {
    /// The last transaction that it is about.
    pub(super) fn tid(&self) -> Tid {
        match self.entry() {
            Entry::Revision(_, tid, _) | Entry::Outcome(_, tid) | Entry::Milestone(tid, _) => tid,
        }
    }

    /// The entry that the index gets.
    pub(super) fn entry(&self) -> Entry {
        match self {
            Self::Entry(entry) => *entry,
            Self::Covered(checkpoint) => Entry::Milestone(checkpoint.tid, checkpoint.end),
        }
    }
}
