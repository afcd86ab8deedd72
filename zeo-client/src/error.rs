//! What can go wrong, by what the caller can do about it.
//!
//! One enum for each thing a caller does: connecting, loading, storing, committing, and the rest
//! ([`CallError`]). Every one of them can be compared and cloned.

use std::fmt;

use zeo_proto::{Conflict, Identity, Oid, OutcomeQuery, Tid};
use zeo_reactor::WaitError;

use crate::url::UrlError;

/// A client could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL is not one that a client understands.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The host's name has no address.
    #[error("cannot find the address of {host}: {reason}")]
    Resolve {
        /// The name.
        host: String,
        /// What the system said.
        reason: String,
    },
    /// The server answered and will not have this client; the text is its reason.
    #[error("the server refused the connection: {0}")]
    Refused(String),
    /// What answered is not a zeo server, or speaks no version that this client speaks.
    #[error("{server} does not speak this client's protocol: {reason}")]
    NotUnderstood {
        /// Where it answered.
        server: String,
        /// What was wrong.
        reason: String,
    },
    /// No server answered in time.
    #[error("no connection to {server}: {reason}")]
    Unreachable {
        /// Where it was tried.
        server: String,
        /// Why the last attempt failed.
        reason: String,
    },
    /// The client's threads could not be started; the text is what the system said.
    #[error("cannot start the client's reactor: {0}")]
    Start(String),
    /// The client was closed while it was connecting.
    #[error("the client was closed")]
    Closed,
    /// Connecting waits, and this thread must not.
    #[error("this thread must not wait for a connection")]
    WouldDeadlock,
}

/// A call was not answered, or the answer is that it failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// A queue of the client or the server is full; ask again later.
    #[error("too many calls are waiting")]
    Busy,
    /// No answer came within the call's time limit.
    #[error("no answer within the time limit")]
    Timeout,
    /// There is no connection, and has been none for longer than `wait_timeout`.
    #[error("not connected to the server")]
    Disconnected,
    /// The server now has another database; this client is of no more use.
    #[error(transparent)]
    OtherDatabase(#[from] OtherDatabase),
    /// The database's history was replaced (a backup restored) since this began: begin again.
    #[error("the database's history was replaced")]
    HistoryChanged,
    /// The server cannot do it; the text says why.
    #[error("{0}")]
    Failed(String),
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
    /// This thread must not wait: it runs a private reactor, or forbade it to itself.
    #[error("this thread must not wait for an answer")]
    WouldDeadlock,
}

/// An object was not loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The object did not exist yet, or never has; or this transaction itself deletes it.
    #[error("no object {0}")]
    NotFound(Oid),
    /// The object had been deleted.
    #[error("object {oid} was deleted at {tid}")]
    Deleted {
        /// The object.
        oid: Oid,
        /// The transaction that deleted it.
        tid: Tid,
    },
    /// What is stored of an object is damaged; the text says how.
    #[error("damaged: {0}")]
    Damaged(String),
    /// The database's history was replaced (a backup restored) after this snapshot was taken: begin
    /// again.
    #[error("the database's history was replaced")]
    HistoryChanged,
    /// A queue of the client or the server is full; ask again later.
    #[error("too many calls are waiting")]
    Busy,
    /// No answer came within the call's time limit.
    #[error("no answer within the time limit")]
    Timeout,
    /// There is no connection, and has been none for longer than `wait_timeout`.
    #[error("not connected to the server")]
    Disconnected,
    /// The server now has another database; this client is of no more use.
    #[error(transparent)]
    OtherDatabase(#[from] OtherDatabase),
    /// The server cannot do it; the text says why.
    #[error("{0}")]
    Failed(String),
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
    /// This thread must not wait: it runs a private reactor, or forbade it to itself.
    #[error("this thread must not wait for an answer")]
    WouldDeadlock,
}

/// A transaction cannot take this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The object's data is longer than any may be.
    #[error("an object of {bytes} bytes, where at most {max} are allowed")]
    ObjectTooLarge {
        /// Its length in bytes.
        bytes: usize,
        /// The most that is allowed.
        max: usize,
    },
    /// The transaction is larger than the server takes.
    #[error("a transaction of {bytes} bytes, where at most {max} are allowed")]
    TransactionTooLarge {
        /// Its size with this store, in bytes.
        bytes: u64,
        /// The most that is allowed.
        max: u64,
    },
    /// User, description and extension are too long together.
    #[error("user, description and extension of {bytes} bytes, where at most {max} are allowed")]
    MetaTooLarge {
        /// Their length together, in bytes.
        bytes: usize,
        /// The most that is allowed.
        max: usize,
    },
    /// The object refers to more objects than may be listed.
    #[error("{count} references, where at most {max} are allowed")]
    TooManyReferences {
        /// How many were given.
        count: usize,
        /// The most that is allowed.
        max: usize,
    },
    /// This needs an object that the transaction has read; load it first.
    #[error("object {0} was not read in this transaction")]
    NotRead(Oid),
    /// The client was opened for reading only.
    #[error("the client is read-only")]
    ReadOnly,
}

/// A transaction was not committed, or whether it was is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// Somebody else changed an object after it was read. Nothing was committed: begin again.
    #[error("object {} was changed at {} (read: {})", .0.oid, .0.committed, .0.read)]
    Conflict(Conflict),
    /// Nothing was committed, for a reason other than a conflict.
    #[error("not committed: {0}")]
    NotCommitted(NotCommitted),
    /// The transaction may have been committed; [`Client::outcome`](crate::Client::outcome) tells.
    #[error("whether transaction {} was committed is not known", .0.id())]
    Unknown(InDoubt),
    /// The client was closed; nothing was committed.
    #[error("the client is closed")]
    Closed,
    /// This thread must not wait: it runs a private reactor, or forbade it to itself. Nothing was
    /// committed.
    #[error("this thread must not wait for an answer")]
    WouldDeadlock,
}

/// Why nothing was committed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotCommitted {
    /// A queue of the client or the server is full; try again later.
    #[error("too many transactions are waiting")]
    Busy,
    /// The time limit ended before the transaction was sent.
    #[error("it was not sent within the time limit")]
    Timeout,
    /// There was no connection, for longer than `wait_timeout`.
    #[error("not connected to the server")]
    Disconnected,
    /// Its answer was lost, and asking has shown that it was not committed; or its connection was
    /// lost again and again whenever it was sent, for which it may itself be the reason; or the
    /// connection was lost between its vote and its finish, and its locks with it.
    #[error("it was lost on its way")]
    Lost,
    /// It was to be committed together with another one, which failed.
    #[error("it was aborted")]
    Aborted,
    /// The database's history was replaced (a backup restored) after the transaction began.
    #[error("the database's history was replaced since the transaction began")]
    HistoryChanged,
    /// The transaction is larger than this many bytes.
    #[error("the transaction is larger than {0} bytes")]
    TooLarge(u64),
    /// The storage or the server is read-only.
    #[error("the database is read-only")]
    ReadOnly,
    /// The server's disk is full.
    #[error("the server's disk is full")]
    DiskFull,
    /// The storage has reached its quota of so many bytes.
    #[error("the database has reached its quota of {0} bytes")]
    QuotaExceeded(u64),
    /// Others held an object's lock for too long.
    #[error("object {oid} was locked for too long by {by}")]
    Locked {
        /// The object.
        oid: Oid,
        /// Who held it, as the server knows them.
        by: String,
    },
    /// The transactions cannot be undone, because later ones changed these objects. Of very many,
    /// not all are listed.
    #[error("it cannot be undone: {} of its objects were changed later", .0.len())]
    UndoRefused(Vec<Oid>),
    /// There is no transaction with this tid that could be undone.
    #[error("there is no transaction {0}")]
    NoSuchTransaction(Tid),
    /// What is restored must be newer than the last transaction, which has this tid, and not newer
    /// than the server's clock allows.
    #[error("it does not fit behind the last transaction, {0}")]
    OutOfOrder(Tid),
    /// The server now has another database; this client is of no more use.
    #[error(transparent)]
    OtherDatabase(#[from] OtherDatabase),
    /// The server refused; the text says why.
    #[error("{0}")]
    Refused(String),
}

/// The server that this client was connected to has another database now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server has database {found}, but this client belongs to database {known}")]
pub struct OtherDatabase {
    /// The database that the client knows.
    pub known: Identity,
    /// The database that the server has.
    pub found: Identity,
}

/// A transaction that may have been committed: what is needed to find out.
///
/// It can be kept, also by another process of the application, and given to
/// [`Client::outcome`](crate::Client::outcome) later.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InDoubt {
    id: zeo_proto::TxnId,
    snapshot: Tid,
    epoch: u64,
}

impl InDoubt {
    /// Names a transaction by the id it was sent under, its snapshot, and the database's epoch.
    pub const fn new(id: zeo_proto::TxnId, snapshot: Tid, epoch: u64) -> Self {
        Self { id, snapshot, epoch }
    }

    /// The random name that the transaction was sent under.
    pub const fn id(&self) -> zeo_proto::TxnId {
        self.id
    }

    /// The snapshot that it began with.
    pub const fn snapshot(&self) -> Tid {
        self.snapshot
    }

    /// The epoch of the database that it was sent to.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(crate) const fn query(self) -> OutcomeQuery {
        OutcomeQuery { id: self.id, snapshot: self.snapshot, epoch: self.epoch }
    }
}

impl fmt::Debug for InDoubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InDoubt({} after {} in epoch {})", self.id, self.snapshot, self.epoch)
    }
}

/// [`Client::run`](crate::Client::run) gave up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunError<E> {
    /// The application's own code returned this; nothing was committed.
    App(E),
    /// The transaction could not be begun or committed; for a conflict, not in as many attempts as
    /// [`Options::attempts`](crate::Options::attempts) allows.
    Commit(CommitError),
}

impl<E: fmt::Display> fmt::Display for RunError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::App(error) => error.fmt(f),
            Self::Commit(error) => error.fmt(f),
        }
    }
}

/// Also where the work's own error is a `Box<dyn Error>`, which is none itself: so `?` takes one
/// out of a function that returns another.
impl<E: fmt::Debug + fmt::Display> std::error::Error for RunError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::App(_) => None,
            Self::Commit(error) => error.source(),
        }
    }
}

impl From<CallError> for LoadError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Busy => Self::Busy,
            CallError::Timeout => Self::Timeout,
            CallError::Disconnected => Self::Disconnected,
            CallError::OtherDatabase(which) => Self::OtherDatabase(which),
            CallError::HistoryChanged => Self::HistoryChanged,
            CallError::Failed(why) => Self::Failed(why),
            CallError::Closed => Self::Closed,
            CallError::WouldDeadlock => Self::WouldDeadlock,
        }
    }
}

/// For calls of which nothing was sent.
impl From<CallError> for CommitError {
    fn from(error: CallError) -> Self {
        Self::NotCommitted(match error {
            CallError::Closed => return Self::Closed,
            CallError::WouldDeadlock => return Self::WouldDeadlock,
            CallError::Busy => NotCommitted::Busy,
            CallError::Timeout => NotCommitted::Timeout,
            CallError::Disconnected => NotCommitted::Disconnected,
            CallError::OtherDatabase(which) => NotCommitted::OtherDatabase(which),
            CallError::HistoryChanged => NotCommitted::HistoryChanged,
            CallError::Failed(why) => NotCommitted::Refused(why),
        })
    }
}

impl From<CallError> for ConnectError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::WouldDeadlock => Self::WouldDeadlock,
            CallError::OtherDatabase(which) => Self::Refused(which.to_string()),
            CallError::Failed(why) => Self::Refused(why),
            CallError::Closed
            | CallError::Busy
            | CallError::Timeout
            | CallError::Disconnected
            | CallError::HistoryChanged => Self::Closed,
        }
    }
}

/// An answer that nobody will send any more: its reactor has stopped.
impl From<WaitError> for CallError {
    fn from(error: WaitError) -> Self {
        match error {
            WaitError::WouldDeadlock => Self::WouldDeadlock,
            WaitError::TimedOut => Self::Timeout,
            WaitError::Dropped => Self::Closed,
        }
    }
}

impl From<Conflict> for CommitError {
    fn from(conflict: Conflict) -> Self {
        Self::Conflict(conflict)
    }
}

impl From<InDoubt> for CommitError {
    fn from(doubt: InDoubt) -> Self {
        Self::Unknown(doubt)
    }
}

impl From<NotCommitted> for CommitError {
    fn from(why: NotCommitted) -> Self {
        Self::NotCommitted(why)
    }
}
