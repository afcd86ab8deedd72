//! Questions that may be asked again after a reconnect without harm: ping, sync, outcome, size.

use std::collections::BTreeMap;
use std::time::Duration;

use zeo_proto::{Call, Failure, Outcome, Size, Tid};
use zeo_reactor::DeferredSender;

use crate::error::{CallError, InDoubt};

use super::calls::Asked;
use super::{Cx, State, Waiter, call_error, fraction};

/// The questions that somebody waits for.
#[derive(Debug, Default)]
pub(super) struct Asks {
    asks: BTreeMap<u64, Ask>,
    last: u64,
}

/// A question, and where its answer goes.
#[derive(Debug)]
enum Ask {
    Ping(Waiter<Result<(), CallError>>),
    Sync(Waiter<Result<Tid, CallError>>),
    Outcome(InDoubt, Waiter<Result<Outcome, CallError>>),
    Size(Waiter<Result<Size, CallError>>),
}

impl Ask {
    fn fail(self, cx: &mut Cx, why: CallError) {
        match self {
            Self::Ping(waiter) => waiter.send(cx, Err(why)),
            Self::Sync(waiter) => waiter.send(cx, Err(why)),
            Self::Outcome(_, waiter) => waiter.send(cx, Err(why)),
            Self::Size(waiter) => waiter.send(cx, Err(why)),
        }
    }
}

#[cfg(feature = "sim")]
impl Asks {
    pub(super) fn len(&self) -> usize {
        self.asks.len()
    }
}

impl State {
    pub(crate) fn ping(&mut self, cx: &mut Cx, sender: DeferredSender<Result<(), CallError>>) {
        self.ask(cx, sender, Ask::Ping);
    }

    pub(super) fn ponged(&mut self, cx: &mut Cx, number: u64) {
        if let Some(Ask::Ping(waiter)) = self.asks.asks.remove(&number) {
            waiter.send(cx, Ok(()));
        }
    }

    /// Asks for the last tid. Whatever was published before the server answers arrives before the
    /// answer, so afterwards it is all applied.
    pub(crate) fn sync(&mut self, cx: &mut Cx, sender: DeferredSender<Result<Tid, CallError>>) {
        self.ask(cx, sender, Ask::Sync);
    }

    pub(super) fn synced(&mut self, cx: &mut Cx, number: u64, tid: Tid) {
        self.shared.advance(tid);
        if let Some(Ask::Sync(waiter)) = self.asks.asks.remove(&number) {
            waiter.send(cx, Ok(tid));
        }
    }

    pub(crate) fn outcome(
        &mut self,
        cx: &mut Cx,
        in_doubt: InDoubt,
        sender: DeferredSender<Result<Outcome, CallError>>,
    ) {
        self.ask(cx, sender, |waiter| Ask::Outcome(in_doubt, waiter));
    }

    pub(super) fn told(&mut self, cx: &mut Cx, number: u64, outcome: Outcome) {
        if let Some(Ask::Outcome(_, waiter)) = self.asks.asks.remove(&number) {
            waiter.send(cx, Ok(outcome));
        }
    }

    pub(crate) fn size(&mut self, cx: &mut Cx, sender: DeferredSender<Result<Size, CallError>>) {
        self.ask(cx, sender, Ask::Size);
    }

    pub(super) fn measured(&mut self, cx: &mut Cx, number: u64, size: Size) {
        if let Some(Ask::Size(waiter)) = self.asks.asks.remove(&number) {
            waiter.send(cx, Ok(size));
        }
    }

    /// Answers after a random time, longer after more attempts, up to [`PAUSE_MAX`].
    pub(crate) fn pause(cx: &mut Cx, attempt: u32, sender: DeferredSender<Result<(), CallError>>) {
        let longest = PAUSE_MIN.saturating_mul(2_u32.saturating_pow(attempt)).min(PAUSE_MAX);
        let pause = longest.mul_f64(fraction(cx.random()));
        cx.call_later(pause, move |_, _| sender.send(Ok(())));
    }

    pub(super) fn ask_failed(&mut self, cx: &mut Cx, number: u64, failure: &Failure) {
        self.fail_ask(cx, number, call_error(failure));
    }

    pub(super) fn resend_asks(&mut self, cx: &mut Cx) {
        let numbers: Vec<_> = self.asks.asks.keys().copied().collect();
        for number in numbers {
            self.send_ask(cx, number);
        }
    }

    pub(super) fn fail_asks(&mut self, cx: &mut Cx, why: &CallError) {
        for ask in std::mem::take(&mut self.asks.asks).into_values() {
            ask.fail(cx, why.clone());
        }
    }

    fn ask<T>(
        &mut self,
        cx: &mut Cx,
        sender: DeferredSender<Result<T, CallError>>,
        ask: impl FnOnce(Waiter<Result<T, CallError>>) -> Ask,
    ) {
        let full = self.asks.asks.len() >= ASKS_MAX;
        if let Some(refusal) = self.refusal_or_full(full) {
            return sender.send(Err(refusal));
        }
        self.asks.last += 1;
        let number = self.asks.last;
        let late = move |state: &mut Self, cx: &mut Cx| {
            state.fail_ask(cx, number, CallError::Timeout);
        };
        let waiter = Waiter::new(cx, sender, self.call_timeout, late);
        self.asks.asks.insert(number, ask(waiter));
        self.send_ask(cx, number);
    }

    fn send_ask(&mut self, cx: &mut Cx, number: u64) {
        if self.ready_conn().is_none() {
            return;
        }
        let (asked, call) = match self.asks.asks.get(&number) {
            Some(Ask::Ping(_)) => (Asked::Ping(number), Call::Ping),
            Some(Ask::Sync(_)) => (Asked::LastTid(number), Call::LastTid),
            Some(Ask::Outcome(doubt, _)) => (Asked::Outcome(number), Call::Outcome(doubt.query())),
            Some(Ask::Size(_)) => (Asked::Size(number), Call::Size),
            None => return,
        };
        self.call(cx, asked, call);
    }

    fn fail_ask(&mut self, cx: &mut Cx, number: u64, why: CallError) {
        if let Some(ask) = self.asks.asks.remove(&number) {
            ask.fail(cx, why);
        }
    }
}

/// What a pause between attempts begins with, and the longest.
const PAUSE_MIN: Duration = Duration::from_micros(500);
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// Questions that may be waited for; more are [`CallError::Busy`].
const ASKS_MAX: usize = 65_536;
