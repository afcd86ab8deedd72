//! The start of a turn: the reactor polls for a moment where something is expected, and else sleeps.

use std::{io, sync::Arc, time::Duration};

use super::Reactor;
use crate::{Context, blocking::Spin, driver::Ready, pace, signal::Signal, time::monotonic};

/// Polling in place of sleeping, learned apart for each of the two things that are worth it.
#[derive(Debug)]
pub(super) struct Polling {
    /// For an answer in flight.
    for_answer: Spin,
    /// For the next call, right after an answer: who asks for one thing after the other asks again
    /// at once.
    for_call: Spin,
}

impl Polling {
    pub(super) const fn new() -> Self {
        Self { for_answer: Spin::new(), for_call: Spin::new() }
    }

    /// How to poll before this sleep, if anything is expected.
    fn spin(&mut self, busy: bool, lingering: bool) -> Option<&mut Spin> {
        match (busy, lingering) {
            (true, _) => Some(&mut self.for_answer),
            (false, true) => Some(&mut self.for_call),
            (false, false) => None,
        }
    }

    /// Whether there was something to do before it was time to sleep.
    fn poll<S: 'static>(
        &mut self,
        cx: &mut Context<S>,
        signal: &Signal,
        ready: &mut Vec<Ready>,
    ) -> io::Result<bool> {
        let (busy, lingering) = cx.expected();
        let Some(spin) = self.spin(busy, lingering) else { return Ok(false) };
        let mut result = Ok(());
        let paid = spin.until(|| {
            result = cx.driver.wait(Some(Duration::ZERO), ready);
            result.is_err() || !ready.is_empty() || signal.is_notified()
        });
        result.map(|()| paid)
    }
}

impl<S: 'static> Reactor<S> {
    /// Waits for something to do, for no longer than `limit`.
    pub(super) fn wait(&mut self, limit: Option<Duration>) -> io::Result<()> {
        let Self { cx, ready, polling, .. } = self;
        let owns_thread = limit != Some(Duration::ZERO);
        let limit = if cx.has_work() { Some(Duration::ZERO) } else { until_due(cx, limit) };
        let signal = Arc::clone(&cx.mailbox.signal);
        let may_sleep = limit != Some(Duration::ZERO);
        if may_sleep && polling.poll(cx, &signal, ready)? {
            signal.end_wait();
            pace::rested(monotonic());
            return Ok(());
        }
        let sleeps = may_sleep && signal.begin_wait();
        // A host whose loop drives this reactor rests when it sees fit.
        if owns_thread && !sleeps {
            pace::give_way();
        }
        let before = monotonic();
        let result = cx.driver.wait(if sleeps { limit } else { Some(Duration::ZERO) }, ready);
        signal.end_wait();
        pace::waited(before);
        result
    }
}

pub(super) fn until_due<S: 'static>(cx: &Context<S>, limit: Option<Duration>) -> Option<Duration> {
    let due = cx.next_deadline().map(|at| at - cx.driver.now());
    [due, limit].into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use crate::{MioDriver, Reactor};

    #[test]
    fn it_polls_while_something_is_expected_and_once_after() {
        let mut reactor = Reactor::new(MioDriver::new().unwrap(), ());
        let polls = [None, Some(true), None, Some(false), None].map(|busy| {
            reactor.with(|(), cx| busy.into_iter().for_each(|busy| cx.set_busy(busy)));
            polls(&mut reactor)
        });
        assert_eq!(polls, [false, true, true, true, false]);
    }

    #[test]
    fn it_polls_once_where_something_may_follow() {
        let mut reactor = Reactor::new(MioDriver::new().unwrap(), ());
        reactor.with(|(), cx| cx.linger());
        assert_eq!([polls(&mut reactor), polls(&mut reactor)], [true, false]);
    }

    /// Whether the reactor would poll before its next sleep.
    fn polls(reactor: &mut Reactor<()>) -> bool {
        let (busy, lingering) = reactor.cx.expected();
        reactor.polling.spin(busy, lingering).is_some()
    }
}
