//! Transactions: from `tpc_begin` through their stores to the vote.

use bytes::Bytes;
use zeo_proto::{Begin, Failure, MAX_OBJECT, Oid, Store, Tid, TxnNumber};
use zeo_reactor::{ConnId, Context};

use crate::database::{Database, DatabaseId};
use crate::server::Server;
use crate::session::Caller;
use crate::storage::Record;
use crate::transaction::OpenTransaction;
use crate::votes::{Ballot, VoteMode};

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
        if session.transactions.len() + session.votes.len() >= max {
            return self.break_off(cx, conn, format!("more than {max} transactions open"));
        }
        if session.transactions.contains(number) || session.votes.contains_key(&number) {
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
        let Some(transaction) = session.transactions.get_mut(number) else {
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

    /// The transaction undoes an earlier one; what that changes is found out at its vote.
    pub(crate) fn undo(
        &mut self,
        cx: &mut Context<Self>,
        conn: ConnId,
        number: TxnNumber,
        tid: Tid,
    ) {
        self.gather(cx, conn, number, |transaction| transaction.undo(tid));
    }

    /// The transaction is a copy, and gets the tid of what it is a copy of.
    pub(crate) fn restore(
        &mut self,
        cx: &mut Context<Self>,
        conn: ConnId,
        number: TxnNumber,
        tid: Tid,
    ) {
        self.gather(cx, conn, number, |transaction| transaction.restore(tid));
    }

    /// Ends a transaction; its vote, if it is under way, is answered that there is none any more.
    pub(crate) fn tpc_abort(&mut self, cx: &mut Context<Self>, conn: ConnId, number: TxnNumber) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let (id, vote) = (session.database, session.votes.get(&number).copied());
        let open = session.transactions.remove(number);
        let database = self.databases.at_mut(id);
        database.open_transactions -= usize::from(open.is_some());
        let pending = |database: &mut Database| {
            let spilling = database.spills.take_vote(conn, number);
            spilling.or_else(|| database.undos.take_vote(conn, number))
        };
        let ballot = if open.is_none() { pending(database) } else { None };
        let waits = ballot.as_ref().map(|ballot| ballot.caller);
        let waits = waits.or_else(|| database.votes.caller(vote?));
        let mut transaction = open.or_else(|| ballot.map(|ballot| ballot.transaction));
        database.counters.aborts += u64::from(transaction.is_some() || vote.is_some());
        self.buffered_bytes -= transaction.as_ref().map_or(0, OpenTransaction::memory);
        let kept = transaction.as_mut().and_then(OpenTransaction::take_lock);
        if let Some(caller) = waits {
            self.fail(cx, caller, Failure::NoSuchTransaction);
        }
        for lock in vote.into_iter().chain(kept) {
            self.release(cx, id, lock);
        }
    }

    pub(crate) fn tpc_vote(
        &mut self,
        cx: &mut Context<Self>,
        caller: Caller,
        number: TxnNumber,
        mode: VoteMode,
    ) {
        let Some(session) = self.sessions.get_mut(&caller.conn) else { return };
        let Some(transaction) = session.transactions.remove(number) else {
            return self.fail(cx, caller, Failure::NoSuchTransaction);
        };
        let id = session.database;
        self.databases.at_mut(id).open_transactions -= 1;
        let ballot = Ballot { caller, number, mode, transaction };
        if let Some(failure) = self.refusal(id, &ballot) {
            return self.refuse_vote(cx, id, ballot, failure);
        }
        match ballot.transaction.spill_key() {
            Some(key) => self.vote_after_spill(id, key, ballot),
            None => self.vote_complete(cx, id, ballot),
        }
    }

    /// Why a transaction cannot be voted on, if so.
    fn refusal(&self, id: DatabaseId, ballot: &Ballot) -> Option<Failure> {
        let Ballot { caller, mode, transaction, .. } = ballot;
        let one_trip = mode.then_finish && !mode.resolving;
        if self.is_read_only(id, caller.conn) {
            Some(Failure::ReadOnly)
        } else if transaction.is_restored() && !one_trip {
            Some(Failure::Unsupported)
        } else if self.is_stopping() {
            Some(Failure::Stopping)
        } else if transaction.snapshot() > self.databases.at(id).published {
            Some(Failure::StorageFailed("the snapshot is not of this history".to_owned()))
        } else {
            transaction.failure().cloned()
        }
    }

    /// Whether a session may not write: its storage is only read, or it said that it would not.
    pub(crate) fn is_read_only(&self, id: DatabaseId, conn: ConnId) -> bool {
        self.databases.at(id).read_only
            || self.sessions.get(&conn).is_some_and(|session| session.read_only)
    }

    /// Goes on with a vote whose transaction has all its data where it belongs.
    pub(crate) fn vote_complete(&mut self, cx: &mut Context<Self>, id: DatabaseId, ballot: Ballot) {
        if let Some(failure) = ballot.transaction.failure().cloned() {
            return self.refuse_vote(cx, id, ballot, failure);
        }
        if ballot.transaction.is_to_undo() {
            return self.find_undone(cx, id, ballot);
        }
        self.vote(cx, id, ballot);
    }

    /// Ends a vote, and tells its client why.
    pub(crate) fn refuse_vote(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        Ballot { caller, mut transaction, .. }: Ballot,
        failure: Failure,
    ) {
        let before = self.buffered_bytes;
        self.buffered_bytes -= transaction.memory();
        self.buffered(cx, caller.conn, before);
        self.fail(cx, caller, failure);
        if let Some(lock) = transaction.take_lock() {
            self.release(cx, id, lock);
        }
    }
}

/// The largest oid that a client may write. Names are counted up from the largest in use, so a
/// peer that stored the largest there is would leave none.
const MAX_OID: Oid = Oid::new(u64::MAX / 2);
