//! The end of a reactor: everybody hears of it, and nobody is left waiting.

use std::{io, mem};

use super::Reactor;
use crate::{ConnId, LostReason};

impl<S: 'static> Reactor<S> {
    /// In this order: listeners close; connections are flushed once and lost; connects in progress
    /// fail; stages end, after the jobs that have begun; what is queued is dropped, and what waits
    /// for it fails.
    pub(super) fn stop(&mut self) {
        self.close_listeners();
        self.lose_all();
        self.end_stages();
        self.cx.mailbox.close();
        self.forget_all();
        self.cx.stopping = false;
    }

    /// Shuts every stage's pool down; results that have not been delivered are dropped.
    pub(super) fn end_stages(&mut self) {
        for key in self.cx.stages.keys() {
            if let Some(mut stage) = self.cx.stages.remove(key) {
                stage.pool.shutdown();
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
            self.write(id);
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
