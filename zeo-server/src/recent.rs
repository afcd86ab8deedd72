//! The memory of what was published lately: which transaction wrote which objects.
//!
//! Three questions are answered from it in the reactor's own turn: where a loaded revision has to
//! be sealed, what a returning client has missed, and whether a transaction that is voted on has read
//! what is current.

use std::collections::{BTreeSet, VecDeque};

use zeo_proto::{Oid, Tid};

use crate::writes::MANY;

/// Commits in the order of their publication, bounded by the number of oids in them.
#[derive(Debug)]
pub(crate) struct Recent {
    commits: VecDeque<(Tid, Vec<Oid>)>,
    /// How many oids there are in them.
    oids: usize,
    by_oid: BTreeSet<(Oid, Tid)>,
    /// The commits of very many oids, which are looked for in their own list: to put each of them
    /// into `by_oid`, and to take it out again, would take too long for one turn.
    large: VecDeque<Tid>,
    /// Every commit after this tid is remembered; the tid itself is one of this history.
    floor: Tid,
    /// No commit that is forgotten wrote this object or one after it, if that is known.
    unwritten: Option<Oid>,
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
        Self {
            commits: VecDeque::new(),
            oids: 0,
            by_oid: BTreeSet::new(),
            large: VecDeque::new(),
            floor: last_tid,
            unwritten: None,
            max_oids,
        }
    }

    /// Remembers a commit; its tid is newer than all before, its oids come once each, in order.
    ///
    /// After a large one it forgets what is too much step by step, with the commits that follow.
    pub(crate) fn remember(&mut self, tid: Tid, oids: Vec<Oid>) {
        let mut steps = FORGOTTEN_AT_ONCE.max(oids.len() / 8);
        self.oids += oids.len();
        if oids.len() > MANY {
            self.large.push_back(tid);
        } else {
            self.by_oid.extend(oids.iter().map(|&oid| (oid, tid)));
        }
        self.commits.push_back((tid, oids));
        while self.oids > self.max_oids && steps > 0 {
            steps = steps.saturating_sub(self.forget_oldest());
        }
    }

    /// Forgets a commit, and says how much work that was.
    fn forget_oldest(&mut self) -> usize {
        let Some((tid, oids)) = self.commits.pop_front() else { return 0 };
        self.oids -= oids.len();
        self.floor = tid;
        let after = oids.last().map(|last| Oid::new(last.number().saturating_add(1)));
        self.unwritten = self.unwritten.max(after.filter(|_| self.unwritten.is_some()));
        if self.large.front() == Some(&tid) {
            self.large.pop_front();
            return 1;
        }
        for oid in &oids {
            self.by_oid.remove(&(*oid, tid));
        }
        oids.len() + 1
    }

    /// The first commit after `tid` that wrote `oid`.
    pub(crate) fn first_after(&self, oid: Oid, tid: Tid) -> Since {
        if tid < self.floor {
            return Since::Forgotten;
        }
        let small = self.by_oid.range((oid, tid.next())..=(oid, Tid::MAX)).next();
        let changes = [small.map(|&(_, tid)| tid), self.first_large_after(oid, tid)];
        changes.into_iter().flatten().min().map_or(Since::Unchanged, Since::ChangedAt)
    }

    /// The first commit of very many oids after `tid` that wrote `oid`.
    fn first_large_after(&self, oid: Oid, tid: Tid) -> Option<Tid> {
        let from = self.large.partition_point(|&other| other <= tid);
        self.large.range(from..).copied().find(|&large| self.wrote(large, oid))
    }

    /// Whether a remembered commit wrote `oid`.
    fn wrote(&self, tid: Tid, oid: Oid) -> bool {
        let place = self.commits.binary_search_by_key(&tid, |&(other, _)| other);
        let commit = place.ok().and_then(|place| self.commits.get(place));
        commit.is_some_and(|(_, oids)| oids.binary_search(&oid).is_ok())
    }

    /// The last commit that wrote `oid`, if it is remembered.
    pub(crate) fn last_change(&self, oid: Oid) -> Option<Tid> {
        let small = self.by_oid.range((oid, Tid::ZERO)..=(oid, Tid::MAX)).next_back();
        let small = small.map(|&(_, tid)| tid);
        small.max(self.large.iter().rev().copied().find(|&large| self.wrote(large, oid)))
    }

    /// Whether every commit after `tid` is remembered.
    pub(crate) fn reaches(&self, tid: Tid) -> bool {
        tid >= self.floor
    }

    /// Takes note of names that were free when this was said, from the first on.
    pub(crate) fn free_from(&mut self, first: Oid) {
        self.unwritten.get_or_insert(first);
    }

    /// Whether surely no commit ever wrote `oid` that is not remembered.
    pub(crate) fn never_wrote(&self, oid: Oid) -> bool {
        self.unwritten.is_some_and(|first| oid >= first)
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
        self.oids
    }
}

/// Oids that are forgotten in one turn, at least.
const FORGOTTEN_AT_ONCE: usize = 16 << 10;

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

    /// Publishing a million objects kept everybody waiting for half a second.
    #[test]
    fn a_large_commit_is_remembered_whole_and_forgotten_in_one_step() {
        let mut recent = Recent::new(tid(10), 10_000);
        let many: Vec<Oid> = (0..9_000).map(|number| Oid::new(number * 2)).collect();
        recent.remember(tid(11), vec![B]);
        recent.remember(tid(12), many.clone());
        recent.remember(tid(13), vec![A]);
        assert_eq!(recent.first_after(B, tid(11)), Since::ChangedAt(tid(12)));
        assert_eq!(recent.first_after(B, tid(10)), Since::ChangedAt(tid(11)));
        assert_eq!(recent.first_after(A, tid(10)), Since::ChangedAt(tid(13)));
        recent.remember(tid(14), many);
        assert_eq!(recent.len(), 9_001);
        assert_eq!(recent.first_after(B, tid(11)), Since::Forgotten);
        assert_eq!(recent.first_after(B, tid(12)), Since::ChangedAt(tid(14)));
    }

    #[test]
    fn the_last_commit_of_an_object_is_found() {
        let mut recent = Recent::new(tid(10), 5_000);
        assert_eq!(recent.last_change(A), None);
        recent.remember(tid(11), vec![A]);
        recent.remember(tid(12), vec![A, B]);
        assert_eq!(recent.last_change(A), Some(tid(12)));
        recent.remember(tid(13), (1..=4_500).map(Oid::new).collect());
        recent.remember(tid(14), vec![A]);
        assert_eq!([A, B].map(|oid| recent.last_change(oid)), [Some(tid(14)), Some(tid(13))]);
        assert!(recent.reaches(tid(10)) && !recent.reaches(tid(9)));
    }

    #[test]
    fn it_knows_which_objects_were_never_written() {
        let mut recent = Recent::new(tid(10), 1);
        assert!(!recent.never_wrote(Oid::new(100)));
        recent.free_from(Oid::new(50));
        assert!(recent.never_wrote(Oid::new(50)) && !recent.never_wrote(Oid::new(49)));
        recent.remember(tid(11), vec![A, Oid::new(60)]);
        recent.remember(tid(12), vec![B]);
        assert!(recent.never_wrote(Oid::new(61)) && !recent.never_wrote(Oid::new(60)));
        recent.free_from(Oid::new(5));
        assert!(!recent.never_wrote(Oid::new(60)));
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
