//! Long work lets other threads have the CPU now and then.
//!
//! Where there are more threads than CPUs, and the kernel does not preempt, as those of servers
//! seldom do, a thread that only computes keeps its CPU for a slice of some milliseconds, whoever
//! waits for it. That is a hundred times what an answer takes.

use std::{
    cell::Cell,
    thread,
    time::{Duration, Instant},
};

use crate::time::monotonic;

/// Lets other threads have the CPU, if this one has worked for a while. It costs a look at the clock;
/// long work calls it every few microseconds.
///
/// Beside threads that never rest it works for as long as they did before it gives way again, so that
/// they do not get a CPU of which it needs its part.
pub fn give_way() {
    PACE.set(PACE.get().step(monotonic(), thread::yield_now));
}

/// Takes note that this thread has slept, or let others have the CPU, up to now.
pub(crate) fn rested(now: Instant) {
    PACE.set(PACE.get().rest(now));
}

/// Takes note of a wait that began at `before` and has just ended, if the thread has slept for it;
/// returns the time.
pub(crate) fn waited(before: Instant) -> Instant {
    let now = monotonic();
    if now.duration_since(before) >= SLEPT {
        rested(now);
    }
    now
}

#[derive(Clone, Copy)]
struct Pace {
    /// Since when the thread has been at work.
    since: Option<Instant>,
    /// What others took when it gave way last.
    taken: Duration,
}

impl Pace {
    const fn new() -> Self {
        Self { since: None, taken: Duration::ZERO }
    }

    /// What others took is forgotten little by little: they may be gone.
    fn rest(self, now: Instant) -> Self {
        Self { since: Some(now), taken: self.taken / 2 }
    }

    fn step(self, now: Instant, give: impl FnOnce()) -> Self {
        let Some(since) = self.since else { return Self { since: Some(now), ..self } };
        if now.duration_since(since) < self.taken.max(SHORT) {
            return self;
        }
        give();
        let after = monotonic();
        Self { since: Some(after), taken: after.duration_since(now).min(SLICE) }
    }
}

thread_local! {
    static PACE: Cell<Pace> = const { Cell::new(Pace::new()) };
}

/// What a thread may always work without giving way: less than it takes to wake another CPU.
const SHORT: Duration = Duration::from_micros(50);
/// A wait that was not shorter was no mere look.
const SLEPT: Duration = Duration::from_micros(10);
/// What schedulers give a thread at once; whoever got the CPU back later than that was stopped.
const SLICE: Duration = Duration::from_millis(4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_worked_for_a_while_gives_way() {
        let start = monotonic();
        let pace = Pace { since: Some(start), taken: Duration::ZERO };
        assert!(!gives(pace, start + SHORT / 2));
        assert!(gives(pace, start + SHORT));
        assert!(!gives(Pace::new(), start), "it begins");
    }

    /// Otherwise it would get a thirtieth of a CPU beside a thread that never rests.
    #[test]
    fn nobody_gets_more_than_who_gives_way() {
        let start = monotonic();
        let taken = SHORT * 30;
        let pace = Pace { since: Some(start), taken };
        assert!(!gives(pace, start + taken / 2));
        assert!(gives(pace, start + taken));
    }

    /// Threads whose work is never that long would not give way again in their lives.
    #[test]
    fn what_others_took_is_forgotten() {
        let start = monotonic();
        let mut pace = Pace { since: Some(start), taken: SLICE };
        assert!(!gives(pace, start + SHORT));
        for _ in 0..8 {
            pace = pace.rest(start);
        }
        assert!(gives(pace, start + SHORT));
    }

    fn gives(pace: Pace, now: Instant) -> bool {
        let mut gave = false;
        pace.step(now, || gave = true);
        gave
    }
}
