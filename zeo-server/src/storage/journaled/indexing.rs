//! Moves entries from the overlay into the index, and makes checkpoints.

use std::sync::PoisonError;

use zeo_reactor::give_way;

use super::overlay::Queued;
use super::{AT_ONCE, JournalStorage};
use crate::storage::disk::Disk;
use crate::storage::index::{Checkpoint, Index, IndexError};

/// How far the index is.
#[derive(Debug)]
pub(super) struct Indexer {
    /// The last checkpoint made.
    checkpoint: Option<Checkpoint>,
    /// How far the index covers the journal by now.
    covered: Option<Checkpoint>,
    /// Entries inserted since the last checkpoint.
    since: usize,
}

impl Indexer {
    pub(super) fn new(checkpoint: Option<Checkpoint>) -> Self {
        Self { checkpoint, covered: checkpoint, since: 0 }
    }

    /// Inserts what was oldest in the overlay.
    pub(super) fn insert(
        &mut self,
        index: &impl Index,
        oldest: &[Queued],
    ) -> Result<(), IndexError> {
        if let Some(newest) = oldest.iter().map(Queued::tid).max() {
            index.raise(newest)?;
        }
        for queued in oldest {
            give_way();
            index.insert(&queued.entry())?;
            if let Queued::Covered(checkpoint) = queued {
                self.covered = Some(**checkpoint);
            }
        }
        self.since += oldest.len();
        Ok(())
    }

    /// Makes a checkpoint if there is enough to gain; `entries` is how many are enough.
    pub(super) fn checkpoint_if_due(
        &mut self,
        index: &impl Index,
        entries: usize,
    ) -> Result<(), IndexError> {
        if let Some(checkpoint) = self.due(entries) {
            index.write_checkpoint(&checkpoint)?;
            *self = Self::new(Some(checkpoint));
        }
        Ok(())
    }

    fn due(&self, entries: usize) -> Option<Checkpoint> {
        let segment = |checkpoint: Option<Checkpoint>| checkpoint.map_or(1, |c| c.end.segment);
        let far = segment(self.covered) > segment(self.checkpoint);
        self.covered.filter(|_| far || self.since >= entries)
    }
}

impl<D: Disk, I: Index> JournalStorage<D, I> {
    /// Moves a bounded number of entries, and makes a checkpoint if one is due.
    ///
    /// An entry leaves the overlay only when it is in the index: who looks at the one and then at
    /// the other always finds it.
    pub(super) fn move_into_index(&self) -> Result<(), IndexError> {
        let mut indexer = self.indexer.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = self.overlay().oldest(self.settings.index_step);
        indexer.insert(&self.index, &oldest)?;
        for some in oldest.chunks(AT_ONCE) {
            self.overlay_mut().forget(some.len());
            give_way();
        }
        indexer.checkpoint_if_due(&self.index, self.settings.checkpoint_entries)
    }

    /// Moves entries until the overlay is below its bound, so that it stays bounded even if
    /// nobody does the chores.
    pub(super) fn make_room(&self) -> Result<(), IndexError> {
        while self.overlay().len() >= self.settings.overlay_entries {
            self.move_into_index()?;
        }
        Ok(())
    }

    /// Makes a last checkpoint, and closes the index.
    pub(super) fn close_index(&self) -> Result<(), IndexError> {
        let indexer = self.indexer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(checkpoint) = &indexer.covered {
            self.index.write_checkpoint(checkpoint)?;
        }
        self.index.close()
    }
}

#[cfg(test)]
mod tests {
    use crate::storage::index::Index;
    use crate::storage::testing::{NOW, World, commit, new};
    use crate::storage::{Operation, Storage};

    /// Of a group, the revisions come before the outcomes: a step that ended with the outcome of the
    /// first noted that there was nothing newer than that, beside revisions of the second.
    #[test]
    fn no_entry_is_newer_than_what_was_noted_before_it() {
        let storage = World::new(1).open().unwrap();
        let group = [commit(1, [new(1, "a"), new(2, "a")]), commit(2, [new(3, "b"), new(4, "b")])];
        assert_eq!(storage.settings.index_step, 5, "it ends with the first outcome");
        storage.apply(&group.map(Operation::Commit), NOW);
        storage.move_into_index().unwrap();
        assert_eq!(storage.index.raised().unwrap(), storage.last_tid());
    }
}
