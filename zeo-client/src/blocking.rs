//! Waiting for results: of one deferred, or of a sequence that is written as a future.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use zeo_reactor::{Deferred, Dropped, is_blocking_forbidden};

use crate::error::CallError;

/// Whether this thread may wait; asked before anything is sent.
pub(crate) fn may_block() -> Result<(), CallError> {
    if is_blocking_forbidden() { Err(CallError::WouldDeadlock) } else { Ok(()) }
}

/// Waits for a result.
pub(crate) fn wait<T, E: From<CallError>>(deferred: Deferred<Result<T, E>>) -> Result<T, E> {
    deferred.wait().unwrap_or_else(|error| Err(CallError::from(error).into()))
}

/// Awaits a result, like [`wait`].
pub(crate) async fn answer<T, E: From<CallError>>(
    deferred: Deferred<Result<T, E>>,
) -> Result<T, E> {
    deferred.await.unwrap_or_else(|Dropped| Err(CallError::Closed.into()))
}

/// Drives a future on this thread, which sleeps meanwhile.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Sleeper(thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

struct Sleeper(Thread);

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
