//! The server's side of one connection after the handshake: its transactions and its bounds.

use std::collections::{BTreeMap, BTreeSet};

use zeo_proto::{CallId, TxnNumber};
use zeo_reactor::{ConnId, Time};

use crate::database::DatabaseId;
use crate::lane::Lane;
use crate::locks::LockId;
use crate::memory::Told;
use crate::open_transactions::OpenTransactions;
use crate::storage::Cursor;

/// What the server knows of one client, from the welcome until either side closes.
#[expect(clippy::struct_excessive_bools, reason = "they are independent")]
#[derive(Debug)]
pub(crate) struct Session {
    /// Which database it asked for.
    pub(crate) database: DatabaseId,
    /// How it calls itself; for the log and the status.
    pub(crate) label: String,
    /// Where it comes from.
    pub(crate) peer: String,
    /// Since when it is there.
    pub(crate) since: Time,
    /// Calls that it has made.
    pub(crate) calls: u64,
    /// Its transactions that were committed.
    pub(crate) commits: u64,
    /// It said that it will not write.
    pub(crate) read_only: bool,
    /// It is not read, because it has too much under way.
    pub(crate) is_paused: bool,
    /// Transactions that it stores into faster than their data can be put into files.
    pub(crate) outrun: BTreeSet<TxnNumber>,
    /// A look-up of what it has missed is under way.
    pub(crate) is_catching_up: bool,
    /// A page of history is being read for it.
    pub(crate) is_reading_history: bool,
    /// Where the last page of transactions that it was sent ended.
    pub(crate) history_place: Option<Cursor>,
    /// Transactions that it was told are not committed, and never will be.
    pub(crate) fenced: usize,
    /// Calls that have no answer yet.
    pub(crate) calls_in_flight: usize,
    /// Loads on their way.
    pub(crate) lane: Lane,
    /// Transactions between `tpc_begin` and `tpc_vote`, and those whose conflicts are being resolved.
    pub(crate) transactions: OpenTransactions,
    /// Transactions between `tpc_vote` and their finish, by the locks that they hold or wait for.
    pub(crate) votes: BTreeMap<TxnNumber, LockId>,
    /// Bytes of memory that its transactions hold, until they are answered.
    pub(crate) buffered: u64,
    /// What the ledger knows of that.
    pub(crate) buffered_told: Told,
}

/// Where an answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The connection that asked.
    pub(crate) conn: ConnId,
    /// The call on it.
    pub(crate) call: CallId,
}
