//! Real threads for a stage.

use std::{
    fmt, io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{Builder, JoinHandle},
    time::Instant,
};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::{Pool, Waits, Work};
use crate::{StageConfig, pace, time::monotonic};

/// Named threads that take jobs from one queue. The queue's bound is the stage's: the reactor
/// counts jobs before it submits them.
pub(crate) struct ThreadPool {
    jobs: Option<Sender<(Instant, Work)>>,
    waits: Arc<Mutex<Waits>>,
    closing: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl ThreadPool {
    pub(crate) fn start(config: &StageConfig) -> io::Result<Self> {
        let (sender, receiver) = unbounded();
        let closing = Arc::new(AtomicBool::new(false));
        let (jobs, waits) = (Some(sender), Arc::default());
        let mut pool = Self { jobs, waits, closing, threads: Vec::new() };
        for number in 0..config.threads.max(1) {
            pool.add_thread(format!("{}-{number}", config.name), receiver.clone())?;
        }
        Ok(pool)
    }

    fn add_thread(&mut self, name: String, jobs: Receiver<(Instant, Work)>) -> io::Result<()> {
        let (waits, closing) = (Arc::clone(&self.waits), Arc::clone(&self.closing));
        let thread = Builder::new().name(name).spawn(move || work(&jobs, &waits, &closing))?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Pool for ThreadPool {
    fn submit(&mut self, job: Work) {
        if let Some(jobs) = &self.jobs {
            jobs.send((monotonic(), job))
                .expect("the pool's threads hold receivers until it is shut down");
        }
    }

    fn shutdown(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
        self.jobs = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of a stage has panicked outside its job");
            }
        }
    }

    fn waits(&self) -> Waits {
        *lock(&self.waits)
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadPool").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}

fn work(jobs: &Receiver<(Instant, Work)>, waits: &Mutex<Waits>, closing: &AtomicBool) {
    loop {
        let before = monotonic();
        let Ok((submitted, job)) = jobs.recv() else { return };
        let begun = pace::waited(before);
        lock(waits).add(begun.duration_since(submitted));
        if !closing.load(Ordering::SeqCst) {
            let delivery = job();
            lock(waits).add_work(monotonic().duration_since(begun));
            delivery();
        }
    }
}

fn lock(waits: &Mutex<Waits>) -> MutexGuard<'_, Waits> {
    waits.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::hint;

    use crossbeam_channel::bounded;

    use super::*;

    #[test]
    fn a_shutdown_waits_for_the_running_job_and_drops_the_queued_one() {
        let config = StageConfig { name: "pool", threads: 1, bound: 2 };
        let mut pool = ThreadPool::start(&config).unwrap();
        let (ran, runs) = bounded(2);
        let (begun, begins) = bounded(1);
        let (closing, queued) = (Arc::clone(&pool.closing), ran.clone());
        pool.submit(Box::new(move || {
            begun.send(()).unwrap();
            while !closing.load(Ordering::SeqCst) {
                hint::spin_loop();
            }
            Box::new(move || ran.send("running").unwrap())
        }));
        pool.submit(Box::new(|| Box::new(move || queued.send("queued").unwrap())));
        begins.recv().unwrap();
        pool.shutdown();
        assert_eq!(runs.iter().collect::<Vec<_>>(), ["running"]);
    }
}
