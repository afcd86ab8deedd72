//! Anything: objects are stored, created, deleted and depended on as it comes.

use zeo_client::ResolvableConflict;
use zeo_proto::Oid;
use zeo_server::storage::disk::Random;

use super::{Seen, Step, Workload, below};

/// Random loads and commits. Only the model knows whether they are right.
pub(super) struct Anything;

impl Workload for Anything {
    fn name(&self) -> &'static str {
        "anything"
    }

    fn oids(&self) -> Vec<Oid> {
        super::oids(1, OBJECTS)
    }

    fn reads(&self, random: &mut Random) -> Vec<Oid> {
        let oids = self.oids();
        (0..=random.below(4)).map(|_| oids[below(random, oids.len())]).collect()
    }

    fn steps(&self, seen: &Seen, random: &mut Random) -> Vec<(Oid, Step)> {
        let mut steps = Vec::new();
        let mut stores = false;
        for (&oid, revision) in seen {
            let is_there = revision.is_some();
            let step = match random.below(8) {
                // What was missing is checked against the snapshot, or must never have been there.
                0..4 => Step::Store(String::new()),
                4 if !is_there => Step::New(String::new()),
                // What is deleted is found by what is stored.
                4 if stores => Step::Delete,
                5 if is_there => Step::Depend,
                _ => continue,
            };
            stores |= matches!(step, Step::Store(_) | Step::New(_));
            steps.push((oid, step));
        }
        steps
    }

    fn check(&self, _: &Seen) {}

    /// Whoever is later is right.
    fn resolve(&self, _: &ResolvableConflict) -> Option<String> {
        Some(String::new())
    }
}

const OBJECTS: u64 = 8;
