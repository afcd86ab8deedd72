//! A crowd around one counter: everybody increments it, and whoever is late adds to what is there.

use zeo_client::ResolvableConflict;
use zeo_proto::Oid;
use zeo_server::storage::disk::Random;

use crate::history::History;

use super::{Seen, Step, Workload, create, number, numbers, store};

/// Each revision is one more than the one before it.
pub(super) struct Crowd;

impl Workload for Crowd {
    fn name(&self) -> &'static str {
        "crowd"
    }

    fn oids(&self) -> Vec<Oid> {
        vec![Oid::new(FIRST)]
    }

    fn steps(&self, seen: &Seen, _: &mut Random) -> Vec<(Oid, Step)> {
        match numbers(seen).as_deref() {
            Some([count]) => vec![store(FIRST, 0, count + 1)],
            _ => create(FIRST, [0].into_iter()),
        }
    }

    fn check(&self, _: &Seen) {}

    fn resolve(&self, conflict: &ResolvableConflict) -> Option<String> {
        // Who creates it is late, and adds nothing.
        let _ = conflict.base.as_ref()?;
        Some((number(&conflict.theirs.data) + 1).to_string())
    }

    /// Then some revisions would be less.
    fn can_be_undone(&self) -> bool {
        false
    }

    fn check_history(&self, history: &History) {
        let changes = history.changes(Oid::new(FIRST)).values().flatten();
        let counts: Vec<u64> = changes.map(|data| number(data)).collect();
        assert!(
            counts.iter().copied().eq(0..counts.len() as u64),
            "increments are lost: {counts:?}"
        );
    }
}

const FIRST: u64 = 501;
