//! Whether transactions that were made at once could have been made one after the other.
//!
//! That is so exactly if their graph of dependencies has no cycle: a transaction comes after the
//! one whose revision it read or replaced, and before the one that replaced what it read. Nothing
//! here knows how the database orders its work.

use std::collections::{BTreeMap, BTreeSet};

use zeo_client::{Oid, Tid};

/// An object of one of the storages.
pub(crate) type Object = (usize, Oid);

/// A transaction as its client knows it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Done {
    /// What it read of each object: the tid of the revision.
    pub(crate) reads: BTreeMap<Object, Tid>,
    pub(crate) writes: BTreeSet<Object>,
    /// Its tid in each storage; of one that writes nothing, its snapshot.
    pub(crate) tids: BTreeMap<usize, Tid>,
}

/// The tids of the revisions of each object, as history has them in the end.
pub(crate) type Versions = BTreeMap<Object, BTreeSet<Tid>>;

/// Why there is no order in which the transactions could have been made.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Disorder {
    /// They depend on each other in a circle.
    Cycle(Vec<usize>),
    /// The second depends on the first and has an earlier tid.
    TidsDisagree(usize, usize),
}

/// Which transactions come before which, by what they did to the objects of one storage.
pub(crate) struct Graph<'a> {
    done: &'a [Done],
    after: BTreeMap<usize, BTreeSet<(usize, usize)>>,
}

impl<'a> Graph<'a> {
    /// Puts an edge wherever one has to be.
    pub(crate) fn new(done: &'a [Done], versions: &Versions) -> Self {
        let mut graph = Self { done, after: BTreeMap::new() };
        let writers = writers(done);
        for (reader, txn) in done.iter().enumerate() {
            for (&object, &read) in &txn.reads {
                graph.add(writers.get(&(object, read)).copied(), Some(reader), object.0);
                let next = versions[&object].range(read.next()..).next();
                let next = next.and_then(|&tid| writers.get(&(object, tid)).copied());
                graph.add(Some(reader), next, object.0);
            }
        }
        for (&object, tids) in versions {
            for (&one, &next) in tids.iter().zip(tids.iter().skip(1)) {
                let writer = |tid| writers.get(&(object, tid)).copied();
                graph.add(writer(one), writer(next), object.0);
            }
        }
        graph
    }

    /// Looks for a circle, and for tids that are in another order than what depends on them.
    pub(crate) fn check(&self) -> Result<(), Disorder> {
        self.check_cycles()?;
        for (&one, after) in &self.after {
            for &(other, storage) in after {
                if self.place(one, storage) >= self.place(other, storage) {
                    return Err(Disorder::TidsDisagree(one, other));
                }
            }
        }
        Ok(())
    }

    /// What was made before the test began is nobody's.
    fn add(&mut self, from: Option<usize>, to: Option<usize>, storage: usize) {
        if let (Some(from), Some(to)) = (from, to)
            && from != to
        {
            self.after.entry(from).or_default().insert((to, storage));
        }
    }

    /// Where a transaction is in the order of tids: one that only reads is behind its snapshot.
    fn place(&self, txn: usize, storage: usize) -> (Tid, bool) {
        let Done { tids, writes, .. } = &self.done[txn];
        (tids[&storage], writes.is_empty())
    }

    /// Takes away whatever nothing comes before, until all is gone or a circle is left.
    fn check_cycles(&self) -> Result<(), Disorder> {
        let mut left: BTreeSet<usize> = (0..self.done.len()).collect();
        loop {
            let later: BTreeSet<usize> = left.iter().flat_map(|&txn| self.later(txn)).collect();
            let rest: BTreeSet<usize> = left.intersection(&later).copied().collect();
            if rest.is_empty() {
                return Ok(());
            }
            if rest.len() == left.len() {
                return Err(Disorder::Cycle(self.cycle_in(&rest)));
            }
            left = rest;
        }
    }

    fn later(&self, txn: usize) -> impl Iterator<Item = usize> {
        self.after.get(&txn).into_iter().flatten().map(|&(later, _)| later)
    }

    /// Walks back, where each has another before it, until it comes to a place for the second time.
    fn cycle_in(&self, rest: &BTreeSet<usize>) -> Vec<usize> {
        let before = |txn| *rest.iter().find(|&&one| self.later(one).any(|it| it == txn)).unwrap();
        let mut way = vec![*rest.first().unwrap()];
        loop {
            let next = before(*way.last().unwrap());
            if let Some(start) = way.iter().position(|&txn| txn == next) {
                way.drain(..start);
                way.reverse();
                return way;
            }
            way.push(next);
        }
    }
}

/// Who made each revision.
fn writers(done: &[Done]) -> BTreeMap<(Object, Tid), usize> {
    let all = done.iter().enumerate().flat_map(|(number, txn)| {
        txn.writes.iter().map(move |&object| ((object, txn.tids[&object.0]), number))
    });
    all.collect()
}

#[test]
fn one_after_the_other_is_in_order() {
    let done = [
        txn(10, &[(1, 1), (2, 1)], &[1]),
        txn(11, &[(1, 10)], &[2]),
        // It reads what was there before the second, and so comes before it.
        txn(10, &[(1, 10), (2, 1)], &[]),
    ];
    assert_eq!(Graph::new(&done, &versions(&done)).check(), Ok(()));
}

#[test]
fn write_skew_is_a_cycle() {
    let done = [txn(10, &[(1, 1), (2, 1)], &[1]), txn(11, &[(1, 1), (2, 1)], &[2])];
    let disorder = Graph::new(&done, &versions(&done)).check().unwrap_err();
    assert_eq!(disorder, Disorder::Cycle(vec![1, 0]));
}

#[test]
fn a_lost_update_is_a_cycle() {
    let done = [txn(10, &[(1, 1)], &[1]), txn(11, &[(1, 1)], &[1])];
    let disorder = Graph::new(&done, &versions(&done)).check().unwrap_err();
    assert!(matches!(disorder, Disorder::Cycle(cycle) if cycle.len() == 2));
}

/// Two writers of different objects, each before the other for one of two readers.
#[test]
fn readers_who_see_two_orders_are_in_a_cycle() {
    let done = [
        txn(10, &[], &[1]),
        txn(11, &[], &[2]),
        txn(11, &[(1, 10), (2, 1)], &[]),
        txn(11, &[(1, 1), (2, 11)], &[]),
    ];
    let disorder = Graph::new(&done, &versions(&done)).check().unwrap_err();
    assert!(matches!(disorder, Disorder::Cycle(cycle) if cycle.len() == 4));
}

#[test]
fn a_snapshot_that_is_not_one_disagrees_with_the_tids() {
    let done = [txn(10, &[(1, 1)], &[1]), txn(12, &[(1, 1)], &[])];
    let disorder = Graph::new(&done, &versions(&done)).check().unwrap_err();
    assert_eq!(disorder, Disorder::TidsDisagree(1, 0));
}

/// A transaction of one storage, with what it reads and writes there.
#[cfg(test)]
fn txn(tid: u64, reads: &[(u64, u64)], writes: &[u64]) -> Done {
    Done {
        reads: reads.iter().map(|&(oid, tid)| ((0, Oid::new(oid)), Tid::new(tid))).collect(),
        writes: writes.iter().map(|&oid| (0, Oid::new(oid))).collect(),
        tids: BTreeMap::from([(0, Tid::new(tid))]),
    }
}

/// Each object was made at 1, and then what these say.
#[cfg(test)]
fn versions(done: &[Done]) -> Versions {
    let mut versions: Versions =
        [1, 2].map(|oid| ((0, Oid::new(oid)), BTreeSet::from([Tid::new(1)]))).into();
    for txn in done {
        for &object in &txn.writes {
            versions.get_mut(&object).unwrap().insert(txn.tids[&0]);
        }
    }
    versions
}
