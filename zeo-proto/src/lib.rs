//! The zeo wire protocol: identities, messages, framing, and a state machine for either end of a
//! connection.
//!
//! The crate turns bytes into events and messages into bytes. It has no socket, no clock and no
//! thread, and is `no_std` so that none can slip in: when bytes come, where they go and what a
//! message means are matters of who uses it. PROTOCOL.md describes what is on the wire.
//!
//! Read [`ClientMessage`] and [`ServerMessage`] first: all that the two sides say to each other.
//! [`ClientConnection`] and [`ServerConnection`] bring a connection to the point where they do.
//!
//! ```
//! use zeo_proto::{
//!     ClientConnection, ClientEvent, Greeting, Hello, Identity, ServerConnection, ServerEvent, Tid,
//!     Welcome, welcome,
//! };
//!
//! let mut server = ServerConnection::new(Greeting::default());
//! let mut client = ClientConnection::new(Hello::new("main")?);
//! let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
//!
//! server.greet(&mut to_client);
//! client.receive(&to_client);
//! assert_eq!(client.poll(), Some(ClientEvent::Greeted));
//! client.take_output(&mut to_server);
//!
//! server.receive(&to_server);
//! let Some(ServerEvent::Hello(hello)) = server.poll() else { panic!("no hello") };
//! assert_eq!(hello.storage(), "main");
//!
//! to_client.clear();
//! let session = Welcome {
//!     identity: Identity { uuid: [7; 16], epoch: 1 },
//!     last_tid: Tid::ZERO,
//!     features: 0,
//!     max_frame: 64 << 20,
//!     max_transaction: 1 << 30,
//!     max_calls: 256,
//! };
//! welcome(&session, &mut to_client);
//! client.receive(&to_client);
//! assert_eq!(client.poll(), Some(ClientEvent::Welcomed(session)));
//! # Ok::<(), zeo_proto::WireError>(())
//! ```
#![no_std]

extern crate alloc;

mod bounded;
mod client;
mod codec;
mod error;
mod fields;
mod frame;
#[doc(hidden)]
pub mod fuzzing;
mod handshake;
mod ids;
mod messages;
mod server;

pub use client::{ClientConnection, ClientEvent};
pub use codec::{Head, decode, encode, encode_head};
pub use error::WireError;
pub use frame::{FrameReader, PINNED_MAX, write_frame};
pub use handshake::{Greeting, Hello, Refusal, RefusalReason, Versions, Welcome, refuse, welcome};
pub use ids::{Identity, Oid, ParseIdError, Tid, TxnId};
pub use messages::{
    Begin, Call, CallId, CatchUp, ClientMessage, Conflict, ConflictFound, Cursor, Failure, Goodbye,
    HistoryEntry, HistoryItem, HistoryRecord, Loaded, ObjectsPage, Outcome, OutcomeQuery, Reply,
    ServerMessage, Size, Store, TransactionHead, TransactionsPage, TxnMeta, TxnNumber, Validity,
};
pub use server::{ServerConnection, ServerEvent};

/// How many oids one [`Call::LoadMany`] may ask for; also entries in one page of a history, of
/// objects, or of conflicts.
pub const MAX_BATCH: usize = 1_024;
/// Transactions and records in one page of transactions.
pub const MAX_ITEMS: usize = 16 << 10;
/// Oids that a refused undo lists.
pub const MAX_IN_THE_WAY: usize = 1_000;
/// How many oids one [`Call::NewOids`] may ask for.
pub const MAX_NEW_OIDS: u32 = 10_000;
/// Bytes of user, description and extension of a transaction together: 64 KiB.
pub const MAX_META: usize = 64 << 10;
/// Bytes of a frame after its length: 64 MiB.
pub const MAX_FRAME: usize = 64 << 20;
/// Bytes of one object's data: what fits into a frame beside a head of 1 MiB.
pub const MAX_OBJECT: usize = MAX_FRAME - (1 << 20);
/// Oids in one page of a long list; also how many oids one object may refer to: 64 Ki.
pub const MAX_PAGE: usize = 64 << 10;
/// Bytes of a frame of the handshake: 4 KiB.
pub const HANDSHAKE_MAX: usize = 4 << 10;
/// Bytes of a text that says why something failed: 1 KiB. A longer one is cut when it is sent.
pub const MAX_REASON: usize = 1 << 10;
