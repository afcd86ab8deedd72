//! The server's side of one connection after the handshake: its transactions and its bounds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

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
    pub(crate) fenced: Fenced,
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

/// How many transactions a session has had fenced lately: one a second is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Fenced {
    count: u64,
    /// When that was true.
    at: Time,
}

impl Fenced {
    /// How many there are now.
    pub(crate) fn lately(&mut self, now: Time) -> u64 {
        let seconds = (now - self.at).as_secs();
        self.count = self.count.saturating_sub(seconds);
        self.at = if self.count == 0 { now } else { self.at + Duration::from_secs(seconds) };
        self.count
    }

    /// One more.
    pub(crate) fn add(&mut self, now: Time) {
        self.count = self.lately(now) + 1;
    }
}

/// Where an answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The connection that asked.
    pub(crate) conn: ConnId,
    /// The call on it.
    pub(crate) call: CallId,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// They counted for the session's life, so one that asked long enough was told `Busy` for ever.
    #[test]
    fn fences_are_forgotten_one_a_second() {
        let (mut fenced, start) = (Fenced::default(), Time::default());
        let at = |millis| start + Duration::from_millis(millis);
        (0..3).for_each(|_| fenced.add(at(500)));
        assert_eq!(fenced.lately(at(1_400)), 3);
        assert_eq!(fenced.lately(at(1_600)), 2);
        fenced.add(at(2_400));
        assert_eq!(fenced.lately(at(2_600)), 2);
        assert_eq!(fenced.lately(at(60_000)), 0);
    }
}
