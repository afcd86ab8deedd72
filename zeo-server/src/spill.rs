//! Large transactions give their data to the spill stage, which puts it into a file until their
//! vote.
//!
//! One job a storage is in the stage, for one transaction; the others wait in turn, and the
//! sessions that go on storing meanwhile are not read. So there is in memory, of every transaction,
//! at most twice [`spill_bytes`](crate::Limits::spill_bytes) and an object.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use zeo_proto::{Failure, TxnNumber};
use zeo_reactor::{ConnId, Context, JobPanicked};

use crate::database::{DatabaseId, begin_job};
use crate::server::Server;
use crate::storage::{Record, Storage, StorageError};
use crate::transaction::{OpenTransaction, SpillLoad};
use crate::votes::Ballot;

/// Names one transaction's turn in the spill stage; never used twice.
pub(crate) type SpillKey = u64;

/// The transactions of one database that wait for the spill stage, or are in it.
///
/// Bounded by the open transactions of all sessions, and the calls in flight.
#[derive(Debug, Default)]
pub(crate) struct Spills {
    last: SpillKey,
    waiting: VecDeque<(SpillKey, ConnId, TxnNumber)>,
    is_running: bool,
    /// Those that were voted on meanwhile. Their session may be gone by now.
    voted: BTreeMap<SpillKey, Ballot>,
}

impl Spills {
    /// No vote waits here.
    pub(crate) fn have_no_votes(&self) -> bool {
        self.voted.is_empty()
    }

    /// Takes back a vote that waits here and would not have finished at once.
    pub(crate) fn take_vote(&mut self, conn: ConnId, number: TxnNumber) -> Option<Ballot> {
        let is_it = |ballot: &Ballot| (ballot.caller.conn, ballot.number) == (conn, number);
        let found = self.voted.iter().find(|(_, ballot)| is_it(ballot));
        let key = found.filter(|(_, ballot)| !ballot.mode.then_finish).map(|(&key, _)| key);
        self.voted.remove(&key?)
    }
}

impl Server {
    /// Puts a transaction's data into its file, as soon as it is its turn.
    pub(crate) fn spill(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        conn: ConnId,
        number: TxnNumber,
    ) {
        let spills = &mut self.databases.at_mut(id).spills;
        spills.last += 1;
        let key = spills.last;
        spills.waiting.push_back((key, conn, number));
        if let Some(transaction) = self.transaction_mut(conn, number) {
            transaction.await_spill(key);
        }
        self.pump_spills(cx, id);
    }

    /// A vote on a transaction whose data is on its way into its file waits for that.
    pub(crate) fn vote_after_spill(&mut self, id: DatabaseId, key: SpillKey, ballot: Ballot) {
        self.databases.at_mut(id).spills.voted.insert(key, ballot);
    }

    fn pump_spills(&mut self, cx: &mut Context<Self>, id: DatabaseId) {
        let spills = &mut self.databases.at_mut(id).spills;
        if spills.is_running {
            return;
        }
        let Some((key, conn, number)) = spills.waiting.pop_front() else { return };
        spills.is_running = true;
        let load = self.spilling(id, key, conn, number).map(OpenTransaction::spill);
        let database = self.databases.at(id);
        let storage = Arc::clone(&database.storage);
        let work = move || load.map(|load| put_into_file(&*storage, load)).transpose();
        let then = move |server: &mut Self, cx: &mut Context<Self>, result| {
            server.spilled(cx, id, (key, conn, number), result);
        };
        begin_job(cx, database.stages.spill, work, then);
    }

    fn spilled(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        (key, conn, number): (SpillKey, ConnId, TxnNumber),
        result: Result<Result<Option<SpillLoad>, StorageError>, JobPanicked>,
    ) {
        self.databases.at_mut(id).spills.is_running = false;
        let before = self.buffered_bytes;
        let mut buffered = before;
        if let Some(transaction) = self.spilling(id, key, conn, number) {
            match result {
                Ok(Ok(Some(load))) => transaction.spilled(load, &mut buffered),
                Ok(Ok(None)) => {}
                Ok(Err(error)) => transaction.not_spilled(failure(&error), &mut buffered),
                Err(panicked) => {
                    let failure = Failure::StorageFailed(panicked.to_string());
                    transaction.not_spilled(failure, &mut buffered);
                }
            }
        }
        self.buffered_bytes = buffered;
        if let Some(ballot) = self.databases.at_mut(id).spills.voted.remove(&key) {
            self.vote_complete(cx, id, ballot);
        }
        self.buffered(cx, conn, before);
        self.spill_again(cx, id, conn, number);
        self.pump_spills(cx, id);
        self.advance_stop(cx);
    }

    /// What came while the last part was put into the file may be enough for another; or else its
    /// session is read on.
    fn spill_again(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        conn: ConnId,
        number: TxnNumber,
    ) {
        let should = |transaction: &OpenTransaction| transaction.should_spill(&self.limits);
        let session = self.sessions.get(&conn);
        if session.and_then(|session| session.transactions.get(number)).is_some_and(should) {
            self.spill(cx, id, conn, number);
        }
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let (transactions, limits) = (&session.transactions, &self.limits);
        let is_ahead = |txn: &OpenTransaction| txn.outruns_spilling(limits);
        session.outrun.retain(|&number| transactions.get(number).is_some_and(is_ahead));
        self.regulate(cx, conn);
    }

    /// The transaction that this turn in the stage is for, wherever it is by now.
    fn spilling(
        &mut self,
        id: DatabaseId,
        key: SpillKey,
        conn: ConnId,
        number: TxnNumber,
    ) -> Option<&mut OpenTransaction> {
        let voted = self.databases.at_mut(id).spills.voted.get_mut(&key);
        let open = self.sessions.get_mut(&conn).and_then(|s| s.transactions.get_mut(number));
        let open = open.filter(|transaction| transaction.spill_key() == Some(key));
        voted.map(|ballot| &mut ballot.transaction).or(open)
    }

    fn transaction_mut(&mut self, conn: ConnId, number: TxnNumber) -> Option<&mut OpenTransaction> {
        self.sessions.get_mut(&conn)?.transactions.get_mut(number)
    }
}

/// Makes the file if there is none yet. A storage without files gives the data back as it is.
fn put_into_file(storage: &dyn Storage, load: SpillLoad) -> Result<SpillLoad, StorageError> {
    let SpillLoad { file, mut records, .. } = load;
    let mut file = match file {
        Some(file) => Some(file),
        None => storage.spill_file()?,
    };
    let memory = |records: &[Record]| records.iter().map(Record::memory).sum::<u64>();
    let before = memory(&records);
    if let Some(file) = &mut file {
        file.spill(&mut records).map_err(|source| {
            let what = "put a large transaction into a file".to_owned();
            StorageError::Io { what, source }
        })?;
    }
    let freed = before - memory(&records);
    Ok(SpillLoad { file, records, freed })
}

fn failure(error: &StorageError) -> Failure {
    if error.is_full() {
        tracing::error!("a large transaction is refused: no space left on the disk");
        return Failure::DiskFull;
    }
    Failure::StorageFailed(error.to_string())
}
