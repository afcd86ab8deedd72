//! The zeo client: a database of objects behind plain blocking calls, over a private reactor.
//!
//! It deliberately lacks an async runtime, signal handlers and global state: it starts one thread
//! for its reactor, and one for callbacks when there are any, and works in whatever program it is
//! put into. It does not serialise: an object is bytes under an [`Oid`].
//!
//! Read [`Client`] and [`Transaction`] first.
//!
//! ```
//! # let server = zeo_server::Server::in_memory()?;
//! # let url = server.url("main"); // for example "zeo://127.0.0.1:8100/main"
//! use zeo_client::{Client, Oid};
//!
//! let db = Client::connect(&url)?;
//! let mut txn = db.begin()?;
//! txn.store(Oid::ROOT, "an object")?;
//! let tid = txn.commit()?;
//! assert_eq!(db.load(Oid::ROOT)?.tid, tid);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Which method runs where
//!
//! | on the caller's thread alone | on the caller's thread, or else the caller waits for the reactor | the caller waits for the reactor |
//! |---|---|---|
//! | [`begin`](Client::begin), [`last_tid`](Client::last_tid), everything a [`Transaction`] stores or undoes, [`Voted::abort`], [`nb`](Client::nb) and every method of [`NonBlocking`] | [`load`](Client::load) and its kin (the cache), [`new_oid`](Client::new_oid) (a pool), [`commit`](Client::commit) (when nothing was written), [`history`](Client::history), [`transactions`](Client::transactions), [`records`](Client::records) and [`objects`](Client::objects) (what is left of a page) | [`commit`](Client::commit), [`commit_resolving`](Transaction::commit_resolving), [`vote`](Transaction::vote), [`finish`](Voted::finish), [`commit_together`], [`restore`](Client::restore), [`size`](Client::size), [`sync`](Client::sync), [`ping`](Client::ping), [`outcome`](Client::outcome), [`run`](Client::run), [`connect`](Client::connect) |
//!
//! The *reactor* thread owns the connection and is the only one that changes the cache. It runs no
//! code of the application, except the wakers of tasks that await a result, and waits for nobody.
//! The *dispatcher* thread runs the application's callbacks, those of
//! [`on_invalidation`](Client::on_invalidation) and of [`Deferred::then`]; they may make any call.
//!
//! A call that would wait returns `WouldDeadlock` at once, with nothing sent, on a thread that runs
//! a private reactor and under [`forbid_blocking`]; so does one that the cache could have answered,
//! lest it depend on the cache whether a program works.
//!
//! # When the connection is lost
//!
//! The client connects again by itself. Loads stay in flight. A commit of which only a part was
//! sent is sent again; one that may have been carried out is asked about, and made exactly once. One
//! that has lost five connections is given up, lest it be what breaks them. What was
//! [voted](Voted) on and not finished is gone with its connection, and its finish says so; reading
//! history goes on with the page that was lost.
//! After [`wait_timeout`](Options::wait_timeout) without a connection, what waits fails.
//!
//! A server that says nothing for 30 s is pinged, and given up when it has said nothing for 60,
//! also while nothing is asked of it. So a client that only listens, and whose cache answers its
//! loads, learns within a minute that its server is gone, and catches up with the next connection;
//! what it reads until then is what was newest when it last heard of the server.
//!
//! # Bounds
//!
//! | what | at most | when reached |
//! |---|---|---|
//! | [cache](Options::cache_bytes) | 64 MiB by default | what is used least goes |
//! | different loads that are waited for | 262,144 | `Busy` |
//! | batches that are waited for | 1,024; of each 8,192 objects are in flight | `Busy` |
//! | other calls that are waited for | 65,536 of each kind | `Busy` |
//! | commits that are waited for | 4,096 | `Busy` |
//! | transactions between vote and finish, or whose conflicts may be resolved | 512 | `Busy` |
//! | pages of history that are waited for, one after the other | 1,024 | `Busy` |
//! | calls on their way to the reactor | 65,536 | `Busy` |
//! | callbacks of results that wait | 65,536 | new calls get `Busy` |
//! | invalidations that wait for callbacks | 1,024, or 1,048,576 objects | they become one: everything may have changed |
//! | objects of one invalidation | 4,194,304 | everything is taken to have changed |
//! | output that the server does not read | 1 MiB for commits, 256 MiB in all | commits wait; the connection is given up |

mod blocking;
mod cache;
mod client;
mod connect;
mod dispatcher;
mod error;
mod history;
mod link;
mod nb;
mod options;
mod resolve;
mod restore;
mod revision;
#[cfg_attr(not(feature = "sim"), expect(unreachable_pub, reason = "public to simulations only"))]
mod rules;
mod run;
mod shared;
mod together;
mod transaction;
mod url;
mod voted;

pub use client::{Client, Statistics};
pub use dispatcher::{Changed, Invalidation, Subscription};
pub use error::{
    CallError, CommitError, ConnectError, InDoubt, LoadError, NotCommitted, OtherDatabase,
    RunError, StoreError,
};
pub use history::{
    CommittedTransaction, History, Objects, Record, Records, RecordsPage, Transactions,
    TransactionsPage,
};
#[cfg(feature = "sim")]
pub use link::Held;
#[doc(hidden)]
pub use link::State;
pub use nb::NonBlocking;
pub use options::Options;
pub use resolve::ResolvableConflict;
pub use revision::Revision;
#[cfg(feature = "sim")]
pub use rules::Rules;
pub use together::{TogetherError, commit_together, commit_together_async};
pub use transaction::{CreateError, Transaction};
pub use url::UrlError;
pub use voted::Voted;
pub use zeo_proto::{
    Conflict, Cursor, HistoryEntry, Identity, ObjectsPage, Oid, Outcome, Size, Tid,
    TransactionHead, TxnId, TxnMeta,
};
pub use zeo_reactor::{Deferred, DeferredSender, Dropped, NoBlocking, WaitError, forbid_blocking};

/// The README's example is compiled with those of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
