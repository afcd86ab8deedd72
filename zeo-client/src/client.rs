//! The blocking face: each call is a look into the cache, or one line over [`NonBlocking`].

mod post;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fmt, mem, process};

use zeo_proto::{Identity, Oid, Outcome, Tid};
use zeo_reactor::{Deferred, Executor, Handle, Reactor, ReactorThread, StartError};

use crate::blocking::{may_block, wait};
use crate::dispatcher::{Callbacks, Invalidation, Subscription};
use crate::error::{CallError, CommitError, ConnectError, InDoubt, LoadError};
use crate::link::State;
use crate::nb::NonBlocking;
use crate::options::Options;
use crate::revision::Revision;
use crate::shared::{Shared, Snapshot};
use crate::transaction::Transaction;

/// A connection to a database, with its cache: cheap to clone, shared by all threads.
///
/// ```
/// # let server = zeo_server::Server::in_memory()?;
/// # let url = server.url("main");
/// use zeo_client::Client;
///
/// let db = Client::connect(&url)?;
/// let mut txn = db.begin()?;
/// let oid = txn.create("hello")?;
/// let tid = txn.commit()?;
///
/// let revision = db.load(oid)?;
/// assert_eq!(revision.data, "hello");
/// assert_eq!(revision.tid, tid);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// All clones are one client. It closes when [`close`](Self::close) is called, or when the last
/// clone is dropped; every call that waits then ends with `Closed`.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

/// What all clones have in common.
struct Inner {
    shared: Arc<Shared>,
    handle: Handle<State>,
    callbacks: Arc<dyn Executor>,
    /// The reactor's thread, until it is closed; none where somebody else drives the reactor.
    thread: Mutex<Option<ReactorThread<State>>>,
    read_only: bool,
    attempts: u32,
    /// The process that made the reactor; a fork of it has no such thread.
    process: u32,
}

impl Client {
    /// Connects to the storage that a URL names: `zeo://host:port/storage`, or
    /// `zeo:///path/to/socket?storage=name` for a Unix socket. The port is 8100 and the storage
    /// `main` where the URL says nothing else.
    ///
    /// Waits until the client is ready, for 30 s at most. Settings go behind a `?`: `storage`,
    /// `cache_size` (`64MB`), `wait_timeout` and `call_timeout` (seconds), `label`, `read_only`.
    pub fn connect(url: &str) -> Result<Self, ConnectError> {
        Self::options().connect(url)
    }

    /// The options that a client may be made with.
    pub fn options() -> Options {
        Options::default()
    }

    /// A client of a reactor, which nobody drives yet.
    pub(crate) fn new(handle: Handle<State>, shared: Arc<Shared>, options: &Options) -> Self {
        let callbacks = Arc::new(Callbacks(Arc::clone(&shared.dispatcher)));
        let inner = Inner {
            shared,
            handle,
            callbacks,
            thread: Mutex::default(),
            read_only: options.read_only,
            attempts: options.attempts,
            process: process::id(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Starts the reactor in a thread of its own, which ends with this client.
    pub(crate) fn run_reactor(&self, reactor: Reactor<State>) -> Result<(), StartError> {
        let thread = ReactorThread::spawn("zeo-client", reactor)?;
        *self.inner.thread() = Some(thread);
        Ok(())
    }

    /// Runs the callbacks that wait, on this thread, where no thread was started for them.
    #[doc(hidden)]
    pub fn deliver(&self) {
        self.inner.shared.dispatcher.deliver();
    }

    /// The newest revision of an object that this client knows of.
    ///
    /// From memory if it is there, without a thread being crossed; else from the server. Knowing of
    /// the newest is a matter of [`last_tid`](Self::last_tid); [`sync`](Self::sync) brings it up to
    /// date with the server.
    pub fn load(&self, oid: Oid) -> Result<Revision, LoadError> {
        self.load_at(oid, self.snapshot())
    }

    /// The revision of an object that was valid just before a tid.
    pub fn load_before(&self, oid: Oid, before: Tid) -> Result<Revision, LoadError> {
        self.load_key(oid, before, self.inner.shared.generation())
    }

    pub(crate) fn load_at(&self, oid: Oid, snapshot: Snapshot) -> Result<Revision, LoadError> {
        self.load_key(oid, snapshot.tid.next(), snapshot.generation)
    }

    fn load_key(&self, oid: Oid, before: Tid, generation: u64) -> Result<Revision, LoadError> {
        may_block()?;
        match self.cached(oid, before, generation)? {
            Some(revision) => Ok(revision),
            None => wait(self.fetch(oid, before, generation)),
        }
    }

    /// The revision of an object that a transaction wrote; [`history`](Self::history) says which
    /// there are.
    pub fn load_serial(&self, oid: Oid, serial: Tid) -> Result<Revision, LoadError> {
        may_block()?;
        wait(self.nb().load_serial(oid, serial))
    }

    /// The newest revisions of many objects, all as of one moment; `None` for those that do not
    /// exist.
    ///
    /// ```
    /// # let server = zeo_server::Server::in_memory()?;
    /// # let db = zeo_client::Client::connect(&server.url("main"))?;
    /// use zeo_client::Oid;
    ///
    /// let mut txn = db.begin()?;
    /// let oids = [txn.create("one")?, txn.create("two")?, Oid::new(u64::MAX - 1)];
    /// txn.commit()?;
    /// let found = db.load_many(&oids)?;
    /// assert_eq!(found[1].as_ref().unwrap().data, "two");
    /// assert_eq!(found[2], None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn load_many(&self, oids: &[Oid]) -> Result<Vec<Option<Revision>>, LoadError> {
        may_block()?;
        wait(self.nb().load_many(oids))
    }

    /// A name for a new object, which nobody else is given.
    pub fn new_oid(&self) -> Result<Oid, CallError> {
        may_block()?;
        wait(self.nb().new_oid())
    }

    /// Begins a transaction, which sees the database as of [`last_tid`](Self::last_tid).
    pub fn begin(&self) -> Result<Transaction, CallError> {
        match self.inner.ended() {
            Some(why) => Err(why),
            None => Ok(Transaction::new(self.clone(), self.snapshot())),
        }
    }

    /// Commits a transaction that this client, or a clone of it, began; see
    /// [`Transaction::commit`].
    pub fn commit(&self, txn: Transaction) -> Result<Tid, CommitError> {
        may_block()?;
        wait(self.nb().commit(txn))
    }

    /// What became of a transaction that was of [unknown](CommitError::Unknown) outcome.
    ///
    /// After *not committed*, it never will be: the server refuses it from then on.
    pub fn outcome(&self, in_doubt: &InDoubt) -> Result<Outcome, CallError> {
        may_block()?;
        wait(self.nb().outcome(in_doubt))
    }

    /// The last transaction whose changes this client has applied: what a transaction that begins
    /// now will see.
    pub fn last_tid(&self) -> Tid {
        self.inner.shared.last_tid()
    }

    /// Asks the server for its last tid, and returns it once everything up to it has been applied
    /// here: what anybody committed before this call is seen after it.
    pub fn sync(&self) -> Result<Tid, CallError> {
        may_block()?;
        wait(self.nb().sync())
    }

    /// Asks whether the server is there.
    pub fn ping(&self) -> Result<(), CallError> {
        may_block()?;
        wait(self.nb().ping())
    }

    /// Waits a moment before another attempt.
    pub(crate) fn pause_before(&self, attempt: u32) -> Result<(), CallError> {
        wait(self.nb().pause(attempt))
    }

    /// The same calls, each returning at once with a [`Deferred`] result.
    pub fn nb(&self) -> NonBlocking<'_> {
        NonBlocking::new(self)
    }

    /// Has `callback` called for every commit from now on, also this client's own
    /// ([`Invalidation::own`]), in order, on a thread where blocking calls are allowed.
    ///
    /// When `callback` is slower than the changes, those that wait become one that says everything
    /// may have changed. A callback that owns a clone of this client keeps it open; dropping the
    /// subscription, or [`close`](Self::close), lets go of the callback.
    ///
    /// ```
    /// # let server = zeo_server::Server::in_memory()?;
    /// # let url = server.url("main");
    /// use std::sync::mpsc;
    /// use zeo_client::Client;
    ///
    /// let (db, other) = (Client::connect(&url)?, Client::connect(&url)?);
    /// let (heard, changes) = mpsc::sync_channel(8);
    /// let _subscription = db.on_invalidation(move |change| heard.send(change.clone()).unwrap());
    /// let mut txn = other.begin()?;
    /// let oid = txn.create("theirs")?;
    /// let tid = txn.commit()?;
    ///
    /// let change = changes.recv()?;
    /// assert_eq!((change.tid, change.own), (tid, false));
    /// assert!(change.concerns(oid));
    /// assert_eq!(db.load(oid)?.data, "theirs");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_invalidation(
        &self,
        callback: impl FnMut(&Invalidation) + Send + 'static,
    ) -> Subscription {
        self.inner.shared.dispatcher.subscribe(callback)
    }

    /// Which database this is.
    pub fn identity(&self) -> Identity {
        self.inner.shared.identity()
    }

    /// Whether there is a connection at this moment, with the cache verified.
    pub fn is_connected(&self) -> bool {
        self.inner.shared.is_connected()
    }

    /// How often things happened since this client was made.
    pub fn statistics(&self) -> Statistics {
        let Shared { counters, cache, .. } = &*self.inner.shared;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Statistics {
            hits: read(&counters.hits),
            misses: read(&counters.misses),
            cache_bytes: cache.bytes(),
            round_trips: read(&counters.round_trips),
            reconnects: read(&counters.connections).saturating_sub(1),
            conflicts_resolved: read(&counters.conflicts_resolved),
        }
    }

    /// Closes this client and all its clones. Whoever waits gets `Closed`, or for a commit that may
    /// have been carried out [`CommitError::Unknown`]. May be called from any thread, more than
    /// once.
    pub fn close(&self) {
        self.inner.close();
    }

    /// Why no call may be made, if that is so.
    pub(crate) fn refusal(&self) -> Option<CallError> {
        let full = self.inner.shared.dispatcher.is_full();
        self.inner.ended().or_else(|| full.then_some(CallError::Busy))
    }

    /// Whether both are clones of one client.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.inner.shared.snapshot()
    }

    pub(crate) fn max_transaction(&self) -> u64 {
        self.inner.shared.max_transaction()
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.inner.read_only
    }

    pub(crate) fn attempts(&self) -> u32 {
        self.inner.attempts
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.inner.shared
    }

    /// A revision from memory. The history is looked at last: if it is still the reader's, so is
    /// what was found.
    pub(crate) fn cached(
        &self,
        oid: Oid,
        before: Tid,
        generation: u64,
    ) -> Result<Option<Revision>, LoadError> {
        let shared = &self.inner.shared;
        if let Some(why) = shared.ended() {
            return Err(why.into());
        }
        let found = shared.find(oid, before);
        if generation == shared.generation() { Ok(found) } else { Err(LoadError::HistoryChanged) }
    }

    pub(crate) fn fetch(
        &self,
        oid: Oid,
        before: Tid,
        generation: u64,
    ) -> Deferred<Result<Revision, LoadError>> {
        self.send(move |state, cx, sender| state.load(cx, (oid, before), generation, sender))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("identity", &self.identity())
            .field("last_tid", &self.last_tid())
            .field("is_connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// Why no call will be answered any more, if that is so.
    fn ended(&self) -> Option<CallError> {
        if self.is_forked() { Some(CallError::Closed) } else { self.shared.ended() }
    }

    fn close(&self) {
        self.shared.end(CallError::Closed);
        let thread = self.thread().take();
        if self.is_forked() {
            // Its thread is the parent's: there is nobody to wait for.
            return mem::forget(thread);
        }
        if self.handle.call_from_thread(State::close).is_err() {
            self.handle.stop();
        }
        // Waits for the reactor, which waits for nobody and closes the dispatcher at its end. On
        // its own thread, it only stops it.
        drop(thread);
    }

    fn is_forked(&self) -> bool {
        process::id() != self.process
    }

    fn thread(&self) -> MutexGuard<'_, Option<ReactorThread<State>>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Dropping the last clone closes, on whatever thread that happens.
impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

/// How often things happened in a client, and how much memory its cache takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Loads answered from memory.
    pub hits: u64,
    /// Loads that had to be sent.
    pub misses: u64,
    /// Bytes of memory that the cache takes.
    pub cache_bytes: u64,
    /// Calls that the server answered.
    pub round_trips: u64,
    /// Connections made after the first.
    pub reconnects: u64,
    /// Conflicts for which [`Transaction::commit_resolving`] stored something else.
    pub conflicts_resolved: u64,
}
