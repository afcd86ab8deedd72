//! Stopping in order: nothing new is taken on, commits in progress finish, storages are closed.

use std::sync::Arc;

use zeo_proto::Goodbye;
use zeo_reactor::{ConnId, Context};

use crate::server::Server;

impl Server {
    /// Begins to stop; the reactor ends when what is in progress has finished, or when
    /// [`Limits::stop`](crate::Limits::stop) is over.
    pub(crate) fn stop(&mut self, cx: &mut Context<Self>) {
        if core::mem::replace(&mut self.stopping, true) {
            return;
        }
        tracing::info!(sessions = self.sessions.len(), "stopping");
        cx.call_later(self.limits.stop, |_, cx| {
            tracing::warn!("stopping without waiting any longer");
            cx.stop();
        });
        self.stop_if_done(cx);
    }

    /// Goes on with a stop when nothing is in progress any more.
    pub(crate) fn stop_if_done(&mut self, cx: &mut Context<Self>) {
        let busy = |database: &crate::database::Database| {
            !database.commits.is_idle() || !database.chores.is_idle()
        };
        if !self.stopping || self.closing || self.databases.iter().any(busy) {
            return;
        }
        self.closing = true;
        self.unclosed = self.databases.ids().collect();
        let conns: Vec<ConnId> = self.sessions.keys().copied().collect();
        for conn in conns {
            self.dismiss(cx, conn, Goodbye::Stopping);
        }
        self.close_next(cx);
    }

    /// Closes the storages one after the other, then stops the reactor.
    fn close_next(&mut self, cx: &mut Context<Self>) {
        let Some(id) = self.unclosed.pop() else { return cx.stop() };
        let database = self.databases.at(id);
        let storage = Arc::clone(&database.storage);
        let name = database.name.clone();
        let work = move || storage.close();
        let then = move |server: &mut Self, cx: &mut Context<Self>, result| {
            match result {
                Ok(Ok(())) => tracing::info!(storage = name, "closed"),
                Ok(Err(error)) => tracing::error!(storage = name, "closing: {error}"),
                Err(panicked) => tracing::error!(storage = name, "closing panicked: {panicked}"),
            }
            server.close_next(cx);
        };
        if cx.defer_to_stage(database.stages.prepare, work, then).is_err() {
            cx.stop();
        }
    }
}
