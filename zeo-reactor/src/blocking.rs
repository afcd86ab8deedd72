//! Which threads may wait: a thread's own record of what must not block on it, and of how well
//! spinning has paid.

use std::{
    cell::{Cell, RefCell},
    fmt,
    marker::PhantomData,
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use crate::{signal::Signal, time::monotonic};

/// Until the guard is dropped, every wait on this thread for a [`Deferred`](crate::Deferred) that
/// has not fired fails with [`WaitError::WouldDeadlock`](crate::WaitError). Guards nest.
pub fn forbid_blocking() -> NoBlocking {
    FORBIDDEN.with(|count| count.set(count.get() + 1));
    NoBlocking(PhantomData)
}

/// Whether this thread must not block: under [`forbid_blocking`], or running a private reactor.
pub fn is_blocking_forbidden() -> bool {
    FORBIDDEN.get() > 0
}

/// Ends what [`forbid_blocking`] began. It stays on its thread.
#[must_use = "blocking is allowed again when this is dropped"]
pub struct NoBlocking(PhantomData<*const ()>);

impl Drop for NoBlocking {
    fn drop(&mut self) {
        FORBIDDEN.with(|count| count.set(count.get() - 1));
    }
}

impl fmt::Debug for NoBlocking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NoBlocking")
    }
}

/// This thread runs a reactor until the guard is dropped.
pub(crate) struct Running(Option<NoBlocking>);

impl Running {
    pub(crate) fn enter(reactor: &Arc<Signal>, private: bool) -> Self {
        RUNNING.with_borrow_mut(|stack| stack.push(address(reactor)));
        Self(private.then(forbid_blocking))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.with_borrow_mut(Vec::pop);
        self.0 = None;
    }
}

/// Whether this thread is in a turn of `reactor`, perhaps in one nested in another's.
pub(crate) fn is_running(reactor: &Arc<Signal>) -> bool {
    RUNNING.with_borrow(|stack| stack.contains(&address(reactor)))
}

/// Spins until `done`, where that has paid on this thread.
pub(crate) fn spin_until(mut done: impl FnMut() -> bool) -> bool {
    let mut spin = SPIN.get();
    let paid = spin.until(|| (0..SPINS_PER_LOOK).any(|_| spin_once(&mut done)));
    SPIN.set(spin);
    paid
}

fn spin_once(done: &mut impl FnMut() -> bool) -> bool {
    std::hint::spin_loop();
    done()
}

fn has_many_cpus() -> bool {
    static MANY: OnceLock<bool> = OnceLock::new();
    *MANY.get_or_init(|| thread::available_parallelism().is_ok_and(|cpus| cpus.get() > 1))
}

/// Waiting without sleeping: for up to [`SPIN_MAX`], halved each time it was in vain, and after
/// that only a try now and then. With one CPU there is none at all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spin {
    limit: Duration,
    skipped: u32,
}

impl Spin {
    pub(crate) const fn new() -> Self {
        Self { limit: SPIN_MAX, skipped: 0 }
    }

    /// Lets other threads run and asks `done`, again and again. Others come first: with whoever is
    /// to bring the result on the same CPU, looking is in vain until then. `false` when all was in
    /// vain, or was not tried.
    pub(crate) fn until(&mut self, mut done: impl FnMut() -> bool) -> bool {
        let limit = if has_many_cpus() { self.next() } else { Duration::ZERO };
        if limit.is_zero() {
            return false;
        }
        let start = monotonic();
        let mut paid = false;
        while !paid && monotonic().duration_since(start) < limit {
            thread::yield_now();
            paid = done();
        }
        self.tried(paid);
        paid
    }

    /// How long to spin now.
    fn next(&mut self) -> Duration {
        if self.limit >= SPIN_MIN {
            return self.limit;
        }
        self.skipped += 1;
        if self.skipped > SKIPS_MAX { SPIN_MAX } else { Duration::ZERO }
    }

    fn tried(&mut self, paid: bool) {
        *self = if paid { Self::new() } else { Self { limit: self.limit / 2, skipped: 0 } };
    }
}

fn address(reactor: &Arc<Signal>) -> usize {
    Arc::as_ptr(reactor).addr()
}

thread_local! {
    static FORBIDDEN: Cell<u32> = const { Cell::new(0) };
    static RUNNING: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
    static SPIN: Cell<Spin> = const { Cell::new(Spin::new()) };
}

/// About what waking a sleeping thread costs.
const SPIN_MAX: Duration = Duration::from_micros(50);
const SPIN_MIN: Duration = Duration::from_micros(5);
const SKIPS_MAX: u32 = 64;
const SPINS_PER_LOOK: u32 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guards_nest() {
        let outer = forbid_blocking();
        drop(forbid_blocking());
        assert!(is_blocking_forbidden());
        drop(outer);
        assert!(!is_blocking_forbidden());
    }

    #[test]
    fn spinning_in_vain_stops_and_is_tried_again() {
        let (mut spin, mut limits) = (Spin::new(), Vec::new());
        for _ in 0..SKIPS_MAX + 10 {
            let limit = spin.next();
            limits.push(limit);
            if !limit.is_zero() {
                spin.tried(false);
            }
        }
        assert!(limits.first() > limits.get(1));
        assert!(limits.iter().filter(|limit| limit.is_zero()).count() >= SKIPS_MAX as usize);
        assert!(limits.iter().skip(4).any(|limit| *limit == SPIN_MAX), "{limits:?}");
    }
}
