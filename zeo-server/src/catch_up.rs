//! What a returning client has missed: from the memory of recent commits, else from the journal.
//!
//! A short list is put together in the reactor's turn, a longer one in the catch-up stage, encoded
//! as it is sent, one after the other, and no more than one at a time for a session: a list may
//! have a million oids, and the storage may have to read much for it.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use zeo_proto::{CallId, CatchUp, Failure, MAX_PAGE, Oid, Reply, ServerMessage, Tid};
use zeo_reactor::{Context, JobPanicked, give_way};

use crate::database::{DatabaseId, begin_job};
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
        if let Some(oids) = database.recent.few_changes_since(since, IN_TURN) {
            let (through, limit) = (database.published, self.limits.catch_up_oids);
            let frames = encode(caller.call, through, distinct(oids, limit));
            return self.tell_changes(cx, caller, frames);
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
            let work = move || -> Result<Vec<Bytes>, StorageError> {
                let changes = match recent {
                    Some(oids) => distinct(oids, limit),
                    None => storage.changes_since(since, through, limit)?,
                };
                Ok(encode(caller.call, through, changes))
            };
            let then = move |server: &mut Self, cx: &mut Context<Self>, result| {
                server.changes_found(cx, (id, caller), result);
            };
            database.catch_ups.is_running = true;
            begin_job(cx, database.stages.catch_up, work, then);
        }
    }

    fn changes_found(
        &mut self,
        cx: &mut Context<Self>,
        (id, caller): (DatabaseId, Caller),
        result: Result<Result<Vec<Bytes>, StorageError>, JobPanicked>,
    ) {
        self.databases.at_mut(id).catch_ups.is_running = false;
        if let Some(session) = self.sessions.get_mut(&caller.conn) {
            session.is_catching_up = false;
        }
        match result {
            Ok(Ok(frames)) => self.tell_changes(cx, caller, frames),
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

    fn tell_changes(&mut self, cx: &mut Context<Self>, caller: Caller, frames: Vec<Bytes>) {
        if let Some(transport) = cx.transport(caller.conn) {
            for frame in frames {
                transport.write_bytes(frame);
            }
            transport.yield_turn();
        }
        self.call_ended(cx, caller.conn);
    }
}

/// The frames of an answer, one a page.
fn encode(call: CallId, through: Tid, changes: Changes) -> Vec<Bytes> {
    match changes {
        Changes::Objects(oids) => encode_pages(call, through, oids),
        Changes::TooMany => vec![frame(call, CatchUp::TooOld { through })],
        Changes::NotOfThisHistory => vec![frame(call, CatchUp::NotOfThisHistory { through })],
    }
}

/// The last page, which may be empty, ends the call.
fn encode_pages(call: CallId, through: Tid, mut oids: Vec<Oid>) -> Vec<Bytes> {
    let mut frames = Vec::new();
    while oids.len() > MAX_PAGE {
        give_way();
        let rest = oids.split_off(MAX_PAGE);
        frames.push(frame(call, CatchUp::Page { through, oids, more: true }));
        oids = rest;
    }
    frames.push(frame(call, CatchUp::Page { through, oids, more: false }));
    frames
}

fn frame(call: CallId, page: CatchUp) -> Bytes {
    let mut frame = Vec::new();
    let message = ServerMessage::Reply(call, Reply::CatchUp(page));
    zeo_proto::encode_head(&message, 0, &mut frame).expect("a page fits a frame");
    frame.into()
}

/// Each object once, unless they are too many.
fn distinct(mut oids: Vec<Oid>, limit: usize) -> Changes {
    oids.sort_unstable();
    oids.dedup();
    if oids.len() > limit { Changes::TooMany } else { Changes::Objects(oids) }
}

/// Changes that are told in the turn in which they are asked for.
const IN_TURN: usize = 1_024;
/// Sessions that may wait for the catch-up stage; one more is told `Busy`.
const MAX_WAITING: usize = 1_024;
