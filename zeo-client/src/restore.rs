//! Restoring: transactions that were committed elsewhere, with their tids.

use bytes::Bytes;
use zeo_proto::{MAX_META, Store, Tid, TransactionHead};
use zeo_reactor::Deferred;

use crate::blocking::{may_block, wait};
use crate::client::Client;
use crate::error::{CommitError, NotCommitted, StoreError};
use crate::history::Record;
use crate::link::{CommitRequest, CommitSender, Step};
use crate::nb::NonBlocking;
use crate::shared::Snapshot;
use crate::transaction::{check_refs, check_size};

impl Client {
    /// Commits a copy of a transaction that was committed elsewhere: with its tid, its name, and
    /// all that it says of itself. For replication and import.
    ///
    /// Nothing of it is checked, except that it must be newer than the last transaction here
    /// ([`OutOfOrder`](crate::NotCommitted::OutOfOrder)). After a lost connection it is sent again,
    /// which cannot make it happen twice. It is in memory whole until it is committed.
    ///
    /// Here a database is copied into an empty one:
    ///
    /// ```
    /// # let server = zeo_server::Server::in_memory()?;
    /// # let db = zeo_client::Client::connect(&server.url("main"))?;
    /// # let other = zeo_server::Server::in_memory()?;
    /// # let copy = zeo_client::Client::connect(&other.url("main"))?;
    /// # let oid = db.run(|txn| txn.create("first"))?;
    /// # db.run(|txn| txn.store(oid, "second"))?;
    /// for txn in db.transactions(copy.last_tid().next()..) {
    ///     let txn = txn?;
    ///     let records = db.records(&txn).collect::<Result<Vec<_>, _>>()?;
    ///     copy.restore(&txn.head, records)?;
    /// }
    /// let copied: Vec<_> = copy.transactions(..).collect::<Result<_, _>>()?;
    /// assert_eq!(copied, db.transactions(..).collect::<Result<Vec<_>, _>>()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn restore(
        &self,
        head: &TransactionHead,
        records: impl IntoIterator<Item = Record>,
    ) -> Result<Tid, CommitError> {
        may_block()?;
        wait(self.nb().restore(head, records))
    }
}

impl NonBlocking<'_> {
    /// See [`Client::restore`].
    pub fn restore(
        self,
        head: &TransactionHead,
        records: impl IntoIterator<Item = Record>,
    ) -> Deferred<Result<Tid, CommitError>> {
        match self.restored(head, records) {
            Err(why) => self.client().ready(Err(refused(&why))),
            Ok(request) => self.client().send(|state, cx, sender| {
                state.commit(cx, request, CommitSender::Finish(sender));
            }),
        }
    }

    fn restored(
        self,
        head: &TransactionHead,
        records: impl IntoIterator<Item = Record>,
    ) -> Result<CommitRequest, StoreError> {
        if self.client().is_read_only() {
            return Err(StoreError::ReadOnly);
        }
        let (bytes, max) = (head.meta.size(), MAX_META);
        if bytes > max {
            return Err(StoreError::MetaTooLarge { bytes, max });
        }
        let generation = self.client().shared().generation();
        let snapshot = Snapshot { tid: head.snapshot, generation };
        let (mut steps, mut bytes) = (vec![Step::Restore(head.tid)], 0);
        for record in records {
            let length = record.data.as_ref().map_or(0, Bytes::len);
            bytes += length as u64;
            check_size(length, bytes, self.client().max_transaction())?;
            check_refs(record.refs.as_deref())?;
            steps.push(step(record));
        }
        Ok(CommitRequest { snapshot, restored: Some(head.id), meta: head.meta.clone(), steps })
    }
}

fn step(record: Record) -> Step {
    let Record { oid, previous, data, refs } = record;
    match data {
        Some(data) => Step::Store(Store { oid, serial: Some(previous), refs }, data),
        None => Step::Delete(oid, previous),
    }
}

/// What cannot be stored cannot be restored.
fn refused(why: &StoreError) -> CommitError {
    let refused = NotCommitted::Refused(why.to_string());
    let why = match why {
        StoreError::ReadOnly => NotCommitted::ReadOnly,
        StoreError::TransactionTooLarge { max, .. } => NotCommitted::TooLarge(*max),
        StoreError::ObjectTooLarge { .. }
        | StoreError::MetaTooLarge { .. }
        | StoreError::TooManyReferences { .. }
        | StoreError::NotRead(_) => refused,
    };
    why.into()
}
