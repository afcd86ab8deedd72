//! Background work that a storage asks for: moving the overlay into the index, preparing space.

use std::sync::Arc;
use std::time::Duration;

use zeo_reactor::{Context, JobPanicked};

use crate::database::{DatabaseId, begin_job};
use crate::server::Server;
use crate::storage::{Storage, StorageError};

/// How it stands with each chore of a database.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct ChoreStates {
    index: ChoreState,
    prepare: ChoreState,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum ChoreState {
    #[default]
    Idle,
    /// It is in its stage.
    Running,
    /// It has failed, and will be tried again.
    Resting,
}

impl ChoreStates {
    /// Nothing is being done.
    pub(crate) fn none_runs(self) -> bool {
        self.index != ChoreState::Running && self.prepare != ChoreState::Running
    }

    fn of(&mut self, chore: Chore) -> &mut ChoreState {
        match chore {
            Chore::Index => &mut self.index,
            Chore::Prepare => &mut self.prepare,
        }
    }
}

/// One kind of chore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chore {
    Index,
    Prepare,
}

impl Server {
    /// Starts whatever the storage asks for and is not being done; in a stop, only as long as
    /// commits may wait for it.
    pub(crate) fn run_chores(&mut self, cx: &mut Context<Self>, id: DatabaseId) {
        let database = self.databases.at(id);
        if self.is_stopping() && database.commits.is_idle() {
            return;
        }
        let wanted = database.storage.chores();
        if wanted.index {
            self.start_chore(cx, id, Chore::Index);
        }
        // What is only read needs no space; its index is worth being brought up to date.
        if wanted.prepare && !self.databases.at(id).read_only {
            self.start_chore(cx, id, Chore::Prepare);
        }
    }

    fn start_chore(&mut self, cx: &mut Context<Self>, id: DatabaseId, chore: Chore) {
        let database = self.databases.at_mut(id);
        if *database.chores.of(chore) != ChoreState::Idle {
            return;
        }
        *database.chores.of(chore) = ChoreState::Running;
        let stage = match chore {
            Chore::Index => database.stages.index,
            Chore::Prepare => database.stages.prepare,
        };
        let storage = Arc::clone(&database.storage);
        let work = move || do_chore(&*storage, chore);
        let then = move |server: &mut Self, cx: &mut Context<Self>, result| {
            server.chore_done(cx, id, chore, result);
        };
        begin_job(cx, stage, work, then);
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
                *self.databases.at_mut(id).chores.of(chore) = ChoreState::Resting;
                let again = move |server: &mut Self, cx: &mut Context<Self>| {
                    server.chore_ended(cx, id, chore);
                };
                cx.call_later(RETRY, again);
            }
        }
        self.pump_commits(cx, id);
        self.advance_stop(cx);
    }

    fn chore_ended(&mut self, cx: &mut Context<Self>, id: DatabaseId, chore: Chore) {
        *self.databases.at_mut(id).chores.of(chore) = ChoreState::Idle;
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
