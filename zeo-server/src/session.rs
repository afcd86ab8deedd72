//! The server's side of one connection after the handshake: its transactions and its bounds.

use std::collections::BTreeMap;

use zeo_proto::{Begin, CallId, Failure, Oid, Tid, TxnMeta, TxnNumber};
use zeo_reactor::ConnId;

use crate::database::DatabaseId;
use crate::lane::Lane;
use crate::limits::Limits;
use crate::storage::Record;

/// What the server knows of one client, from the welcome until either side closes.
#[derive(Debug)]
pub(crate) struct Session {
    /// Which database it asked for.
    pub(crate) database: DatabaseId,
    /// How it calls itself; for the log and the status.
    pub(crate) label: String,
    /// Where it comes from.
    pub(crate) peer: String,
    /// It said that it will not write.
    pub(crate) read_only: bool,
    /// It is not read, because it has too much under way.
    pub(crate) is_paused: bool,
    /// A look-up of what it has missed is under way.
    pub(crate) is_catching_up: bool,
    /// Calls that have no answer yet.
    pub(crate) calls_in_flight: usize,
    /// Loads on their way.
    pub(crate) lane: Lane,
    /// Transactions between `tpc_begin` and `tpc_vote`.
    pub(crate) transactions: BTreeMap<TxnNumber, OpenTransaction>,
}

/// Where an answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The connection that asked.
    pub(crate) conn: ConnId,
    /// The call on it.
    pub(crate) call: CallId,
}

/// A transaction that gathers.
#[derive(Debug)]
pub(crate) struct OpenTransaction {
    /// How it began.
    pub(crate) begin: Begin,
    /// What it writes, in the order in which it arrived.
    pub(crate) records: Vec<Record>,
    /// What it read and depends on.
    pub(crate) read_current: Vec<(Oid, Tid)>,
    /// Bytes that it holds in memory.
    pub(crate) bytes: u64,
    /// Why its vote will fail; nothing more is kept of it then.
    pub(crate) failed: Option<Failure>,
}

impl OpenTransaction {
    /// A transaction that has nothing yet.
    pub(crate) fn new(begin: Begin) -> Self {
        Self { begin, records: Vec::new(), read_current: Vec::new(), bytes: 0, failed: None }
    }

    /// Bytes that it takes from its beginning on.
    pub(crate) fn begin_bytes(&self) -> u64 {
        TRANSACTION_BYTES + self.begin.meta.size() as u64
    }

    /// Counts more bytes, here and among those of all transactions. One that outgrew a bound keeps
    /// nothing more; its vote says why.
    pub(crate) fn grow(&mut self, bytes: u64, buffered: &mut u64, limits: &Limits) {
        self.bytes += bytes;
        *buffered += bytes;
        let objects = self.records.len() + self.read_current.len();
        if self.bytes > limits.transaction_bytes || objects > limits.transaction_objects {
            *buffered -= self.fail(Failure::TransactionTooLarge(limits.transaction_bytes));
        } else if *buffered > limits.buffered_bytes {
            *buffered -= self.fail(Failure::Busy);
        }
    }

    /// Lets go of what it holds, and says how many bytes that was.
    fn fail(&mut self, failure: Failure) -> u64 {
        self.failed = Some(failure);
        self.begin.meta = TxnMeta::default();
        self.records = Vec::new();
        self.read_current = Vec::new();
        core::mem::take(&mut self.bytes)
    }
}

/// What a transaction costs in memory beside its records.
const TRANSACTION_BYTES: u64 = 256;
