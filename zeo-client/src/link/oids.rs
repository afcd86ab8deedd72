//! Names for new objects, fetched ahead into a pool that callers take from without waiting.

use std::collections::BTreeMap;

use zeo_proto::{Call, Failure, MAX_NEW_OIDS, Oid};
use zeo_reactor::DeferredSender;

use crate::error::CallError;

use super::calls::Asked;
use super::{Cx, State, Waiter, call_error};

/// Who waits for a name, in order, because the pool was empty.
#[derive(Debug, Default)]
pub(super) struct OidRequests {
    waiters: BTreeMap<u64, Waiter<Result<Oid, CallError>>>,
    last: u64,
    /// Names are being fetched on the present connection.
    fetching: bool,
}

#[cfg(feature = "sim")]
impl OidRequests {
    pub(super) fn len(&self) -> usize {
        self.waiters.len()
    }
}

impl State {
    pub(crate) fn new_oid(&mut self, cx: &mut Cx, sender: DeferredSender<Result<Oid, CallError>>) {
        let full = self.oids.waiters.len() >= WAITERS_MAX;
        if let Some(refusal) = self.refusal_or_full(full) {
            return sender.send(Err(refusal));
        }
        self.oids.last += 1;
        let number = self.oids.last;
        let late = move |state: &mut Self, cx: &mut Cx| state.new_oid_is_late(cx, number);
        let waiter = Waiter::new(cx, sender, self.call_timeout, late);
        self.oids.waiters.insert(number, waiter);
        self.hand_out(cx);
        if !self.oids.waiters.is_empty() {
            self.fetch_oids(cx);
        }
    }

    /// Fetches names, unless that is being done.
    pub(crate) fn fetch_oids(&mut self, cx: &mut Cx) {
        if self.oids.fetching || self.ready_conn().is_none() {
            return;
        }
        self.oids.fetching = true;
        let waiting = u32::try_from(self.oids.waiters.len()).unwrap_or(MAX_NEW_OIDS);
        let count = (waiting + POOL).min(MAX_NEW_OIDS);
        self.call(cx, Asked::NewOids, Call::NewOids(count));
    }

    pub(super) fn new_oids(&mut self, cx: &mut Cx, first: Oid, count: u32) {
        self.oids.fetching = false;
        self.shared.oids().add(first, count);
        self.hand_out(cx);
        if !self.oids.waiters.is_empty() {
            self.fetch_oids(cx);
        }
    }

    pub(super) fn new_oids_failed(&mut self, cx: &mut Cx, failure: &Failure) {
        self.oids.fetching = false;
        self.fail_oids(cx, &call_error(failure));
    }

    pub(super) fn resend_oids(&mut self, cx: &mut Cx) {
        self.oids.fetching = false;
        if !self.oids.waiters.is_empty() {
            self.fetch_oids(cx);
        }
    }

    pub(super) fn fail_oids(&mut self, cx: &mut Cx, why: &CallError) {
        for waiter in std::mem::take(&mut self.oids.waiters).into_values() {
            waiter.send(cx, Err(why.clone()));
        }
    }

    fn hand_out(&mut self, cx: &mut Cx) {
        while let Some((number, waiter)) = self.oids.waiters.pop_first() {
            let Some(oid) = self.take_oid() else {
                self.oids.waiters.insert(number, waiter);
                return;
            };
            waiter.send(cx, Ok(oid));
        }
    }

    /// The pool is not held locked while anybody is told.
    fn take_oid(&self) -> Option<Oid> {
        self.shared.oids().take()
    }

    fn new_oid_is_late(&mut self, cx: &mut Cx, number: u64) {
        if let Some(waiter) = self.oids.waiters.remove(&number) {
            waiter.send(cx, Err(CallError::Timeout));
        }
    }
}

/// How many names are fetched ahead.
const POOL: u32 = 128;
/// Callers that may wait for a name; more are [`CallError::Busy`].
const WAITERS_MAX: usize = 65_536;
