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

/// Spins until `done`, for no more than 50 µs. Does not spin at all with one CPU, and gives up for
/// a while where spinning has not paid on this thread.
pub(crate) fn spin_until(mut done: impl FnMut() -> bool) -> bool {
    let limit = SPIN.get().next();
    if limit.is_zero() || !has_many_cpus() {
        return done();
    }
    let start = monotonic();
    let paid = loop {
        if (0..SPINS_PER_LOOK).any(|_| spin_once(&mut done)) {
            break true;
        }
        if monotonic().duration_since(start) >= limit {
            break done();
        }
        thread::yield_now();
    };
    SPIN.set(SPIN.get().after(paid));
    paid
}

fn spin_once(done: &mut impl FnMut() -> bool) -> bool {
    std::hint::spin_loop();
    done()
}

pub(crate) fn has_many_cpus() -> bool {
    static MANY: OnceLock<bool> = OnceLock::new();
    *MANY.get_or_init(|| thread::available_parallelism().is_ok_and(|cpus| cpus.get() > 1))
}

/// How long the next wait spins: up to [`SPIN_MAX`], halved each time it was in vain, and after
/// that only a try now and then.
#[derive(Clone, Copy)]
struct Spin {
    limit: Duration,
    skipped: u32,
}

impl Spin {
    fn next(self) -> Duration {
        match self.limit {
            limit if limit >= SPIN_MIN => limit,
            _ if self.skipped >= SKIPS_MAX => SPIN_MAX,
            _ => {
                SPIN.set(Self { skipped: self.skipped + 1, ..self });
                Duration::ZERO
            }
        }
    }

    fn after(self, paid: bool) -> Self {
        let limit = if paid { SPIN_MAX } else { self.limit / 2 };
        Self { limit, skipped: 0 }
    }
}

fn address(reactor: &Arc<Signal>) -> usize {
    Arc::as_ptr(reactor).addr()
}

thread_local! {
    static FORBIDDEN: Cell<u32> = const { Cell::new(0) };
    static RUNNING: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
    static SPIN: Cell<Spin> = const { Cell::new(Spin { limit: SPIN_MAX, skipped: 0 }) };
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
        let mut limits = Vec::new();
        for _ in 0..SKIPS_MAX + 10 {
            let limit = SPIN.get().next();
            limits.push(limit);
            if !limit.is_zero() {
                SPIN.set(SPIN.get().after(false));
            }
        }
        assert!(limits.first() > limits.get(1));
        assert!(limits.iter().filter(|limit| limit.is_zero()).count() >= SKIPS_MAX as usize);
        assert!(limits.iter().skip(4).any(|limit| *limit == SPIN_MAX), "{limits:?}");
    }
}
