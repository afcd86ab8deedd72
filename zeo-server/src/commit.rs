//! Transactions: from `tpc_begin` through their stores to the vote that hands them to the commit
//! stage.

use bytes::Bytes;
use zeo_proto::{Begin, Failure, MAX_OBJECT, Oid, Store, Tid, TxnNumber};
use zeo_reactor::{ConnId, Context};

use crate::commit_queue::Waiter;
use crate::server::Server;
use crate::session::{Caller, OpenTransaction};
use crate::storage::{Commit, Operation, Record};

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
            let bytes = record_bytes(data.len(), refs.as_ref().map_or(0, Vec::len));
            transaction.records.push(Record { oid, serial, data: Some(data), refs });
            bytes
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
            let record = Record { oid, serial: Some(serial), data: None, refs: None };
            transaction.records.push(record);
            record_bytes(0, 0)
        });
    }

    pub(crate) fn read_current(
        &mut self,
        cx: &mut Context<Self>,
        conn: ConnId,
        number: TxnNumber,
        (oid, serial): (Oid, Tid),
    ) {
        self.gather(cx, conn, number, |transaction| {
            transaction.read_current.push((oid, serial));
            size_of::<(Oid, Tid)>() as u64
        });
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
        if transaction.failed.is_some() {
            return;
        }
        let added = add(transaction);
        transaction.grow(added, &mut self.buffered_bytes, &self.limits);
        self.databases.at_mut(database).counters.stores += 1;
    }

    pub(crate) fn tpc_abort(&mut self, conn: ConnId, number: TxnNumber) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        if let Some(transaction) = session.transactions.remove(&number) {
            self.buffered_bytes -= transaction.bytes;
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
        } else if transaction.begin.snapshot > published {
            Some(Failure::StorageFailed("the snapshot is not of this history".to_owned()))
        } else {
            transaction.failed.clone()
        };
        match refusal {
            Some(failure) => {
                self.buffered_bytes -= transaction.bytes;
                self.fail(cx, caller, failure);
            }
            None => self.enqueue_commit(cx, caller, transaction),
        }
    }

    fn enqueue_commit(
        &mut self,
        cx: &mut Context<Self>,
        caller: Caller,
        transaction: OpenTransaction,
    ) {
        let Some(id) = self.database_of(caller.conn) else { return };
        let OpenTransaction { begin, records, read_current, bytes, .. } = transaction;
        let writes = records.iter().map(|record| (record.oid, record.data.clone())).collect();
        let commit = Commit {
            id: begin.id,
            snapshot: begin.snapshot,
            meta: begin.meta,
            records,
            read_current,
        };
        let waiter = Waiter::Commit { caller, writes, bytes };
        self.enqueue(cx, id, Operation::Commit(commit), waiter);
    }
}

/// The largest oid that a client may write. Names are counted up from the largest in use, so a
/// peer that stored the largest there is would leave none.
const MAX_OID: Oid = Oid::new(u64::MAX / 2);

/// What a record of so many bytes of data and so many references costs in memory.
fn record_bytes(data: usize, refs: usize) -> u64 {
    (size_of::<Record>() + data + refs * size_of::<Oid>()) as u64
}
