//! What a returning client has missed: from the memory of recent commits, else from the journal.

use std::sync::Arc;

use zeo_proto::{CatchUp, Failure, MAX_PAGE, Oid, Reply, ServerMessage, Tid};
use zeo_reactor::{Context, JobPanicked};

use crate::outgoing::send;
use crate::server::Server;
use crate::session::Caller;
use crate::storage::{Changes, StorageError};

impl Server {
    /// Lists what was published after `since`. What is published while the storage looks for it
    /// reaches the client as invalidations of its own, which the client keeps until the answer.
    pub(crate) fn invalidations_since(
        &mut self,
        cx: &mut Context<Self>,
        caller: Caller,
        since: Tid,
    ) {
        let Some(id) = self.database_of(caller.conn) else { return };
        let limit = self.limits.catch_up_oids;
        let database = self.databases.at(id);
        let through = database.published;
        if let Some(oids) = database.recent.changes_since(since) {
            let changes =
                if oids.len() > limit { Changes::TooMany } else { Changes::Objects(oids) };
            return self.tell_changes(cx, caller, through, changes);
        }
        let storage = Arc::clone(&database.storage);
        let work = move || storage.changes_since(since, through, limit);
        let then = move |server: &mut Self, cx: &mut Context<Self>, result| {
            server.changes_found(cx, caller, through, result);
        };
        if cx.defer_to_stage(database.stages.catch_up, work, then).is_err() {
            self.fail(cx, caller, Failure::Busy);
        }
    }

    fn changes_found(
        &mut self,
        cx: &mut Context<Self>,
        caller: Caller,
        through: Tid,
        result: Result<Result<Changes, StorageError>, JobPanicked>,
    ) {
        match result {
            Ok(Ok(changes)) => self.tell_changes(cx, caller, through, changes),
            Ok(Err(error)) => {
                tracing::error!("catching up: {error}");
                self.fail(cx, caller, Failure::StorageFailed(error.to_string()));
            }
            Err(panicked) => {
                tracing::error!("catching up panicked: {panicked}");
                self.fail(cx, caller, Failure::StorageFailed(panicked.to_string()));
            }
        }
    }

    fn tell_changes(
        &mut self,
        cx: &mut Context<Self>,
        caller: Caller,
        through: Tid,
        changes: Changes,
    ) {
        let last = match changes {
            Changes::Objects(oids) => tell_all_but_last(cx, caller, through, oids),
            Changes::TooMany => CatchUp::TooOld { through },
            Changes::NotOfThisHistory => CatchUp::NotOfThisHistory { through },
        };
        self.reply(cx, caller, Reply::CatchUp(last));
    }
}

/// Sends all pages but the last, which is the one that ends the call.
fn tell_all_but_last(
    cx: &mut Context<Server>,
    caller: Caller,
    through: Tid,
    mut oids: Vec<Oid>,
) -> CatchUp {
    while oids.len() > MAX_PAGE {
        let rest = oids.split_off(MAX_PAGE);
        let page = CatchUp::Page { through, oids, more: true };
        let message = ServerMessage::Reply(caller.call, Reply::CatchUp(page));
        send(cx, caller.conn, &message, &bytes::Bytes::new());
        oids = rest;
    }
    CatchUp::Page { through, oids, more: false }
}
