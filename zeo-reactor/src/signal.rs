//! Wakes a sleeping reactor, at the price of a system call only when it really sleeps.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering::SeqCst},
};

use crate::driver::Wake;

/// One atomic says whether the reactor runs, sleeps, has been notified, or has stopped.
///
/// **No wake-up is lost.** Whoever has news first publishes it (a push to the mailbox, the stop
/// flag) and then calls [`notify`](Self::notify); the reactor first leaves its wait with
/// [`end_wait`](Self::end_wait) and then looks for news. All four steps are sequentially
/// consistent, so either the notify comes first, and the look finds the news; or it comes after
/// `end_wait`, and then leaves `NOTIFIED` behind, with which the next
/// [`begin_wait`](Self::begin_wait) refuses to sleep. A notify that finds `WAITING` makes the
/// system call, and a driver keeps that wake-up until its next wait. A notify that finds
/// `NOTIFIED` may rely on the one that put it there: between the two the reactor has not left its
/// wait, so it has not looked yet.
pub(crate) struct Signal {
    state: AtomicU8,
    waker: Arc<dyn Wake>,
}

// Their order matters: a notify raises the state to NOTIFIED, and never lowers it.
const RUNNING: u8 = 0;
const WAITING: u8 = 1;
const NOTIFIED: u8 = 2;
const STOPPED: u8 = 3;

impl Signal {
    pub(crate) fn new(waker: Arc<dyn Wake>) -> Self {
        Self { state: AtomicU8::new(RUNNING), waker }
    }

    /// Makes the reactor look for news. `false` when it has stopped and never will.
    pub(crate) fn notify(&self) -> bool {
        let before = self.state.fetch_max(NOTIFIED, SeqCst);
        if before == WAITING {
            self.waker.wake();
        }
        before != STOPPED
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.state.load(SeqCst) == STOPPED
    }

    pub(crate) fn is_notified(&self) -> bool {
        self.state.load(SeqCst) == NOTIFIED
    }

    /// `false`: there is news, do not sleep. Only the reactor calls this, and what follows.
    pub(crate) fn begin_wait(&self) -> bool {
        self.state.compare_exchange(RUNNING, WAITING, SeqCst, SeqCst).is_ok()
    }

    pub(crate) fn end_wait(&self) {
        self.state.store(RUNNING, SeqCst);
    }

    pub(crate) fn stop(&self) {
        self.state.store(STOPPED, SeqCst);
    }

    pub(crate) fn restart(&self) {
        self.state.store(RUNNING, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn only_a_sleeper_is_woken_and_only_once() {
        let count = Arc::new(Count::default());
        let signal = Signal::new(Arc::clone(&count) as Arc<dyn Wake>);
        assert!(signal.notify(), "a running reactor hears of it without a system call");
        assert_eq!(count.wakes(), 0);
        assert!(!signal.begin_wait(), "there is news");
        signal.end_wait();
        assert!(signal.begin_wait());
        assert!(signal.notify() && signal.notify());
        assert_eq!(count.wakes(), 1);
    }

    #[test]
    fn a_stopped_reactor_is_never_woken() {
        let count = Arc::new(Count::default());
        let signal = Signal::new(Arc::clone(&count) as Arc<dyn Wake>);
        assert!(signal.begin_wait());
        signal.stop();
        assert!(!signal.notify());
        assert!(signal.is_stopped());
        assert_eq!(count.wakes(), 0);
    }

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Count {
        fn wakes(&self) -> usize {
            self.0.load(SeqCst)
        }
    }

    impl Wake for Count {
        fn wake(&self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
}
