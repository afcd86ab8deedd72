//! A ring: each object names the next; a transaction swaps neighbours.

use std::collections::BTreeSet;

use zeo_proto::Oid;
use zeo_server::storage::disk::Random;

use super::{Seen, Step, Workload, create, numbers, only_reads, store};

/// Every snapshot is one ring through all objects.
pub(super) struct Ring;

impl Workload for Ring {
    fn name(&self) -> &'static str {
        "ring"
    }

    fn oids(&self) -> Vec<Oid> {
        super::oids(FIRST, LENGTH)
    }

    fn steps(&self, seen: &Seen, random: &mut Random) -> Vec<(Oid, Step)> {
        let Some(next) = numbers(seen) else {
            return create(FIRST, (0..LENGTH).map(|place| (place + 1) % LENGTH));
        };
        if only_reads(random) {
            return Vec::new();
        }
        let after = |place: u64| next[usize::try_from(place).unwrap()];
        let a = random.below(LENGTH);
        let (b, c) = (after(a), after(after(a)));
        vec![store(FIRST, a, c), store(FIRST, c, b), store(FIRST, b, after(c))]
    }

    fn check(&self, seen: &Seen) {
        let Some(next) = numbers(seen) else { return };
        let mut places = BTreeSet::new();
        let mut place = 0;
        while places.insert(place) {
            place = usize::try_from(next[place]).unwrap();
        }
        let is_one_ring = place == 0 && places.len() == next.len();
        assert!(is_one_ring, "the ring is broken: {next:?} in {seen:?}");
    }
}

const FIRST: u64 = 101;
const LENGTH: u64 = 5;
