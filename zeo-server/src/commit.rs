//! Transactions: from `tpc_begin` through their stores to the vote that hands them to the commit
//! stage.

use bytes::Bytes;
use zeo_proto::{Begin, Failure, MAX_OBJECT, Oid, Store, Tid, TxnNumber};
use zeo_reactor::{ConnId, Context};

use crate::commit_queue::Waiter;
use crate::database::DatabaseId;
use crate::server::Server;
use crate::session::Caller;
use crate::storage::{Operation, Record};
use crate::transaction::OpenTransaction;

impl Server {
    pub(crate) fn tpc_begin(
        &mut self,
        cx: &mut Context<Self>,
        conn: ConnId,
        number: TxnNumber,
        begin: Begin,
    ) {
        let max = self.limits.open_transactions;
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        if session.transactions.len() >= max {
            return self.break_off(cx, conn, format!("more than {max} transactions open"));
        }
        if session.transactions.contains_key(&number) {
            let how = format!("tpc_begin: transaction {number} is open already");
            return self.break_off(cx, conn, how);
        }
        let mut transaction = OpenTransaction::new(begin);
        let bytes = transaction.begin_bytes();
        transaction.grow(bytes, &mut self.buffered_bytes, &self.limits);
        session.transactions.insert(number, transaction);
        self.databases.at_mut(session.database).open_transactions += 1;
    }

    pub(crate) fn store(
        &mut self,
        cx: &mut Context<Self>,
        conn: ConnId,
        number: TxnNumber,
        (store, data): (Store, Bytes),
    ) {
        debug_assert!(data.len() <= MAX_OBJECT, "the codec checks it");
        let Store { oid, serial, refs } = store;
        if oid > MAX_OID {
            return self.no_oid(cx, conn, oid);
        }
        self.gather(cx, conn, number, |transaction| {
            transaction.write(Record::store(oid, serial, data, refs))
        });
    }

    pub(crate) fn delete(
        &mut self,
        cx: &mut Context<Self>,
        conn: ConnId,
        number: TxnNumber,
        (oid, serial): (Oid, Tid),
    ) {
        if oid > MAX_OID {
            return self.no_oid(cx, conn, oid);
        }
        self.gather(cx, conn, number, |transaction| {
            transaction.write(Record::delete(oid, Some(serial)))
        });
    }

    pub(crate) fn read_current(
        &mut self,
        cx: &mut Context<Self>,
        conn: ConnId,
        number: TxnNumber,
        (oid, serial): (Oid, Tid),
    ) {
        self.gather(cx, conn, number, |transaction| transaction.depend(oid, serial));
    }

    fn no_oid(&mut self, cx: &mut Context<Self>, conn: ConnId, oid: Oid) {
        self.break_off(cx, conn, format!("{oid} is no oid that was handed out"));
    }

    /// Adds something to a transaction, within its bounds; `add` says how many bytes it took.
    fn gather(
        &mut self,
        cx: &mut Context<Self>,
        conn: ConnId,
        number: TxnNumber,
        add: impl FnOnce(&mut OpenTransaction) -> u64,
    ) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let database = session.database;
        let Some(transaction) = session.transactions.get_mut(&number) else {
            return self.break_off(cx, conn, format!("store: transaction {number} is not open"));
        };
        if transaction.failure().is_some() {
            return;
        }
        let added = add(transaction);
        transaction.grow(added, &mut self.buffered_bytes, &self.limits);
        let should_spill = transaction.should_spill(&self.limits);
        let outruns = transaction.outruns_spilling(&self.limits);
        self.databases.at_mut(database).counters.stores += 1;
        if outruns && session.outrun.insert(number) {
            self.regulate(cx, conn);
        }
        if should_spill {
            self.spill(cx, database, conn, number);
        }
    }

    pub(crate) fn tpc_abort(&mut self, conn: ConnId, number: TxnNumber) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        if let Some(transaction) = session.transactions.remove(&number) {
            self.buffered_bytes -= transaction.memory();
            let database = self.databases.at_mut(session.database);
            database.open_transactions -= 1;
            database.counters.aborts += 1;
        }
    }

    pub(crate) fn tpc_vote(
        &mut self,
        cx: &mut Context<Self>,
        caller: Caller,
        number: TxnNumber,
        then_finish: bool,
    ) {
        let Some(session) = self.sessions.get_mut(&caller.conn) else { return };
        let Some(transaction) = session.transactions.remove(&number) else {
            return self.fail(cx, caller, Failure::NoSuchTransaction);
        };
        let (id, read_only) = (session.database, session.read_only);
        let database = self.databases.at_mut(id);
        database.open_transactions -= 1;
        let published = database.published;
        let refusal = if read_only {
            Some(Failure::ReadOnly)
        } else if !then_finish {
            Some(Failure::Unsupported)
        } else if self.is_stopping() {
            Some(Failure::Stopping)
        } else if transaction.snapshot() > published {
            Some(Failure::StorageFailed("the snapshot is not of this history".to_owned()))
        } else {
            transaction.failure().cloned()
        };
        match (refusal, transaction.spill_key()) {
            (Some(failure), _) => self.refuse_vote(cx, caller, &transaction, failure),
            (None, Some(key)) => self.vote_after_spill(id, key, caller, transaction),
            (None, None) => self.enqueue_commit(cx, id, caller, transaction),
        }
    }

    /// Goes on with a vote that waited for the transaction's data to be in its file.
    pub(crate) fn voted_after_spill(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        caller: Caller,
        transaction: OpenTransaction,
    ) {
        match transaction.failure().cloned() {
            Some(failure) => self.refuse_vote(cx, caller, &transaction, failure),
            None => self.enqueue_commit(cx, id, caller, transaction),
        }
    }

    fn refuse_vote(
        &mut self,
        cx: &mut Context<Self>,
        caller: Caller,
        transaction: &OpenTransaction,
        failure: Failure,
    ) {
        self.buffered_bytes -= transaction.memory();
        self.fail(cx, caller, failure);
    }

    fn enqueue_commit(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        caller: Caller,
        transaction: OpenTransaction,
    ) {
        let (memory, bytes) = (transaction.memory(), transaction.bytes());
        let waiter = Waiter::Commit { caller, writes: transaction.writes(), memory, bytes };
        self.enqueue(cx, id, Operation::Commit(transaction.into_commit()), waiter);
    }
}

/// The largest oid that a client may write. Names are counted up from the largest in use, so a
/// peer that stored the largest there is would leave none.
const MAX_OID: Oid = Oid::new(u64::MAX / 2);
