//! Many seeds, for somebody who watches: `tests/simulate` asks for them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::seeds::{hold, say, variable};

/// Runs `ZEO_SEEDS` seeds from `ZEO_FROM` on, in `ZEO_JOBS` threads, and goes on after a failure
/// until there are some.
#[test]
fn many() {
    let Some(count) = variable("ZEO_SEEDS") else { return };
    let first = variable("ZEO_FROM").unwrap_or(0);
    let progress = Progress::new(first, count);
    thread::scope(|scope| {
        for job in 0..variable("ZEO_JOBS").unwrap_or(1) {
            let name = format!("job {job}");
            let work = || progress.work();
            thread::Builder::new().name(name).spawn_scoped(scope, work).expect("a thread");
        }
    });
    let failures = progress.failures.load(Relaxed);
    say(&format!("{count} seeds from {first} in {:?}: {failures} fail", progress.begun.elapsed()));
    assert_eq!(failures, 0, "seeds that fail");
}

/// How far all jobs together are.
struct Progress {
    begun: Instant,
    next: AtomicU64,
    first: u64,
    count: u64,
    failures: AtomicU64,
    /// Seconds after which something is said again.
    say_at: AtomicU64,
}

impl Progress {
    #[expect(clippy::disallowed_methods, reason = "for a person who waits, and nothing else")]
    fn new(first: u64, count: u64) -> Self {
        Self {
            begun: Instant::now(),
            next: AtomicU64::new(first),
            first,
            count,
            failures: AtomicU64::new(0),
            say_at: AtomicU64::new(SAY_EVERY),
        }
    }

    fn work(&self) {
        while self.failures.load(Relaxed) < FAILURES_MAX {
            let seed = self.next.fetch_add(1, Relaxed);
            if seed >= self.first + self.count {
                return;
            }
            if catch_unwind(AssertUnwindSafe(|| hold(seed))).is_err() {
                self.failures.fetch_add(1, Relaxed);
            }
            self.say_how_far(seed + 1 - self.first);
        }
    }

    fn say_how_far(&self, done: u64) {
        let elapsed = self.begun.elapsed();
        let due = self.say_at.load(Relaxed);
        if elapsed < Duration::from_secs(due) {
            return;
        }
        if self.say_at.fetch_max(elapsed.as_secs() + SAY_EVERY, Relaxed) != due {
            return;
        }
        let left = elapsed.mul_f64(ratio(self.count - done, done));
        let rate = ratio(done, elapsed.as_secs());
        let failures = self.failures.load(Relaxed);
        let (count, minutes) = (self.count, left.as_secs().div_ceil(60));
        say(&format!("{done} of {count} seeds, {rate:.0}/s, {failures} fail, {minutes} min left"));
    }
}

#[expect(clippy::cast_precision_loss, reason = "for a person")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// Seconds between two lines.
const SAY_EVERY: u64 = 10;
/// After so many it is not worth going on.
const FAILURES_MAX: u64 = 10;
