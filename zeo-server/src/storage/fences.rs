//! Transactions whose clients were told "not committed": their late bytes must not commit them.
//!
//! A fence lives in memory only. It guards against bytes of an old connection that arrive after
//! the question, and no connection outlives the process.

use std::collections::{BTreeMap, BTreeSet};

use zeo_proto::{Outcome, OutcomeQuery, Tid, TxnId};

/// How many fences are remembered one by one: 64 Ki.
pub(super) const MAX_FENCES: usize = 64 << 10;

/// The fenced transactions: some by name, and all that began at or before a floor.
///
/// When there are too many names, those with the oldest snapshots are forgotten and the floor
/// rises over them. The floor stays below the last commit, so that a transaction that begins now
/// is never caught by it.
#[derive(Debug)]
pub(super) struct Fences {
    by_id: BTreeMap<TxnId, Tid>,
    by_snapshot: BTreeSet<(Tid, TxnId)>,
    floor: Option<Tid>,
    max: usize,
}

impl Fences {
    /// No fences; at most `max` by name.
    pub(super) fn new(max: usize) -> Self {
        Self { by_id: BTreeMap::new(), by_snapshot: BTreeSet::new(), floor: None, max }
    }

    /// Answers the question about a transaction that is not committed: fences it if that is
    /// possible, and otherwise does not promise what cannot be kept.
    pub(super) fn answer(&mut self, query: OutcomeQuery, last_tid: Tid) -> Outcome {
        if self.fence(query.id, query.snapshot, last_tid) {
            Outcome::NotCommitted
        } else {
            Outcome::TooOldToKnow
        }
    }

    /// Fences a transaction that began at `snapshot`, `last_tid` being the last commit.
    ///
    /// Returns false when there is no room: every fence is as young as the last commit.
    fn fence(&mut self, id: TxnId, snapshot: Tid, last_tid: Tid) -> bool {
        if self.is_fenced(id, snapshot) {
            return true;
        }
        if self.by_id.len() >= self.max && !self.raise_floor(last_tid) {
            return false;
        }
        let snapshot = snapshot.min(last_tid);
        self.by_id.insert(id, snapshot);
        self.by_snapshot.insert((snapshot, id));
        true
    }

    /// Whether a transaction that began at `snapshot` may no longer be committed.
    pub(super) fn is_fenced(&self, id: TxnId, snapshot: Tid) -> bool {
        self.floor.is_some_and(|floor| snapshot <= floor) || self.by_id.contains_key(&id)
    }

    /// Forgets the names with the oldest snapshot, unless that is the last commit's.
    fn raise_floor(&mut self, last_tid: Tid) -> bool {
        let Some(&(oldest, _)) = self.by_snapshot.first() else { return false };
        if oldest >= last_tid {
            return false;
        }
        let kept = self.by_snapshot.split_off(&(oldest.next(), TxnId::default()));
        for (_, id) in std::mem::replace(&mut self.by_snapshot, kept) {
            self.by_id.remove(&id);
        }
        self.floor = Some(oldest);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_that_is_forgotten_by_name_holds_through_the_floor() {
        let mut fences = Fences::new(2);
        assert!(fences.fence(id(1), Tid::new(5), Tid::new(9)));
        assert!(fences.fence(id(2), Tid::new(6), Tid::new(9)));
        assert!(fences.fence(id(3), Tid::new(8), Tid::new(9)));
        assert!(fences.is_fenced(id(1), Tid::new(5)));
        assert!(fences.is_fenced(id(7), Tid::new(4)), "the floor catches strangers as old");
        assert!(fences.is_fenced(id(2), Tid::new(6)));
        assert!(!fences.is_fenced(id(7), Tid::new(6)));
    }

    #[test]
    fn the_floor_never_reaches_the_last_commit() {
        let mut fences = Fences::new(2);
        let last = Tid::new(9);
        assert!(fences.fence(id(1), last, last));
        assert!(fences.fence(id(2), Tid::MAX, last));
        assert!(!fences.fence(id(3), last, last), "full, and nothing may be forgotten");
        assert!(!fences.is_fenced(id(4), last));
        assert!(fences.fence(id(3), last, Tid::new(10)), "after the next commit there is room");
        assert!(fences.is_fenced(id(1), last));
        assert!(!fences.is_fenced(id(4), Tid::new(10)));
    }

    #[test]
    fn fencing_twice_takes_one_place() {
        let mut fences = Fences::new(1);
        assert!(fences.fence(id(1), Tid::ZERO, Tid::ZERO));
        assert!(fences.fence(id(1), Tid::ZERO, Tid::ZERO));
    }

    fn id(number: u8) -> TxnId {
        TxnId::from_bytes([number; 16])
    }
}
