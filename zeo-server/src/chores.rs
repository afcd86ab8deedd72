//! Background work that a storage asks for: moving the overlay into the index, preparing space.

use std::sync::Arc;
use std::time::Duration;

use zeo_reactor::{Context, JobPanicked};

use crate::database::DatabaseId;
use crate::server::Server;
use crate::storage::{Storage, StorageError};

/// Which chores of a database are being done, or wait after a failure.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct ChoresRunning {
    index: bool,
    prepare: bool,
}

impl ChoresRunning {
    /// Nothing is being done.
    pub(crate) fn is_idle(self) -> bool {
        !self.index && !self.prepare
    }
}

/// One kind of chore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chore {
    Index,
    Prepare,
}

impl Server {
    /// Starts whatever the storage asks for and is not being done.
    pub(crate) fn run_chores(&mut self, cx: &mut Context<Self>, id: DatabaseId) {
        let wanted = self.databases.at(id).storage.chores();
        if wanted.index {
            self.start_chore(cx, id, Chore::Index);
        }
        if wanted.prepare {
            self.start_chore(cx, id, Chore::Prepare);
        }
    }

    fn start_chore(&mut self, cx: &mut Context<Self>, id: DatabaseId, chore: Chore) {
        let database = self.databases.at_mut(id);
        let (running, stage) = match chore {
            Chore::Index => (&mut database.chores.index, database.stages.index),
            Chore::Prepare => (&mut database.chores.prepare, database.stages.prepare),
        };
        if self.stopping || core::mem::replace(running, true) {
            return;
        }
        let storage = Arc::clone(&database.storage);
        let work = move || do_chore(&*storage, chore);
        let then = move |server: &mut Self, cx: &mut Context<Self>, result| {
            server.chore_done(cx, id, chore, result);
        };
        cx.defer_to_stage(stage, work, then).expect("one chore of a kind is in its stage");
    }

    fn chore_done(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        chore: Chore,
        result: Result<Result<(), StorageError>, JobPanicked>,
    ) {
        let failure = match result {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(panicked) => Some(panicked.to_string()),
        };
        if chore == Chore::Index {
            self.databases.at_mut(id).commits.index_failure.clone_from(&failure);
        }
        match failure {
            None => self.chore_ended(cx, id, chore),
            Some(failure) => {
                tracing::error!(?chore, "a chore failed, it is tried again: {failure}");
                let again = move |server: &mut Self, cx: &mut Context<Self>| {
                    server.chore_ended(cx, id, chore);
                };
                cx.call_later(RETRY, again);
            }
        }
        self.pump_commits(cx, id);
        self.stop_if_done(cx);
    }

    fn chore_ended(&mut self, cx: &mut Context<Self>, id: DatabaseId, chore: Chore) {
        let running = &mut self.databases.at_mut(id).chores;
        match chore {
            Chore::Index => running.index = false,
            Chore::Prepare => running.prepare = false,
        }
        self.run_chores(cx, id);
    }
}

fn do_chore(storage: &dyn Storage, chore: Chore) -> Result<(), StorageError> {
    match chore {
        Chore::Index => storage.index_some(),
        Chore::Prepare => storage.prepare(),
    }
}

/// How long a chore that failed rests.
const RETRY: Duration = Duration::from_secs(1);
