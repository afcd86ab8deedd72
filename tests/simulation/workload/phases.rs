//! `T2ObjectsInc2Phase` of ZODB's tests: two objects are incremented in turn, and a third says
//! whose turn it is.
//!
//! That a change was overlooked hides where all objects are equally old; not so here, where each
//! transaction changes one of two.

use zeo_proto::Oid;
use zeo_server::storage::disk::Random;

use super::{Seen, Step, Workload, create, numbers, only_reads, store};

/// The difference of the two is the phase.
pub(super) struct Phases;

impl Workload for Phases {
    fn name(&self) -> &'static str {
        "phases"
    }

    fn oids(&self) -> Vec<Oid> {
        super::oids(FIRST, 3)
    }

    fn steps(&self, seen: &Seen, random: &mut Random) -> Vec<(Oid, Step)> {
        let Some(numbers) = numbers(seen) else { return create(FIRST, [0, 0, 0].into_iter()) };
        if only_reads(random) {
            return Vec::new();
        }
        let [one, other, phase] = numbers[..] else { unreachable!("there are three") };
        let count = if phase == 0 { store(FIRST, 0, one + 1) } else { store(FIRST, 1, other + 1) };
        vec![count, store(FIRST, 2, 1 - phase)]
    }

    fn check(&self, seen: &Seen) {
        let Some(numbers) = numbers(seen) else { return };
        let [one, other, phase] = numbers[..] else { unreachable!("there are three") };
        assert_eq!(one, other + phase, "out of phase: {seen:?}");
    }
}

const FIRST: u64 = 401;
