//! The end of a reactor: everybody hears of it, and nobody is left waiting.

use std::{io, mem};

use super::Reactor;
use crate::{
    ConnId, LostReason, Phase, SystemEvent,
    context::{Limit, Stopping},
};

impl<S: 'static> Reactor<S> {
    /// Takes the next step of a shutdown, if one was asked for: the triggers before it; then, once
    /// nothing holds it back, those during it, the stop, and those after it.
    pub(super) fn shut_down(&mut self) {
        if self.cx.stopping == Stopping::Asked {
            self.cx.stopping = Stopping::Held;
            self.cx.limits.add(self.cx.now + self.cx.shutdown_limit, Limit::Shutdown);
            self.fire(SystemEvent::Shutdown, Phase::Before);
        }
        if self.cx.may_shut_down() {
            self.cx.stopping = Stopping::Begun;
            self.fire(SystemEvent::Shutdown, Phase::During);
            self.stop();
        }
    }

    /// What holds the shutdown back has had its time.
    pub(super) fn shutdown_overdue(&mut self) {
        tracing::warn!("shutting down, although something still holds that back");
        self.cx.stopping = Stopping::Begun;
    }

    /// In this order: listeners close; connections are flushed once and lost; connects in progress
    /// fail; stages end, after the jobs that have begun; the triggers after the shutdown run; what
    /// is queued is dropped, and what waits for it fails.
    fn stop(&mut self) {
        self.close_listeners();
        self.lose_all();
        self.end_stages();
        self.fire(SystemEvent::Shutdown, Phase::After);
        self.cx.mailbox.close();
        self.forget_all();
        (self.cx.started, self.cx.stopping) = (false, Stopping::No);
    }

    /// Shuts every stage's pool down; results that have not been delivered are dropped.
    pub(super) fn end_stages(&mut self) {
        for key in self.cx.stages.keys() {
            if let Some(mut stage) = self.cx.stages.remove(key) {
                stage.end();
            }
        }
    }

    fn close_listeners(&mut self) {
        for listener in self.cx.listeners.keys() {
            self.cx.close_listener(listener);
        }
    }

    fn lose_all(&mut self) {
        for (kind, to) in mem::take(&mut self.cx.connects) {
            self.with_kind(kind, |kind, shared, cx| kind.failed(shared, cx, &to, stopped()));
            self.cx.kinds.release(kind);
        }
        for key in self.cx.conns.keys() {
            let id = ConnId(key);
            self.write(id, usize::MAX);
            match self.cx.transport(id) {
                Some(_) => self.lose(id, LostReason::Stopped),
                None => self.failed(id, stopped()),
            }
        }
    }

    fn forget_all(&mut self) {
        let cx = &mut self.cx;
        cx.timers.clear();
        cx.limits.clear();
        cx.soon.clear();
        cx.touched.clear();
        cx.behind.clear();
        cx.reading.clear();
        cx.accepting.clear();
        for (kind, _) in mem::take(&mut cx.connects) {
            cx.kinds.release(kind);
        }
        for connector in cx.connectors.keys() {
            if let Some(kind) = cx.connectors.remove(connector) {
                cx.kinds.release(kind);
            }
        }
        // Those that callbacks have added while the reactor was stopping.
        self.close_listeners();
    }
}

fn stopped() -> io::Error {
    io::Error::other(LostReason::Stopped)
}
