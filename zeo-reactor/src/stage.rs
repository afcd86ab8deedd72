//! Stages: named, bounded pools for work that may block, whose results come back to the reactor.

use std::{
    any::Any,
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use crate::{
    Context,
    arena::Key,
    context::Stopping,
    driver::{Delivery, Pool, Waits, Work},
};

/// What a stage is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageConfig {
    /// The name of its threads, which get numbers.
    pub name: &'static str,
    /// How many threads; at least one.
    pub threads: usize,
    /// How many jobs there may be, from submission until their `then` begins.
    pub bound: usize,
}

/// Names a stage of one reactor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StageId(pub(crate) Key);

/// The stage has as many jobs as it may, or has ended; the job was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stage is full")]
pub struct StageFull;

/// A job panicked; the message is the panic's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a job panicked: {0}")]
pub struct JobPanicked(pub String);

impl<S: 'static> Context<S> {
    /// Starts a stage; it ends with the reactor.
    pub fn start_stage(&mut self, config: StageConfig) -> io::Result<StageId> {
        let pool = self.driver.start_stage(&config)?;
        Ok(StageId(self.stages.insert(Stage::new(&config, pool))))
    }

    /// Runs `work` in a stage, and then, in a later turn, `then` here.
    ///
    /// When the reactor stops first, a job that has not begun is dropped, and so is `then`.
    ///
    /// # Errors
    ///
    /// [`StageFull`] drops both; ask for [`stage_room`](Self::stage_room) where that matters.
    pub fn defer_to_stage<R: Send + 'static>(
        &mut self,
        stage: StageId,
        work: impl FnOnce() -> R + Send + 'static,
        then: impl FnOnce(&mut S, &mut Self, Result<R, JobPanicked>) + Send + 'static,
    ) -> Result<(), StageFull> {
        if self.stage_room(stage) == 0 {
            return Err(StageFull);
        }
        let mailbox = Arc::clone(&self.mailbox);
        let job = job(work, move |result| {
            mailbox.deliver(Box::new(move |shared, cx| {
                cx.job_done(stage);
                then(shared, cx, result);
            }));
        });
        self.stages.get_mut(stage.0).ok_or(StageFull)?.submit(job);
        Ok(())
    }

    /// How many more jobs a stage takes. None when the reactor is stopping and nothing holds that
    /// back any more.
    pub fn stage_room(&self, stage: StageId) -> usize {
        let open = self.stages.get(stage.0).filter(|_| self.stopping != Stopping::Begun);
        open.map_or(0, Stage::room)
    }

    /// How it stands with a stage; `None` when it has ended.
    pub fn stage_report(&self, stage: StageId) -> Option<StageReport> {
        self.stages.get(stage.0).map(Stage::report)
    }

    fn job_done(&mut self, stage: StageId) {
        if let Some(stage) = self.stages.get_mut(stage.0) {
            stage.done();
        }
    }
}

/// How it stands with a stage, and how it went so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageReport {
    /// Its name.
    pub name: &'static str,
    /// Jobs from submission until their `then` begins.
    pub jobs: usize,
    /// How many of these there may be.
    pub bound: usize,
    /// Jobs that wait for a thread.
    pub waiting: usize,
    /// Jobs that have begun, since the stage was started.
    pub begun: u64,
    /// What those have waited for a thread, all together.
    pub waited: Duration,
    /// What one of those has waited at most.
    pub longest_wait: Duration,
    /// What jobs have worked whose `then` has begun or is about to, all together. With one job at
    /// a time it is the next `then` that learns by this how long its own work took.
    pub worked: Duration,
}

/// The reactor's side of a stage: its threads, and a count of what is in them.
pub(crate) struct Stage {
    name: &'static str,
    pool: Box<dyn Pool>,
    jobs: usize,
    bound: usize,
    submitted: u64,
}

impl Stage {
    pub(crate) fn new(config: &StageConfig, pool: Box<dyn Pool>) -> Self {
        Self { name: config.name, pool, jobs: 0, bound: config.bound, submitted: 0 }
    }

    /// Adds a job; whoever calls this has seen that there is room.
    pub(crate) fn submit(&mut self, job: Work) {
        self.jobs += 1;
        self.submitted += 1;
        self.pool.submit(job);
    }

    /// The result of a job has come back.
    pub(crate) fn done(&mut self) {
        self.jobs -= 1;
    }

    /// Drops the jobs that have not begun, and waits for the others.
    pub(crate) fn end(&mut self) {
        self.pool.shutdown();
    }

    pub(crate) fn report(&self) -> StageReport {
        let Waits { begun, total, longest, worked } = self.pool.waits();
        StageReport {
            name: self.name,
            jobs: self.jobs,
            bound: self.bound,
            waiting: usize::try_from(self.submitted.saturating_sub(begun)).unwrap_or(usize::MAX),
            begun,
            waited: total,
            longest_wait: longest,
            worked,
        }
    }

    pub(crate) const fn room(&self) -> usize {
        self.bound.saturating_sub(self.jobs)
    }
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage").field("jobs", &self.jobs).finish_non_exhaustive()
    }
}

/// Joins the two halves of a job; a panic in the first is a result like any other.
pub(crate) fn job<R: Send + 'static>(
    work: impl FnOnce() -> R + Send + 'static,
    deliver: impl FnOnce(Result<R, JobPanicked>) + Send + 'static,
) -> Work {
    Box::new(move || -> Delivery {
        // What the job had borrowed of the world is gone with it: nobody sees it half changed.
        let result =
            catch_unwind(AssertUnwindSafe(work)).map_err(|panic| JobPanicked(message(&*panic)));
        Box::new(move || deliver(result))
    })
}

/// What a panic said.
pub(crate) fn message(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "no message".to_owned(),
    }
}
