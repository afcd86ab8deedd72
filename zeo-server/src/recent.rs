//! The memory of what was published lately: which transaction wrote which objects.
//!
//! Two questions are answered from it in the reactor's own turn: where a loaded revision has to be
//! sealed, and what a returning client has missed.

use std::collections::{BTreeSet, VecDeque};

use zeo_proto::{Oid, Tid};

/// Commits in the order of their publication, bounded by the number of oids in them.
#[derive(Debug)]
pub(crate) struct Recent {
    commits: VecDeque<(Tid, Vec<Oid>)>,
    by_oid: BTreeSet<(Oid, Tid)>,
    /// Every commit after this tid is remembered; the tid itself is one of this history.
    floor: Tid,
    max_oids: usize,
}

/// What is remembered of an object after a tid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Since {
    /// No commit wrote it.
    Unchanged,
    /// This was the first commit that did.
    ChangedAt(Tid),
    /// The memory does not reach back that far.
    Forgotten,
}

impl Recent {
    /// Remembers nothing yet; `last_tid` is the last commit before.
    pub(crate) fn new(last_tid: Tid, max_oids: usize) -> Self {
        Self { commits: VecDeque::new(), by_oid: BTreeSet::new(), floor: last_tid, max_oids }
    }

    /// Remembers a commit; its tid is newer than all before, its oids come once each.
    pub(crate) fn remember(&mut self, tid: Tid, oids: Vec<Oid>) {
        self.by_oid.extend(oids.iter().map(|&oid| (oid, tid)));
        self.commits.push_back((tid, oids));
        while self.by_oid.len() > self.max_oids {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((tid, oids)) = self.commits.pop_front() else { return };
        for oid in oids {
            self.by_oid.remove(&(oid, tid));
        }
        self.floor = tid;
    }

    /// The first commit after `tid` that wrote `oid`.
    pub(crate) fn first_after(&self, oid: Oid, tid: Tid) -> Since {
        if tid < self.floor {
            return Since::Forgotten;
        }
        match self.by_oid.range((oid, tid.next())..=(oid, Tid::MAX)).next() {
            Some(&(_, tid)) => Since::ChangedAt(tid),
            None => Since::Unchanged,
        }
    }

    /// The objects written after `tid`, some of them several times; `None` where the memory does
    /// not tell.
    ///
    /// A tid that is none of the remembered ones is left to the storage to judge.
    pub(crate) fn changes_since(&self, tid: Tid) -> Option<Vec<Oid>> {
        let from = self.first_commit_after(tid)?;
        Some(self.commits.range(from..).flat_map(|(_, oids)| oids.iter().copied()).collect())
    }

    /// The same, unless the commits or the objects are more than `max`.
    pub(crate) fn few_changes_since(&self, tid: Tid, max: usize) -> Option<Vec<Oid>> {
        let from = self.first_commit_after(tid)?;
        let commits = self.commits.range(from..);
        let are_few = commits.len() <= max
            && commits.clone().map(|(_, oids)| oids.len()).sum::<usize>() <= max;
        are_few.then(|| commits.flat_map(|(_, oids)| oids.iter().copied()).collect())
    }

    /// The place of the first commit after a remembered tid.
    fn first_commit_after(&self, tid: Tid) -> Option<usize> {
        let from = self.commits.partition_point(|&(other, _)| other <= tid);
        let known = match from.checked_sub(1) {
            Some(last) => self.commits.get(last).is_some_and(|&(other, _)| other == tid),
            None => tid == self.floor,
        };
        known.then_some(from)
    }

    /// How many oids are remembered.
    pub(crate) fn len(&self) -> usize {
        self.by_oid.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Oid = Oid::new(1);
    const B: Oid = Oid::new(2);

    fn tid(number: u64) -> Tid {
        Tid::new(number)
    }

    #[test]
    fn the_first_commit_after_a_tid_is_found() {
        let mut recent = Recent::new(tid(10), 100);
        recent.remember(tid(11), vec![A]);
        recent.remember(tid(12), vec![A, B]);
        assert_eq!(recent.first_after(A, tid(10)), Since::ChangedAt(tid(11)));
        assert_eq!(recent.first_after(B, tid(10)), Since::ChangedAt(tid(12)));
        assert_eq!(recent.first_after(A, tid(12)), Since::Unchanged);
        assert_eq!(recent.first_after(A, tid(9)), Since::Forgotten);
    }

    #[test]
    fn what_is_forgotten_is_said_to_be() {
        let mut recent = Recent::new(tid(10), 2);
        recent.remember(tid(11), vec![A]);
        recent.remember(tid(12), vec![A, B]);
        assert_eq!(recent.len(), 2);
        assert_eq!(recent.first_after(B, tid(10)), Since::Forgotten);
        assert_eq!(recent.first_after(B, tid(11)), Since::ChangedAt(tid(12)));
    }

    #[test]
    fn a_transaction_larger_than_the_memory_is_forgotten_whole() {
        let mut recent = Recent::new(tid(10), 1);
        recent.remember(tid(11), vec![A, B]);
        assert_eq!(recent.first_after(A, tid(10)), Since::Forgotten);
        assert_eq!(recent.first_after(A, tid(11)), Since::Unchanged);
    }

    #[test]
    fn changes_are_told_only_for_tids_of_this_history() {
        let mut recent = Recent::new(tid(10), 100);
        recent.remember(tid(12), vec![A]);
        recent.remember(tid(14), vec![A, B]);
        assert_eq!(recent.changes_since(tid(10)), Some(vec![A, A, B]));
        assert_eq!(recent.changes_since(tid(12)), Some(vec![A, B]));
        assert_eq!(recent.changes_since(tid(14)), Some(vec![]));
        assert_eq!(recent.changes_since(tid(13)), None);
        assert_eq!(recent.changes_since(tid(15)), None);
        assert_eq!(recent.changes_since(tid(9)), None);
        assert_eq!(recent.few_changes_since(tid(12), 2), Some(vec![A, B]));
        assert_eq!(recent.few_changes_since(tid(12), 1), None);
    }
}
