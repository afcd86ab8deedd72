//! Workloads: what transactions read and write, and what every snapshot must show.
//!
//! Each has objects of its own, so that several run side by side.

mod bank;
mod crowd;
mod incs;
mod phases;
mod random;
mod ring;

use std::collections::BTreeMap;

use zeo_client::{ResolvableConflict, Revision};
use zeo_proto::Oid;
use zeo_server::storage::disk::Random;

use crate::history::History;

/// What a snapshot shows: none where there is no object.
pub(crate) type Seen = BTreeMap<Oid, Option<Revision>>;

/// What a transaction does with an object that it has read.
pub(crate) enum Step {
    Store(String),
    /// It must never have been there.
    New(String),
    Delete,
    /// It must still be what was read.
    Depend,
}

/// What the transactions of a task are about.
pub(crate) trait Workload: Sync {
    fn name(&self) -> &'static str;

    fn oids(&self) -> Vec<Oid>;

    /// What a transaction reads, one after the other.
    fn reads(&self, random: &mut Random) -> Vec<Oid> {
        let mut oids = self.oids();
        let first = below(random, oids.len());
        oids.rotate_left(first);
        oids
    }

    /// What it does then. Nothing, for a reader.
    fn steps(&self, seen: &Seen, random: &mut Random) -> Vec<(Oid, Step)>;

    /// Whether all objects of one snapshot can be so.
    fn check(&self, seen: &Seen);

    /// What becomes of two changes of an object; none where that cannot be said.
    fn resolve(&self, _: &ResolvableConflict) -> Option<String> {
        None
    }

    /// Whether transactions can be undone, and all snapshots are right still.
    fn can_be_undone(&self) -> bool {
        true
    }

    /// Whether all changes together can be so.
    fn check_history(&self, _: &History) {}
}

/// All workloads.
pub(crate) const ALL: [&dyn Workload; 6] =
    [&random::Anything, &ring::Ring, &bank::Bank, &incs::Incs, &phases::Phases, &crowd::Crowd];

/// The numbers in all objects of a workload; none before they were created, together.
fn numbers(seen: &Seen) -> Option<Vec<u64>> {
    let numbers: Vec<u64> = seen.values().flatten().map(|found| number(&found.data)).collect();
    assert!(numbers.is_empty() || numbers.len() == seen.len(), "created in part: {seen:?}");
    (!numbers.is_empty()).then_some(numbers)
}

/// What data says before its first space.
fn number(data: &[u8]) -> u64 {
    let text = std::str::from_utf8(data).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// Creates objects, all in one transaction.
fn create(first: u64, numbers: impl Iterator<Item = u64>) -> Vec<(Oid, Step)> {
    (first..).map(Oid::new).zip(numbers.map(|number| Step::New(number.to_string()))).collect()
}

/// Stores a number into the object that is so many after the first.
fn store(first: u64, place: u64, number: u64) -> (Oid, Step) {
    (Oid::new(first + place), Step::Store(number.to_string()))
}

fn oids(first: u64, count: u64) -> Vec<Oid> {
    (first..first + count).map(Oid::new).collect()
}

fn below(random: &mut Random, bound: usize) -> usize {
    usize::try_from(random.below(bound as u64)).unwrap()
}

/// Whether a transaction only reads.
fn only_reads(random: &mut Random) -> bool {
    random.below(3) == 0
}
