//! Conflicts that are given back to be resolved: the transaction keeps its locks.

use bytes::Bytes;
use zeo_proto::{Conflict, ConflictFound, Loaded, Reply, Tid};
use zeo_reactor::{Context, JobPanicked};

use super::{Ballot, State};
use crate::database::DatabaseId;
use crate::locks::LockId;
use crate::server::Server;
use crate::storage::{Refused, Storage};

impl Server {
    /// Loads what a transaction conflicts with; it keeps its locks.
    pub(super) fn load_conflicts(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        (lock, ballot): (LockId, Ballot),
        conflicts: Vec<Conflict>,
    ) {
        self.set_state(id, lock, State::Checking(ballot));
        let as_of = self.databases.at(id).published;
        let work = move |storage: &dyn Storage| found(storage, conflicts, as_of);
        let then = move |server: &mut Self, cx: &mut Context<Self>, found| {
            server.conflicts_loaded(cx, id, lock, found);
        };
        self.read(cx, id, work, then);
    }

    pub(super) fn conflicts_loaded(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        lock: LockId,
        found: Result<(Vec<ConflictFound>, Bytes), JobPanicked>,
    ) {
        let Some(mut ballot) = self.take_ballot(id, lock) else { return };
        let (found, data) = match found {
            Ok(found) => found,
            Err(panicked) => {
                tracing::error!("loading conflicts panicked: {panicked}");
                let refused = Refused::Failed(panicked.to_string());
                return self.end_vote(cx, id, (lock, ballot), refused);
            }
        };
        self.set_state(id, lock, State::Resolving);
        ballot.transaction.keep_lock(lock);
        let database = self.databases.at_mut(id);
        database.counters.conflicts += 1;
        database.open_transactions += 1;
        if let Some(session) = self.sessions.get_mut(&ballot.caller.conn) {
            session.votes.remove(&ballot.number);
            session.transactions.insert(ballot.number, ballot.transaction);
        }
        self.reply_with(cx, ballot.caller, Reply::Conflicts(found), &data);
    }
}

/// What is committed of the objects in conflict, as far as it fits an answer.
fn found(
    storage: &dyn Storage,
    conflicts: Vec<Conflict>,
    as_of: Tid,
) -> (Vec<ConflictFound>, Bytes) {
    let mut data = Vec::new();
    let found = conflicts.into_iter().map(|conflict| {
        let room = CONFLICT_BYTES.saturating_sub(data.len());
        let found = (room > 0)
            .then(|| storage.load_before(conflict.oid, Tid::MAX, as_of).ok())
            .flatten()
            .map(crate::storage::Found::into_outgoing)
            .filter(|(_, bytes)| bytes.len() <= room);
        let loaded = found.map(|(loaded, bytes): (Loaded, Bytes)| {
            data.extend_from_slice(&bytes);
            loaded
        });
        ConflictFound { conflict, found: loaded }
    });
    (found.collect(), data.into())
}

/// Bytes of committed data in one answer; of objects beyond it, the client loads them. 4 MiB.
const CONFLICT_BYTES: usize = 4 << 20;
