//! Transactions that undo others: what they write is found out before they are voted on.
//!
//! It is worked out in the history stage, from what is durable then, and becomes ordinary records
//! with the serials that are current. So whatever is committed in between is a conflict like any
//! other, and the commit stage knows nothing of undoing.

use std::collections::BTreeMap;

use zeo_proto::{Failure, TxnNumber};
use zeo_reactor::{ConnId, Context, JobPanicked};

use crate::database::DatabaseId;
use crate::server::Server;
use crate::storage::{Record, Storage, StorageError, UndoLimits, UndoRefused};
use crate::votes::Ballot;

/// The votes of one database that wait for what they undo.
///
/// Bounded by the transactions that sessions may have open.
#[derive(Debug, Default)]
pub(crate) struct Undos {
    last: u64,
    waiting: BTreeMap<u64, Ballot>,
}

impl Undos {
    /// No vote waits here.
    pub(crate) fn have_no_votes(&self) -> bool {
        self.waiting.is_empty()
    }

    fn insert(&mut self, ballot: Ballot) -> u64 {
        self.last += 1;
        self.waiting.insert(self.last, ballot);
        self.last
    }

    /// Takes back a vote that waits here.
    pub(crate) fn take_vote(&mut self, conn: ConnId, number: TxnNumber) -> Option<Ballot> {
        let is_it = |ballot: &Ballot| (ballot.caller.conn, ballot.number) == (conn, number);
        let key = self.waiting.iter().find(|(_, ballot)| is_it(ballot)).map(|(&key, _)| key);
        self.waiting.remove(&key?)
    }
}

/// What became of an attempt to find it out.
type Found = Result<Result<Vec<Record>, UndoRefused>, StorageError>;

impl Server {
    /// Finds out what a transaction writes by what it undoes.
    pub(crate) fn find_undone(&mut self, cx: &mut Context<Self>, id: DatabaseId, ballot: Ballot) {
        let tids = ballot.transaction.undoes().to_vec();
        let limits = UndoLimits {
            objects: self.limits.transaction_objects,
            bytes: self.limits.transaction_bytes,
            spill_bytes: self.limits.spill_bytes,
        };
        let key = self.databases.at_mut(id).undos.insert(ballot);
        let work = move |storage: &dyn Storage| storage.undo(&tids, limits);
        self.read(cx, id, work, move |server, cx, found| server.undone_found(cx, id, key, found));
    }

    fn undone_found(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        key: u64,
        found: Result<Found, JobPanicked>,
    ) {
        // Without a ballot, its client has aborted it meanwhile.
        let Some(mut ballot) = self.databases.at_mut(id).undos.waiting.remove(&key) else { return };
        let before = self.buffered_bytes;
        match found.map_err(|panicked| failed(panicked.to_string())).and_then(records_or_failure) {
            Ok(records) => self.add_undone(&mut ballot, records),
            Err(Failure::TransactionTooLarge(_)) => {
                let max = self.limits.transaction_bytes;
                let failure = Failure::TransactionTooLarge(max);
                ballot.transaction.fail(failure, &mut self.buffered_bytes);
            }
            Err(failure) => ballot.transaction.fail(failure, &mut self.buffered_bytes),
        }
        self.buffered(cx, ballot.caller.conn, before);
        self.vote_complete(cx, id, ballot);
    }

    fn add_undone(&mut self, ballot: &mut Ballot, records: Vec<Record>) {
        let transaction = &mut ballot.transaction;
        transaction.has_undone();
        for record in records {
            let bytes = transaction.write(record);
            transaction.grow(bytes, &mut self.buffered_bytes, &self.limits);
            if transaction.failure().is_some() {
                return;
            }
        }
    }
}

fn records_or_failure(found: Found) -> Result<Vec<Record>, Failure> {
    match found {
        Ok(Ok(records)) => Ok(records),
        Ok(Err(UndoRefused::NoSuchTransaction(tid))) => Err(Failure::NoSuchTid(tid)),
        Ok(Err(UndoRefused::InTheWay(oids))) => Err(Failure::UndoRefused(oids)),
        Ok(Err(UndoRefused::TooLarge)) => Err(Failure::TransactionTooLarge(0)),
        Err(error) if error.is_full() => Err(Failure::DiskFull),
        Err(error) => Err(failed(error.to_string())),
    }
}

fn failed(why: String) -> Failure {
    tracing::error!("working out an undo: {why}");
    Failure::StorageFailed(why)
}
