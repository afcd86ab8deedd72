//! A transaction: a snapshot to read, and a buffer of what is to be written.
//!
//! Nothing of a transaction is sent before it is committed, so aborting one, or dropping it, costs
//! nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;
use zeo_proto::{MAX_META, MAX_OBJECT, MAX_PAGE, Oid, Store, Tid, TxnMeta};

use crate::client::Client;
use crate::error::{CallError, CommitError, LoadError, StoreError};
use crate::link::{CommitRequest, Step};
use crate::revision::Revision;
use crate::shared::Snapshot;

/// A transaction: reads see the database as it was when it began, and its own writes.
///
/// Made by [`Client::begin`]; ends with [`commit`](Self::commit), or without a trace with
/// [`abort`](Self::abort) or by being dropped.
///
/// ```
/// # let server = zeo_server::Server::in_memory()?;
/// # let db = zeo_client::Client::connect(&server.url("main"))?;
/// let mut txn = db.begin()?;
/// let oid = txn.create("first")?;
/// assert_eq!(txn.load(oid)?.data, "first");
/// let tid = txn.commit()?;
///
/// let mut other = db.begin()?;
/// let mut txn = db.begin()?;
/// for (txn, data) in [(&mut other, "theirs"), (&mut txn, "mine")] {
///     txn.load(oid)?;
///     txn.store(oid, data)?;
/// }
/// other.commit()?;
/// let Err(zeo_client::CommitError::Conflict(conflict)) = txn.commit() else { panic!() };
/// assert_eq!((conflict.oid, conflict.read), (oid, tid));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a transaction that is dropped is aborted"]
pub struct Transaction {
    client: Client,
    snapshot: Snapshot,
    meta: TxnMeta,
    /// The serials that were read.
    reads: BTreeMap<Oid, Tid>,
    writes: BTreeMap<Oid, Write>,
    /// Objects that must still be as they were read.
    current: BTreeMap<Oid, Tid>,
    /// Transactions that are to be undone.
    undone: BTreeSet<Tid>,
    bytes: u64,
}

enum Write {
    Store { data: Bytes, new: bool, refs: Option<Vec<Oid>> },
    Delete,
}

impl Write {
    fn bytes(&self) -> u64 {
        match self {
            Self::Store { data, .. } => data.len() as u64,
            Self::Delete => 0,
        }
    }

    fn is_new(&self) -> bool {
        matches!(self, Self::Store { new: true, .. })
    }
}

impl Transaction {
    pub(crate) fn new(client: Client, snapshot: Snapshot) -> Self {
        Self {
            client,
            snapshot,
            meta: TxnMeta::default(),
            reads: BTreeMap::new(),
            writes: BTreeMap::new(),
            current: BTreeMap::new(),
            undone: BTreeSet::new(),
            bytes: 0,
        }
    }

    /// The last tid that this transaction's reads see.
    pub fn snapshot(&self) -> Tid {
        self.snapshot.tid
    }

    /// The object as this transaction sees it: what it wrote itself, or else what was current at
    /// its snapshot. What it wrote itself has the serial that was read, [`Tid::ZERO`] if none was.
    ///
    /// The serial is remembered, so that a store of this object conflicts with everybody else's.
    pub fn load(&mut self, oid: Oid) -> Result<Revision, LoadError> {
        match self.writes.get(&oid) {
            Some(Write::Store { data, .. }) => {
                let tid = self.reads.get(&oid).copied().unwrap_or_default();
                Ok(Revision { data: data.clone(), tid, end: None })
            }
            Some(Write::Delete) => Err(LoadError::NotFound(oid)),
            None => self.load_snapshot(oid),
        }
    }

    fn load_snapshot(&mut self, oid: Oid) -> Result<Revision, LoadError> {
        let revision = self.client.load_at(oid, self.snapshot)?;
        self.saw(oid, revision.tid);
        Ok(revision)
    }

    /// Says that this transaction depends on the revision `serial` of an object, which was loaded
    /// elsewhere, for example with [`nb`](Client::nb) and `before` = `snapshot().next()`.
    pub fn saw(&mut self, oid: Oid, serial: Tid) {
        self.reads.insert(oid, serial);
    }

    /// Writes an object when this transaction is committed.
    ///
    /// If the object was read in this transaction, it conflicts unless what was read is still
    /// current; otherwise, if the object was changed after the snapshot.
    pub fn store(&mut self, oid: Oid, data: impl Into<Bytes>) -> Result<(), StoreError> {
        self.write(oid, data.into(), false, None)
    }

    /// Like [`store`](Self::store), with the oids that the data refers to: garbage collection then
    /// does not depend on how data is serialised. At most 65,536.
    pub fn store_with_refs(
        &mut self,
        oid: Oid,
        data: impl Into<Bytes>,
        refs: Vec<Oid>,
    ) -> Result<(), StoreError> {
        check_refs(Some(&refs))?;
        self.write(oid, data.into(), false, Some(refs))
    }

    /// Makes an object, and writes it when this transaction is committed.
    pub fn create(&mut self, data: impl Into<Bytes>) -> Result<Oid, CreateError> {
        let oid = self.client.new_oid()?;
        self.store_new(oid, data)?;
        Ok(oid)
    }

    /// Writes an object that nobody else knows: its name comes from [`Client::new_oid`].
    pub fn store_new(&mut self, oid: Oid, data: impl Into<Bytes>) -> Result<(), StoreError> {
        self.write(oid, data.into(), true, None)
    }

    /// Deletes an object that was read in this transaction when it is committed.
    pub fn delete(&mut self, oid: Oid) -> Result<(), StoreError> {
        if self.writes.get(&oid).is_some_and(Write::is_new) {
            self.forget(oid);
            return Ok(());
        }
        self.check_read(oid)?;
        self.forget(oid);
        self.writes.insert(oid, Write::Delete);
        Ok(())
    }

    /// Has the commit conflict unless what this transaction read of an object is still current,
    /// although it does not write it.
    pub fn read_current(&mut self, oid: Oid) -> Result<(), StoreError> {
        let serial = self.check_read(oid)?;
        self.current.insert(oid, serial);
        Ok(())
    }

    /// Undoes what an earlier transaction did: its objects become what they were before it, those
    /// that it made are deleted. Of several, all are undone together; an undo can itself be undone.
    ///
    /// The commit fails with [`NotCommitted::UndoRefused`](crate::NotCommitted::UndoRefused) when
    /// later transactions have changed these objects, unless those are undone with it.
    ///
    /// ```
    /// # let server = zeo_server::Server::in_memory()?;
    /// # let db = zeo_client::Client::connect(&server.url("main"))?;
    /// # let oid = db.run(|txn| txn.create("before"))?;
    /// let mut txn = db.begin()?;
    /// txn.load(oid)?;
    /// txn.store(oid, "a mistake")?;
    /// let mistake = txn.commit()?;
    ///
    /// let mut txn = db.begin()?;
    /// txn.undo(mistake)?;
    /// txn.set_description("undo of a mistake")?;
    /// txn.commit()?;
    /// assert_eq!(db.load(oid)?.data, "before");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn undo(&mut self, tid: Tid) -> Result<(), StoreError> {
        if self.client.is_read_only() {
            return Err(StoreError::ReadOnly);
        }
        self.undone.insert(tid);
        Ok(())
    }

    /// Says who makes this transaction; kept with it.
    pub fn set_user(&mut self, user: impl Into<String>) -> Result<(), StoreError> {
        self.set_meta(TxnMeta { user: user.into(), ..self.meta.clone() })
    }

    /// Says what this transaction does; kept with it.
    pub fn set_description(&mut self, text: impl Into<String>) -> Result<(), StoreError> {
        self.set_meta(TxnMeta { description: text.into(), ..self.meta.clone() })
    }

    /// Whatever else is to be kept with this transaction.
    pub fn set_extension(&mut self, extension: impl Into<Vec<u8>>) -> Result<(), StoreError> {
        self.set_meta(TxnMeta { extension: extension.into(), ..self.meta.clone() })
    }

    /// Makes everything that was written permanent, all of it or nothing, and returns its tid.
    ///
    /// A commit whose answer was lost with the connection is found out about, and made once. A
    /// transaction that writes nothing is not sent, and returns its snapshot.
    pub fn commit(self) -> Result<Tid, CommitError> {
        let client = self.client.clone();
        client.commit(self)
    }

    /// Ends this transaction without a trace, as dropping it does.
    pub fn abort(self) {
        drop(self);
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Whether there is anything to be sent.
    pub(crate) fn writes(&self) -> bool {
        !self.writes.is_empty() || !self.undone.is_empty()
    }

    /// What is to be sent; `None` when there is nothing.
    pub(crate) fn into_request(self) -> (Snapshot, Option<CommitRequest>) {
        let Self { snapshot, meta, reads, writes, current, undone, .. } = self;
        if writes.is_empty() && undone.is_empty() {
            return (snapshot, None);
        }
        let read_current = current
            .into_iter()
            .filter(|(oid, _)| !writes.contains_key(oid))
            .map(|(oid, serial)| Step::ReadCurrent(oid, serial))
            .collect::<Vec<_>>();
        let writes = writes.into_iter().map(|(oid, write)| step(oid, write, reads.get(&oid)));
        let undone = undone.into_iter().map(Step::Undo);
        let steps = read_current.into_iter().chain(undone).chain(writes).collect();
        (snapshot, Some(CommitRequest { snapshot, restored: None, meta, steps }))
    }

    fn write(
        &mut self,
        oid: Oid,
        data: Bytes,
        new: bool,
        refs: Option<Vec<Oid>>,
    ) -> Result<(), StoreError> {
        if self.client.is_read_only() {
            return Err(StoreError::ReadOnly);
        }
        let old = self.writes.get(&oid);
        let bytes = self.bytes - old.map_or(0, Write::bytes) + data.len() as u64;
        let new = new || old.is_some_and(Write::is_new);
        check_size(data.len(), bytes, self.client.max_transaction())?;
        self.writes.insert(oid, Write::Store { data, new, refs });
        self.bytes = bytes;
        Ok(())
    }

    fn forget(&mut self, oid: Oid) {
        let old = self.writes.remove(&oid);
        self.bytes -= old.as_ref().map_or(0, Write::bytes);
    }

    fn check_read(&self, oid: Oid) -> Result<Tid, StoreError> {
        self.reads.get(&oid).copied().ok_or(StoreError::NotRead(oid))
    }

    fn set_meta(&mut self, meta: TxnMeta) -> Result<(), StoreError> {
        let (bytes, max) = (meta.size(), MAX_META);
        if bytes > max {
            return Err(StoreError::MetaTooLarge { bytes, max });
        }
        self.meta = meta;
        Ok(())
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("snapshot", &self.snapshot.tid)
            .field("writes", &self.writes.len())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// An object could not be made in a transaction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// There is no name for it.
    #[error(transparent)]
    Name(#[from] CallError),
    /// The transaction does not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub(crate) fn check_size(object: usize, transaction: u64, max: u64) -> Result<(), StoreError> {
    if object > MAX_OBJECT {
        return Err(StoreError::ObjectTooLarge { bytes: object, max: MAX_OBJECT });
    }
    if transaction > max {
        return Err(StoreError::TransactionTooLarge { bytes: transaction, max });
    }
    Ok(())
}

pub(crate) fn check_refs(refs: Option<&[Oid]>) -> Result<(), StoreError> {
    let (count, max) = (refs.map_or(0, <[Oid]>::len), MAX_PAGE);
    if count <= max { Ok(()) } else { Err(StoreError::TooManyReferences { count, max }) }
}

fn step(oid: Oid, write: Write, read: Option<&Tid>) -> Step {
    match write {
        Write::Store { data, new, refs } => {
            let serial = if new { Some(Tid::ZERO) } else { read.copied() };
            Step::Store(Store { oid, serial, refs }, data)
        }
        Write::Delete => Step::Delete(oid, read.copied().unwrap_or_default()),
    }
}
