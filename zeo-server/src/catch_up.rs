//! What a returning client has missed: from the memory of recent commits, else from the journal.
//!
//! A short list is put together in the reactor's turn, a longer one in the catch-up stage, one
//! after the other, and no more than one at a time for a session: a list may have a million oids,
//! and the storage may have to read much for it.

use std::collections::VecDeque;
use std::sync::Arc;

use zeo_proto::{CatchUp, Failure, MAX_PAGE, Oid, Reply, ServerMessage, Tid};
use zeo_reactor::{Context, JobPanicked};

use crate::database::{DatabaseId, begin_job};
use crate::outgoing::send;
use crate::server::Server;
use crate::session::Caller;
use crate::storage::{Changes, StorageError};

/// Look-ups of one database that wait for the catch-up stage, one a session.
#[derive(Debug, Default)]
pub(crate) struct CatchUps {
    waiting: VecDeque<(Caller, Tid)>,
    is_running: bool,
}

impl CatchUps {
    /// Nothing is in the stage.
    pub(crate) fn is_idle(&self) -> bool {
        !self.is_running
    }
}

impl Server {
    /// Lists what was published after `since`. What is published while the stage looks for it
    /// reaches the client as invalidations of its own, which the client keeps until the answer.
    pub(crate) fn invalidations_since(
        &mut self,
        cx: &mut Context<Self>,
        caller: Caller,
        since: Tid,
    ) {
        let Some(session) = self.sessions.get_mut(&caller.conn) else { return };
        let id = session.database;
        let database = self.databases.at_mut(id);
        if session.is_catching_up || database.catch_ups.waiting.len() >= MAX_WAITING {
            return self.fail(cx, caller, Failure::Busy);
        }
        if let Some(oids) = database.recent.changes_since(since)
            && oids.len() <= MAX_PAGE
        {
            let (through, limit) = (database.published, self.limits.catch_up_oids);
            return self.tell_changes(cx, caller, through, distinct(oids, limit));
        }
        session.is_catching_up = true;
        database.catch_ups.waiting.push_back((caller, since));
        self.pump_catch_ups(cx, id);
    }

    /// Gives the next look-up to the stage, unless one is in it.
    fn pump_catch_ups(&mut self, cx: &mut Context<Self>, id: DatabaseId) {
        let (database, limit) = (self.databases.at_mut(id), self.limits.catch_up_oids);
        while !database.catch_ups.is_running
            && let Some((caller, since)) = database.catch_ups.waiting.pop_front()
        {
            if !self.sessions.contains_key(&caller.conn) {
                continue;
            }
            let (storage, through) = (Arc::clone(&database.storage), database.published);
            let recent = database.recent.changes_since(since);
            let work = move || match recent {
                Some(oids) => Ok(distinct(oids, limit)),
                None => storage.changes_since(since, through, limit),
            };
            let then = move |server: &mut Self, cx: &mut Context<Self>, result| {
                server.changes_found(cx, (id, caller), through, result);
            };
            database.catch_ups.is_running = true;
            begin_job(cx, database.stages.catch_up, work, then);
        }
    }

    fn changes_found(
        &mut self,
        cx: &mut Context<Self>,
        (id, caller): (DatabaseId, Caller),
        through: Tid,
        result: Result<Result<Changes, StorageError>, JobPanicked>,
    ) {
        self.databases.at_mut(id).catch_ups.is_running = false;
        if let Some(session) = self.sessions.get_mut(&caller.conn) {
            session.is_catching_up = false;
        }
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
        self.pump_catch_ups(cx, id);
        self.advance_stop(cx);
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

/// Each object once, unless they are too many.
fn distinct(mut oids: Vec<Oid>, limit: usize) -> Changes {
    oids.sort_unstable();
    oids.dedup();
    if oids.len() > limit { Changes::TooMany } else { Changes::Objects(oids) }
}

/// Sessions that may wait for the catch-up stage; one more is told `Busy`.
const MAX_WAITING: usize = 1_024;
