//! What clients saw and did, taken down for the model.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use zeo_client::{InDoubt, LoadError, Revision};
use zeo_proto::{Oid, Tid};

use crate::archive::Reading;

/// All that clients saw and did.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) observations: Vec<Observation>,
    pub(crate) fates: Vec<(Attempt, Fate)>,
    /// The tids that somebody was told of as that of his commit.
    pub(crate) acknowledged: BTreeSet<Tid>,
    /// Names for new objects that were handed out.
    pub(crate) names: BTreeSet<Oid>,
    /// Transactions of unknown outcome whose clients have closed.
    pub(crate) orphans: Vec<(Attempt, InDoubt)>,
    /// The server's disk may fail, and its clients hear of that.
    pub(crate) disk_fails: bool,
    /// Something goes wrong beside what clients do.
    pub(crate) anything_fails: bool,
    /// What was locked, and until when nobody changed it.
    pub(crate) holds: Vec<Hold>,
    /// Transactions that may be undone.
    pub(crate) undoable: Vec<Tid>,
    /// Transactions that could not be, and the objects in the way.
    pub(crate) refusals: Vec<(Tid, Vec<Oid>)>,
    /// What readers of history were told.
    pub(crate) readings: Vec<Reading>,
    /// How many transactions have written something.
    pub(crate) commits: u64,
}

/// Objects that were locked between a vote and its end, with what was read of each.
pub(crate) struct Hold {
    pub(crate) snapshot: Tid,
    pub(crate) bases: BTreeMap<Oid, Option<Tid>>,
    /// They were locked still when this was committed.
    pub(crate) to: Tid,
}

/// A load, and what it found.
pub(crate) struct Observation {
    pub(crate) oid: Oid,
    pub(crate) before: Tid,
    pub(crate) found: Option<Revision>,
}

/// A transaction that was to be committed: what it writes and depends on.
pub(crate) struct Attempt {
    pub(crate) name: String,
    pub(crate) snapshot: Tid,
    /// What it stores; nobody else stores the same.
    pub(crate) stores: BTreeMap<Oid, Bytes>,
    pub(crate) deletes: BTreeSet<Oid>,
    /// The serial of each object that must still be current when it is committed; none where the
    /// snapshot must be.
    pub(crate) bases: BTreeMap<Oid, Option<Tid>>,
    /// What it undoes. It writes nothing else then.
    pub(crate) undoes: Option<Tid>,
    /// Whether it may be undone itself.
    pub(crate) can_be_undone: bool,
}

/// What its client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Committed(Tid),
    NotCommitted,
    /// Nothing: it may or may not be there, but wholly.
    Unknown,
}

/// There was no answer, for a reason that is no fault of the client.
pub(crate) struct Unanswered;

impl Record {
    pub(crate) fn observe(&mut self, oid: Oid, before: Tid, found: Option<Revision>) {
        self.observations.push(Observation { oid, before, found });
    }

    pub(crate) fn ended(&mut self, attempt: Attempt, fate: Fate) {
        if let Fate::Committed(tid) = fate {
            self.acknowledged.insert(tid);
            self.commits += u64::from(attempt.writes());
            if attempt.can_be_undone && attempt.writes() {
                self.undoable.push(tid);
            }
        }
        self.fates.push((attempt, fate));
    }

    /// What a load found.
    pub(crate) fn found(
        &self,
        answer: Result<Revision, LoadError>,
    ) -> Result<Option<Revision>, Unanswered> {
        match answer {
            Err(LoadError::NotFound(_) | LoadError::Deleted { .. }) => Ok(None),
            other => self.answered(other).map(Some),
        }
    }

    /// An answer, unless there was none for a good reason.
    pub(crate) fn answered<T>(&self, answer: Result<T, LoadError>) -> Result<T, Unanswered> {
        match answer {
            Ok(value) => Ok(value),
            Err(LoadError::Timeout | LoadError::Disconnected | LoadError::Closed) => {
                Err(Unanswered)
            }
            Err(LoadError::Failed(_) | LoadError::HistoryChanged) if self.disk_fails => {
                Err(Unanswered)
            }
            Err(error) => panic!("{error}"),
        }
    }
}

impl Attempt {
    pub(crate) fn new(name: String, snapshot: Tid) -> Self {
        let (stores, deletes, bases) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        Self { name, snapshot, stores, deletes, bases, undoes: None, can_be_undone: false }
    }

    fn writes(&self) -> bool {
        !self.stores.is_empty() || self.undoes.is_some()
    }
}
