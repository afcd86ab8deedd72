//! Stopping in order: nothing new is taken on, commits in progress finish, sessions end, storages
//! are closed.

use std::sync::Arc;

use zeo_proto::Goodbye;
use zeo_reactor::{ConnId, Context};

use crate::database::{Database, DatabaseId, begin_job};
use crate::server::Server;

/// How far a server is on its way to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It has not begun to stop.
    Serving,
    /// It takes nothing new on; commits finish, and chores that they may wait for.
    Committing,
    /// There are no sessions any more; what is read for them finishes.
    Reading,
    /// Nothing is in progress any more, and storages are being closed; these are still to be.
    Closing(Vec<DatabaseId>),
}

impl Server {
    /// Begins to stop; the reactor ends when what is in progress has finished, or when
    /// [`Limits::stop`](crate::Limits::stop) is over.
    pub(crate) fn stop(&mut self, cx: &mut Context<Self>) {
        if self.is_stopping() {
            return;
        }
        tracing::info!(sessions = self.sessions.len(), "stopping");
        self.phase = Phase::Committing;
        // Who has been told that its vote holds gets some time to finish.
        cx.call_later(self.limits.stop / 2, |server, cx| {
            for id in server.databases.ids() {
                server.abort_votes(cx, id);
            }
            server.advance_stop(cx);
        });
        cx.call_later(self.limits.stop, |_, cx| {
            tracing::warn!("stopping without waiting any longer");
            cx.stop();
        });
        self.advance_stop(cx);
    }

    /// Whether nothing new is taken on.
    pub(crate) fn is_stopping(&self) -> bool {
        self.phase != Phase::Serving
    }

    /// Goes on with a stop, if what it waits for has finished.
    pub(crate) fn advance_stop(&mut self, cx: &mut Context<Self>) {
        if self.phase == Phase::Committing && self.databases.iter().all(has_committed) {
            self.phase = Phase::Reading;
            self.dismiss_all(cx);
        }
        if self.phase == Phase::Reading && self.databases.iter().all(is_unused) {
            self.phase = Phase::Closing(self.databases.ids().collect());
            self.close_next(cx);
        }
    }

    fn dismiss_all(&mut self, cx: &mut Context<Self>) {
        let conns: Vec<ConnId> = self.sessions.keys().copied().collect();
        for conn in conns {
            self.dismiss(cx, conn, Goodbye::Stopping);
        }
    }

    /// Closes the storages one after the other, then stops the reactor.
    fn close_next(&mut self, cx: &mut Context<Self>) {
        let Phase::Closing(unclosed) = &mut self.phase else { return };
        let Some(id) = unclosed.pop() else { return cx.stop() };
        let database = self.databases.at(id);
        let storage = Arc::clone(&database.storage);
        let name = database.name.clone();
        let work = move || storage.close();
        let then = move |server: &mut Self, cx: &mut Context<Self>, result| {
            match result {
                Ok(Ok(())) => tracing::info!(storage = name, "closed"),
                Ok(Err(error)) => tracing::error!(storage = name, "closing storage: {error}"),
                Err(panicked) => {
                    tracing::error!(storage = name, "closing storage panicked: {panicked}")
                }
            }
            server.close_next(cx);
        };
        begin_job(cx, database.stages.prepare, work, then);
    }
}

fn has_committed(database: &Database) -> bool {
    database.spills.have_no_votes()
        && database.undos.have_no_votes()
        && database.votes.is_idle()
        && database.commits.is_idle()
        && database.chores.none_runs()
}

fn is_unused(database: &Database) -> bool {
    database.loads.is_idle() && database.catch_ups.is_idle() && database.readings.is_idle()
}

#[cfg(test)]
mod tests {
    use zeo_reactor::MioDriver;

    use super::*;
    use crate::commit_queue::Waiter;
    use crate::storage::Operation;

    /// Its stages are full then, which was taken for a bug.
    #[test]
    fn a_reactor_that_is_stopping_begins_no_job() {
        let builder = Server::builder().memory_storage("main");
        let (mut reactor, _) = builder.build(MioDriver::new().unwrap()).unwrap();
        reactor.with(|server, cx| {
            let id = server.databases.ids().next().unwrap();
            cx.stop();
            server.enqueue(cx, id, Operation::ReserveOids(1), Waiter::Oids(1));
            server.stop(cx);
        });
        assert!(reactor.turn(None).unwrap().stopped);
    }
}
