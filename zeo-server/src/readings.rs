//! Reading that is not a load: history, what is undone, what is in conflict. It is done in the
//! history stage, one piece at a time and in the order asked.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use zeo_reactor::{Context, JobPanicked};

use crate::database::{Database, DatabaseId, begin_job};
use crate::server::Server;
use crate::storage::Storage;

/// What of one database waits for the history stage, or is in it.
///
/// Bounded by the sessions, which may ask for one piece of history at a time each, and by the
/// transactions that they have open.
#[derive(Default)]
pub(crate) struct Readings {
    waiting: VecDeque<Begin>,
    is_running: bool,
}

/// Gives a piece of reading to the stage.
type Begin = Box<dyn FnOnce(&mut Context<Server>, &Database) + Send>;

impl Readings {
    /// Nothing waits and nothing is in the stage.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && !self.is_running
    }
}

impl Server {
    /// Has something read, as soon as it is its turn.
    pub(crate) fn read<R: Send + 'static>(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        work: impl FnOnce(&dyn Storage) -> R + Send + 'static,
        then: impl FnOnce(&mut Self, &mut Context<Self>, Result<R, JobPanicked>) + Send + 'static,
    ) {
        let then = move |server: &mut Self, cx: &mut Context<Self>, result| {
            server.databases.at_mut(id).readings.is_running = false;
            then(server, cx, result);
            server.pump_readings(cx, id);
            server.advance_stop(cx);
        };
        let begin = move |cx: &mut Context<Self>, database: &Database| {
            let storage = Arc::clone(&database.storage);
            begin_job(cx, database.stages.history, move || work(&*storage), then);
        };
        self.databases.at_mut(id).readings.waiting.push_back(Box::new(begin));
        self.pump_readings(cx, id);
    }

    /// Gives the next piece to the stage, unless one is in it.
    fn pump_readings(&mut self, cx: &mut Context<Self>, id: DatabaseId) {
        let readings = &mut self.databases.at_mut(id).readings;
        if readings.is_running {
            return;
        }
        let Some(begin) = readings.waiting.pop_front() else { return };
        readings.is_running = true;
        begin(cx, self.databases.at(id));
    }
}

impl fmt::Debug for Readings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readings")
            .field("waiting", &self.waiting.len())
            .field("is_running", &self.is_running)
            .finish()
    }
}
