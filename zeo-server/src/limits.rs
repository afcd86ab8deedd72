//! The server's bounds, and what they are when nobody says otherwise.

use std::time::Duration;

/// How much of everything the server takes on; every bound has an answer for "full".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Sessions at once; one more is refused with the reason. 10,000.
    pub sessions: usize,
    /// Connections at once that have not introduced themselves, which takes a client milliseconds;
    /// for one more, the oldest is closed. 1,024.
    pub handshakes: usize,
    /// How long a connection may take to introduce itself; then it is closed. 10 s.
    pub handshake: Duration,
    /// Calls in flight of one session; at it, the session is not read. 256.
    pub calls_in_flight: usize,
    /// Transactions that one session may have open; one more breaks the protocol. 1,024.
    pub open_transactions: usize,
    /// Votes that may wait for object locks, per storage; one more is told `Busy`. 1,024.
    pub waiting_votes: usize,
    /// How long a vote may wait for its object locks; then it is told who holds them. 30 s.
    pub lock_wait: Duration,
    /// How long a voted transaction may hold its object locks until its finish arrives; then it is
    /// aborted, and its client disconnected. 30 s.
    pub lock_hold: Duration,
    /// Bytes of one transaction; beyond it the vote answers `TransactionTooLarge`. 1 GiB.
    pub transaction_bytes: u64,
    /// Bytes of data of one transaction that wait in memory for its vote; beyond it they are put
    /// into a file. 16 MiB.
    pub spill_bytes: u64,
    /// Objects that one transaction writes or depends on, however small; beyond it likewise. All
    /// of them are looked up and told to every other client. 1 Mi.
    pub transaction_objects: usize,
    /// Bytes in memory of all transactions that are open or wait for the commit stage; a transaction that
    /// would take more fails with `Busy` at its vote. 1 GiB.
    pub buffered_bytes: u64,
    /// Bytes that all connections hold together: messages that have arrived in part, output that
    /// waits, loads that wait, transactions. Beyond half of it, those that hold most are not read;
    /// beyond the whole, the one that holds most is closed. 1 GiB.
    pub session_bytes: usize,
    /// Bytes of output that wait for one peer; beyond it the peer is disconnected. 64 MiB.
    pub output_bytes: usize,
    /// Operations that the commit stage takes at once. 1,024.
    pub group_operations: usize,
    /// Bytes after which a group is full. 64 MiB.
    pub group_bytes: u64,
    /// Bytes of a commit beyond which it waits apart from smaller ones. 1 MiB.
    pub large_commit_bytes: u64,
    /// Threads of the load stage. 2.
    pub load_threads: usize,
    /// Bytes of hot records answered from memory, per storage. 64 MiB.
    pub hot_bytes: u64,
    /// Oids of published commits remembered, per storage. 1 Mi.
    pub remembered_oids: usize,
    /// Oids listed for a returning client; with more, it drops its cache. 1 Mi.
    pub catch_up_oids: usize,
    /// How long a stop waits for commits in progress. 4 s.
    pub stop: Duration,
    /// A panic in the commit stage ends the process, which a service manager restarts: what is on
    /// disk is safe, what is in memory may not be. The daemon sets it; off by default.
    pub abort_on_panic: bool,
}

impl Limits {
    /// What is wrong with them, if anything: with some of nothing a server would wait for ever.
    pub fn trouble(&self) -> Option<String> {
        let counts = [
            ("sessions", self.sessions),
            ("handshakes", self.handshakes),
            ("calls_in_flight", self.calls_in_flight),
            ("open_transactions", self.open_transactions),
            ("waiting_votes", self.waiting_votes),
            ("transaction_objects", self.transaction_objects),
            ("group_operations", self.group_operations),
            ("load_threads", self.load_threads),
            ("catch_up_oids", self.catch_up_oids),
        ];
        if let Some((name, _)) = counts.into_iter().find(|&(_, count)| count == 0) {
            return Some(format!("{name} is 0"));
        }
        let least = [
            ("output_bytes", self.output_bytes as u64, LEAST_OUTPUT),
            ("session_bytes", self.session_bytes as u64, LEAST_OUTPUT),
            ("group_bytes", self.group_bytes, 1),
            ("transaction_bytes", self.transaction_bytes, 1),
            ("buffered_bytes", self.buffered_bytes, 1),
        ];
        if let Some((name, bytes, least)) =
            least.into_iter().find(|(_, bytes, least)| bytes < least)
        {
            return Some(format!("{name} is {bytes}, less than {least}"));
        }
        if self.load_threads > MOST_THREADS {
            return Some(format!(
                "load_threads is {}, more than {MOST_THREADS}",
                self.load_threads
            ));
        }
        let times = [
            ("handshake", self.handshake),
            ("lock_wait", self.lock_wait),
            ("lock_hold", self.lock_hold),
        ];
        let zero = times.into_iter().find(|(_, time)| time.is_zero());
        zero.map(|(name, _)| format!("{name} is 0 s"))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 10_000,
            handshakes: 1_024,
            handshake: Duration::from_secs(10),
            calls_in_flight: 256,
            open_transactions: 1_024,
            waiting_votes: 1_024,
            lock_wait: Duration::from_secs(30),
            lock_hold: Duration::from_secs(30),
            transaction_bytes: 1 << 30,
            spill_bytes: 16 << 20,
            transaction_objects: 1 << 20,
            buffered_bytes: 1 << 30,
            session_bytes: 1 << 30,
            output_bytes: 64 << 20,
            group_operations: 1_024,
            group_bytes: 64 << 20,
            large_commit_bytes: 1 << 20,
            load_threads: 2,
            hot_bytes: 64 << 20,
            remembered_oids: 1 << 20,
            catch_up_oids: 1 << 20,
            stop: Duration::from_secs(4),
            abort_on_panic: false,
        }
    }
}

/// What one session must be able to hold: the output at which its loads wait, and as much again.
const LEAST_OUTPUT: u64 = 1 << 20;
const MOST_THREADS: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_make_sense() {
        assert_eq!(Limits::default().trouble(), None);
    }

    /// Without a thread for loads every load waited for ever.
    #[test]
    fn limits_of_nothing_are_refused() {
        let defaults = Limits::default();
        for limits in [
            Limits { load_threads: 0, ..defaults.clone() },
            Limits { load_threads: 1 << 20, ..defaults.clone() },
            Limits { calls_in_flight: 0, ..defaults.clone() },
            Limits { group_bytes: 0, ..defaults.clone() },
            Limits { output_bytes: 1_000, ..defaults.clone() },
            Limits { handshake: Duration::ZERO, ..defaults.clone() },
        ] {
            assert!(limits.trouble().is_some(), "{limits:?}");
        }
    }
}
