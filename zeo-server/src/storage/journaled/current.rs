//! What is current of the objects that a group writes.
//!
//! Whoever creates ten thousand objects has ten thousand names looked up in the index, which takes
//! microseconds each. Names that were reserved together are next to one another, so where two were
//! not found the gap around them is looked for, and names within it are not looked up.

use std::cell::Cell;

use zeo_proto::{Oid, Tid};

use super::JournalStorage;
use crate::storage::disk::Disk;
use crate::storage::index::{Index, IndexError, Place};
use crate::storage::journal::Replaced;

/// What one group has found missing in the index so far.
#[derive(Debug, Default)]
pub(super) struct Missing {
    gap: Cell<Option<Gap>>,
    /// The last name that was looked up was not found.
    was_last: Cell<bool>,
}

/// Names of which the index had none.
#[derive(Debug, Clone, Copy)]
struct Gap {
    first: Oid,
    /// The first that it had, if it had any from there on.
    end: Option<Oid>,
    /// How many entries had left the overlay for the index before that was looked for. If it is
    /// more by now, one of them may be in the gap.
    left: u64,
}

impl Gap {
    fn has(self, oid: Oid, left: u64) -> bool {
        self.left == left && oid >= self.first && self.end.is_none_or(|end| oid < end)
    }
}

impl<D: Disk, I: Index> JournalStorage<D, I> {
    /// The current revision of an object.
    pub(super) fn current(&self, oid: Oid, missing: &Missing) -> Result<Replaced, IndexError> {
        let overlay = self.overlay();
        let (found, left) = (overlay.around(oid, Tid::MAX).0, overlay.left());
        drop(overlay);
        let found = match found {
            Some(found) => Some(found),
            None if missing.gap.get().is_some_and(|gap| gap.has(oid, left)) => None,
            None => self.indexed(oid, left, missing)?,
        };
        let none = Replaced { serial: Tid::ZERO, deleted: false };
        Ok(found.map_or(none, |(serial, place)| Replaced { serial, deleted: place.deleted }))
    }

    fn indexed(
        &self,
        oid: Oid,
        left: u64,
        missing: &Missing,
    ) -> Result<Option<(Tid, Place)>, IndexError> {
        let found = self.index.revision_before(oid, Tid::MAX)?;
        if missing.was_last.replace(found.is_none()) && found.is_none() {
            let next = self.index.latest(oid, Tid::MAX, 1)?;
            let end = next.first().map(|&(oid, _)| oid);
            missing.gap.set(Some(Gap { first: oid, end, left }));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::testing::{World, commit, committed, new};

    #[test]
    fn names_in_a_gap_are_not_looked_up() {
        let storage = World::new(1).open().unwrap();
        let tid = committed(&storage, commit(1, [new(5, "a"), new(9, "a")]));
        storage.move_into_index().unwrap();
        let missing = Missing::default();
        let serial = |oid| storage.current(Oid::new(oid), &missing).unwrap().serial;
        assert_eq!([6, 7].map(serial), [Tid::ZERO; 2]);
        let gap = missing.gap.get().unwrap();
        assert_eq!((gap.first, gap.end), (Oid::new(7), Some(Oid::new(9))));
        assert_eq!([8, 9, 5].map(serial), [Tid::ZERO, tid, tid]);
    }

    /// The overlay does not have it any more, and when the gap was found the index did not have it.
    #[test]
    fn what_has_come_into_the_index_since_is_no_gap() {
        let storage = World::new(1).open().unwrap();
        let missing = Missing::default();
        let serial = |oid| storage.current(Oid::new(oid), &missing).unwrap().serial;
        let tid = committed(&storage, commit(1, [new(5, "a")]));
        assert_eq!([3, 4, 5].map(serial), [Tid::ZERO, Tid::ZERO, tid]);
        assert!(missing.gap.get().unwrap().end.is_none());
        storage.move_into_index().unwrap();
        assert_eq!([4, 5].map(serial), [Tid::ZERO, tid]);
    }
}
