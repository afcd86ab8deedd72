//! What changed since a tid: a walk through the journal.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use zeo_proto::{Oid, Tid};

use super::JournalStorage;
use crate::storage::disk::Disk;
use crate::storage::index::Index;
use crate::storage::journal::{Item, ItemError, Position, START, unreadable, vanished};
use crate::storage::{Changes, Storage, StorageError};

/// How much of the journal is read for one answer: 64 MiB. Beyond, a client is better off with an
/// empty cache.
const MAX_WALK: u64 = 64 << 20;

/// What a walk is after, and what it has found.
struct Walk {
    since: Tid,
    through: Tid,
    limit: usize,
    /// Whether `since` is known to be a transaction of this history.
    known: bool,
    oids: BTreeSet<Oid>,
}

impl<D: Disk, I: Index> JournalStorage<D, I> {
    pub(super) fn changes(
        &self,
        since: Tid,
        through: Tid,
        limit: usize,
    ) -> Result<Changes, StorageError> {
        if since == self.last_tid() {
            return Ok(Changes::Objects(Vec::new()));
        }
        let end = self.journal.end();
        let (tid, mut at) = self.milestone(since)?;
        let known = tid == since;
        let mut walk = Walk { since, through, limit, known, oids: BTreeSet::new() };
        let mut walker = self.journal.walk(at);
        let mut bytes = 0;
        while at < end {
            bytes += u64::from(walker.next_len().map_err(unreadable(at))?);
            if bytes > MAX_WALK {
                return Ok(Changes::TooMany);
            }
            let group = walker.next().map_err(unreadable(at))?.ok_or_else(|| vanished(at))?;
            for item in group.items {
                let item = item.map_err(|error| match error {
                    ItemError::Malformed => vanished(at),
                    ItemError::Io(error) => unreadable(at)(error),
                });
                if let ControlFlow::Break(found) = walk.visit(item?) {
                    return Ok(found);
                }
            }
            at = group.end;
        }
        Ok(walk.found())
    }

    /// The last known place before all transactions after `tid`.
    pub(super) fn milestone(&self, tid: Tid) -> Result<(Tid, Position), StorageError> {
        let recent = self.overlay().milestone(tid);
        let known = recent.map_or_else(|| self.index.milestone(tid), |found| Ok(Some(found)))?;
        Ok(known.unwrap_or((Tid::ZERO, START)))
    }
}

impl Walk {
    fn visit(&mut self, item: Item) -> ControlFlow<Changes> {
        match item {
            Item::Transaction { tid, .. } => {
                self.known |= tid == self.since;
                let over = tid > self.since && (tid > self.through || !self.known);
                if over { ControlFlow::Break(self.found()) } else { ControlFlow::Continue(()) }
            }
            Item::Record { oid, tid, .. } if tid > self.since => {
                self.oids.insert(oid);
                let many = self.oids.len() > self.limit;
                if many { ControlFlow::Break(Changes::TooMany) } else { ControlFlow::Continue(()) }
            }
            Item::Record { .. } | Item::Reserved(_) | Item::Epoch(_) => ControlFlow::Continue(()),
        }
    }

    fn found(&mut self) -> Changes {
        if !self.known {
            return Changes::NotOfThisHistory;
        }
        Changes::Objects(std::mem::take(&mut self.oids).into_iter().collect())
    }
}
