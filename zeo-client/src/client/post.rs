//! How calls get to the reactor, and results back.

use std::sync::{Arc, Weak};

use zeo_reactor::{Deferred, DeferredSender, deferred_on};

use crate::error::CallError;
use crate::link::{Cx, State};

use super::{Client, Inner};

impl Client {
    /// Has the reactor do something, and brings its result back.
    pub(crate) fn send<T, E>(
        &self,
        call: impl FnOnce(&mut State, &mut Cx, DeferredSender<Result<T, E>>) + Send + 'static,
    ) -> Deferred<Result<T, E>>
    where
        T: Send + 'static,
        E: From<CallError> + Send + 'static,
    {
        let (sender, deferred) = self.deferred();
        match self.post(move |state, cx| call(state, cx, sender)) {
            Ok(()) => deferred,
            Err(why) => self.ready(Err(why.into())),
        }
    }

    /// The same, for a result that is made into another one: on the reactor's thread, so that it is
    /// there as soon as the first.
    pub(crate) fn send_then<T, U, E>(
        &self,
        call: impl FnOnce(&mut State, &mut Cx, DeferredSender<Result<T, E>>) + Send + 'static,
        then: impl FnOnce(Result<T, E>) -> Result<U, E> + Send + 'static,
    ) -> Deferred<Result<U, E>>
    where
        T: Send + 'static,
        U: Send + 'static,
        E: From<CallError> + Send + 'static,
    {
        let (last, deferred) = self.deferred();
        let (sender, first) = zeo_reactor::deferred();
        first.then(move |result| {
            if let Ok(result) = result {
                last.send(then(result));
            }
        });
        match self.post(move |state, cx| call(state, cx, sender)) {
            Ok(()) => deferred,
            Err(why) => self.ready(Err(why.into())),
        }
    }

    fn post(
        &self,
        call: impl FnOnce(&mut State, &mut Cx) + Send + 'static,
    ) -> Result<(), CallError> {
        if let Some(why) = self.refusal() {
            return Err(why);
        }
        let call = move |state: &mut State, cx: &mut Cx| {
            state.end_abandoned(cx);
            call(state, cx);
        };
        self.inner.handle.call_from_thread(call).map_err(|error| match error {
            zeo_reactor::CallError::Full => CallError::Busy,
            zeo_reactor::CallError::Stopped => CallError::Closed,
        })
    }

    /// Ends what was voted on, from any thread. When the reactor has no room for another call, the
    /// next that it comes to does it.
    pub(crate) fn abandon(&self, number: u64) {
        self.inner.shared.abandon(number);
        if self.inner.ended().is_none() {
            let _later = self.inner.handle.call_from_thread(State::end_abandoned);
        }
    }

    /// The same client, without keeping it open.
    pub(crate) fn downgrade(&self) -> WeakClient {
        WeakClient(Arc::downgrade(&self.inner))
    }

    /// A result that is there already.
    pub(crate) fn ready<T>(&self, value: T) -> Deferred<T> {
        let (sender, deferred) = self.deferred();
        sender.send(value);
        deferred
    }

    fn deferred<T>(&self) -> (DeferredSender<T>, Deferred<T>) {
        deferred_on(Arc::clone(&self.inner.callbacks))
    }
}

/// A client that others keep open.
pub(crate) struct WeakClient(Weak<Inner>);

impl WeakClient {
    /// The client, unless it was closed because nobody had it any more.
    pub(crate) fn upgrade(&self) -> Result<Client, CallError> {
        self.0.upgrade().map(|inner| Client { inner }).ok_or(CallError::Closed)
    }
}
