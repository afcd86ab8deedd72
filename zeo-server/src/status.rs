//! The server's state for an operator, as JSON.

use serde_json::{Map, Value, json};
use zeo_proto::Reply;
use zeo_reactor::{Context, Time};

use crate::database::Database;
use crate::server::Server;
use crate::session::Caller;

impl Server {
    pub(crate) fn status(&mut self, cx: &mut Context<Self>, caller: Caller) {
        let status = self.status_json(cx.now());
        self.reply_with(cx, caller, Reply::Status, &status.into());
        // Such an answer costs as much as dozens of others.
        if let Some(transport) = cx.transport(caller.conn) {
            transport.yield_turn();
        }
    }

    /// One object a storage, under its name; the keys that ZEO's monitoring knows come first, those
    /// of the whole server last. `deploy/OPERATING.md` says what each means.
    pub(crate) fn status_json(&self, now: Time) -> String {
        let storages: Map<String, Value> = self
            .databases
            .iter()
            .map(|database| (database.name.clone(), self.database_status(database, now)))
            .collect();
        Value::Object(storages).to_string()
    }

    fn database_status(&self, database: &Database, now: Time) -> Value {
        let counters = database.counters;
        json!({
            "connections": database.audience.len(),
            "loads": counters.loads,
            "stores": counters.stores,
            "commits": counters.commits,
            "aborts": counters.aborts,
            "active_txns": database.open_transactions,
            "conflicts": counters.conflicts,
            "conflicts_resolved": 0,
            "waiting": database.commits.len(),
            "trouble": database.trouble,
            "last-transaction": database.published.to_string(),
            "identity": database.storage.identity().to_string(),
            "hot_loads": counters.hot_loads,
            "hot_bytes": database.hot.bytes(),
            "commit_groups": counters.groups,
            "remembered_oids": database.recent.len(),
            "sessions": self.sessions.len(),
            "handshakes": self.greeted.len(),
            "buffered_bytes": self.buffered_bytes,
            "session_bytes": self.memory.total(),
            "uptime_s": (now - self.started).as_secs(),
            "version": env!("CARGO_PKG_VERSION"),
        })
    }
}
