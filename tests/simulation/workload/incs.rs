//! `T2ObjectsInc` of ZODB's tests: two objects are always incremented together.

use zeo_proto::Oid;
use zeo_server::storage::disk::Random;

use super::{Seen, Step, Workload, create, numbers, only_reads, store};

/// Every reader sees them equal.
pub(super) struct Incs;

impl Workload for Incs {
    fn name(&self) -> &'static str {
        "incs"
    }

    fn oids(&self) -> Vec<Oid> {
        super::oids(FIRST, 2)
    }

    fn steps(&self, seen: &Seen, random: &mut Random) -> Vec<(Oid, Step)> {
        let Some(counts) = numbers(seen) else { return create(FIRST, [0, 0].into_iter()) };
        if only_reads(random) {
            return Vec::new();
        }
        (0..).zip(counts).map(|(place, count)| store(FIRST, place, count + 1)).collect()
    }

    fn check(&self, seen: &Seen) {
        let Some(counts) = numbers(seen) else { return };
        assert!(counts.iter().all(|count| *count == counts[0]), "not equal: {seen:?}");
    }
}

const FIRST: u64 = 301;
