//! What a server holds, counted, so that a simulation can see that nothing leaks.

use crate::database::Database;
use crate::server::Server;
use crate::session::Session;

/// How much a server has under way. Beside the sessions all of it is zero when nobody waits for
/// anything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Clients.
    pub sessions: usize,
    /// Sessions that hear of commits.
    pub audience: usize,
    /// Connections that have not introduced themselves.
    pub handshakes: usize,
    /// Calls that have no answer yet.
    pub calls: usize,
    /// Transactions that are open, as the databases and as the sessions count them.
    pub transactions: [usize; 2],
    /// Operations that wait for the commit stage.
    pub commits: usize,
    /// Votes that hold object locks or wait for them, and how many objects those are.
    pub locks: [usize; 2],
    /// Bytes of transactions that are open or wait for the commit stage.
    pub transaction_bytes: u64,
    /// Bytes in the ledger of what connections hold.
    pub ledger_bytes: usize,
    /// Databases of which something is in a stage.
    pub at_work: usize,
}

impl Server {
    /// What is under way now.
    pub fn held(&self) -> Held {
        let (sessions, databases) = (self.sessions.values(), || self.databases.iter());
        let open = |session: &Session| session.transactions.len();
        Held {
            sessions: self.sessions.len(),
            audience: databases().map(|database| database.audience.len()).sum(),
            handshakes: self.greeted.len(),
            calls: sessions.clone().map(|session| session.calls_in_flight).sum(),
            transactions: [
                databases().map(|database| database.open_transactions).sum(),
                sessions.map(open).sum(),
            ],
            commits: databases().map(|database| database.commits.len()).sum(),
            locks: [
                databases().map(|database| database.votes.len()).sum(),
                databases().map(|database| database.votes.locked_objects()).sum(),
            ],
            transaction_bytes: self.buffered_bytes,
            ledger_bytes: self.memory.total(),
            at_work: databases().filter(|database| is_at_work(database)).count(),
        }
    }
}

fn is_at_work(database: &Database) -> bool {
    !database.commits.is_idle()
        || !database.loads.is_idle()
        || !database.catch_ups.is_idle()
        || !database.spills.have_no_votes()
        || !database.undos.have_no_votes()
        || !database.readings.is_idle()
        || !database.chores.none_runs()
}
