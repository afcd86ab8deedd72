//! A turn's input: connections accepted and made, bytes read, limits that have passed.

use std::{io, mem, time::Duration};

use super::{BUFFER_LEN, Reactor};
use crate::{
    Address, ConnId, LostReason,
    arena::Key,
    context::{Limit, token},
    driver::{ListenerToken, Readiness, Ready, StreamToken},
    kind::{Drained, KindId, Seat},
};

impl<S: 'static> Reactor<S> {
    pub(super) fn input(&mut self) -> bool {
        let ready = mem::take(&mut self.ready);
        let accepting = mem::take(&mut self.cx.accepting);
        let worked = !ready.is_empty() || !accepting.is_empty();
        for listener in accepting {
            self.accept(listener);
        }
        for event in &ready {
            self.note(*event);
        }
        self.ready = ready;
        self.ready.clear();
        [self.run_limits(), self.read_all(), self.start_connects(), worked].contains(&true)
    }

    fn note(&mut self, event: Ready) {
        match event {
            Ready::Accept(ListenerToken(index)) => {
                if let Some(listener) = self.cx.listeners.key_at(index) {
                    self.accept(listener);
                }
            }
            Ready::Stream(StreamToken(index), readiness) => {
                if let Some(key) = self.cx.conns.key_at(index) {
                    self.note_stream(ConnId(key), readiness);
                }
            }
        }
    }

    fn note_stream(&mut self, id: ConnId, readiness: Readiness) {
        let Some(conn) = self.cx.conns.get_mut(id.0) else { return };
        if conn.seat.is_none() {
            return self.finish_connect(id);
        }
        conn.writable |= readiness.writable;
        conn.readable |= readiness.readable;
        conn.read_closed |= readiness.read_closed;
        if readiness.writable {
            self.cx.transport(id);
        }
        if readiness.readable {
            self.cx.list(id);
        }
    }

    fn accept(&mut self, listener: Key) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(kind) = self.cx.listeners.get(listener).copied() else { return };
            let stream = StreamToken(self.cx.conns.next_key().index());
            match self.cx.driver.accept(ListenerToken(listener.index()), stream) {
                Ok(peer) => self.accepted(kind, stream, peer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if is_passing(&error) => {}
                Err(error) => return self.back_off(listener, &error),
            }
        }
        self.cx.accepting.push(listener);
    }

    fn accepted(&mut self, kind: KindId, stream: StreamToken, peer: Address) {
        let seat = self.with_kind(kind, |kind, shared, _| kind.build(shared, &peer)).flatten();
        let Some(seat) = seat else {
            return self.cx.driver.close_stream(stream);
        };
        self.cx.kinds.retain(kind);
        let id = self.cx.add_conn(kind, peer, Some(seat));
        self.made(id, kind, seat);
    }

    fn made(&mut self, id: ConnId, kind: KindId, seat: Seat) {
        self.with_kind(kind, |kind, shared, cx| kind.made(seat, shared, cx, id));
    }

    /// Such as too many open files: trying again at once would only burn the CPU.
    fn back_off(&mut self, listener: Key, error: &io::Error) {
        tracing::warn!(%error, "cannot accept a connection; trying again soon");
        self.cx.limits.add(self.cx.now + ACCEPT_BACK_OFF, Limit::Accept(listener));
    }

    fn run_limits(&mut self) -> bool {
        let mark = self.cx.limits.mark();
        let mut worked = false;
        while let Some(limit) = self.cx.limits.pop_due(self.cx.now, mark) {
            worked = true;
            match limit {
                Limit::Accept(listener) => self.accept(listener),
                Limit::Conn(id) => self.conn_limit(id),
                Limit::Shutdown => self.shutdown_overdue(),
            }
        }
        worked
    }

    /// A connect that takes too long has failed; a lingering close has lingered enough.
    fn conn_limit(&mut self, id: ConnId) {
        match self.cx.transport(id) {
            Some(transport) => transport.close_now(LostReason::Closed),
            None => self.failed(id, io::ErrorKind::TimedOut.into()),
        }
    }

    fn start_connects(&mut self) -> bool {
        let connects = mem::take(&mut self.cx.connects);
        let worked = !connects.is_empty();
        for (kind, to) in connects {
            let id = self.cx.add_conn(kind, to.clone(), None);
            match self.cx.driver.connect(token(id), &to) {
                Ok(()) => self.cx.limit_conn(id, Some(self.cx.connect_limit)),
                Err(error) => self.failed(id, error),
            }
        }
        worked
    }

    fn finish_connect(&mut self, id: ConnId) {
        match self.cx.driver.finish_connect(token(id)) {
            Ok(()) => self.connected(id),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => self.failed(id, error),
        }
    }

    fn connected(&mut self, id: ConnId) {
        self.cx.limit_conn(id, None);
        let Some(conn) = self.cx.conns.get(id.0) else { return };
        let (kind, peer) = (conn.kind, conn.transport.peer().clone());
        let seat = self.with_kind(kind, |kind, shared, _| kind.build(shared, &peer)).flatten();
        match (seat, self.cx.conns.get_mut(id.0)) {
            (Some(seat), Some(conn)) => {
                (conn.seat, conn.writable, conn.readable) = (Some(seat), true, true);
                self.made(id, kind, seat);
                self.cx.list(id);
            }
            _ => self.remove(id),
        }
    }

    pub(super) fn failed(&mut self, id: ConnId, error: io::Error) {
        let Some(conn) = self.cx.remove_conn(id) else { return };
        let to = conn.transport.peer();
        self.with_kind(conn.kind, |kind, shared, cx| kind.failed(shared, cx, to, error));
        self.cx.kinds.release(conn.kind);
    }

    fn remove(&mut self, id: ConnId) {
        if let Some(conn) = self.cx.remove_conn(id) {
            self.cx.kinds.release(conn.kind);
        }
    }

    fn read_all(&mut self) -> bool {
        let reading = mem::take(&mut self.cx.reading);
        for id in &reading {
            if let Some(conn) = self.cx.conns.get_mut(id.0) {
                conn.listed = false;
                self.drain(*id);
                self.read(*id);
            }
        }
        !reading.is_empty()
    }

    /// Hands out the events that were held back while reading was paused.
    fn drain(&mut self, id: ConnId) {
        if let Some(conn) = self.cx.conns.get_mut(id.0)
            && mem::take(&mut conn.undrained)
            && let (kind, Some(seat)) = (conn.kind, conn.seat)
        {
            let drained =
                self.with_kind(kind, |kind, shared, cx| kind.resumed(seat, (shared, cx), id));
            self.keep_undrained(id, drained);
        }
    }

    /// What a connection has too much of for one turn is handed out in the next, before more is
    /// read.
    fn keep_undrained(&mut self, id: ConnId, drained: Option<Drained>) {
        if drained == Some(Drained::TurnsWorth)
            && let Some(conn) = self.cx.conns.get_mut(id.0)
        {
            conn.undrained = true;
            self.cx.list(id);
        }
    }

    /// Reads what there is, within the turn's limit; what is left is for the next turn.
    fn read(&mut self, id: ConnId) {
        let mut left = READ_PER_TURN;
        while let Some(conn) = self.cx.conns.get_mut(id.0)
            && conn.readable
            && (conn.shut || (conn.is_received() && !conn.undrained))
        {
            if left == 0 {
                return self.cx.list(id);
            }
            left = left.saturating_sub(self.read_once(id));
        }
    }

    /// Reads once and says how much.
    fn read_once(&mut self, id: ConnId) -> usize {
        let result = self.cx.driver.read(token(id), &mut self.buffer);
        let Some(conn) = self.cx.conns.get_mut(id.0) else { return 0 };
        match result {
            Ok(0) => {
                (conn.readable, conn.ended) = (false, true);
                self.cx.transport(id);
                0
            }
            Ok(read) => {
                // A short read was the last one, unless the end has been announced.
                conn.readable = read == self.buffer.len() || conn.read_closed;
                self.received(id, read);
                read
            }
            Err(error) => {
                self.read_failed(id, error);
                0
            }
        }
    }

    fn received(&mut self, id: ConnId, read: usize) {
        let Some(conn) = self.cx.conns.get(id.0).filter(|conn| !conn.shut) else { return };
        let (kind, Some(seat)) = (conn.kind, conn.seat) else { return };
        let buffer = mem::take(&mut self.buffer);
        let data = buffer.get(..read).unwrap_or(&buffer);
        let drained =
            self.with_kind(kind, |kind, shared, cx| kind.received(seat, (shared, cx), id, data));
        self.buffer = buffer;
        self.keep_undrained(id, drained);
    }

    fn read_failed(&mut self, id: ConnId, error: io::Error) {
        if error.kind() == io::ErrorKind::Interrupted {
            return;
        }
        if let Some(conn) = self.cx.conns.get_mut(id.0) {
            conn.readable = false;
        }
        if error.kind() != io::ErrorKind::WouldBlock
            && let Some(transport) = self.cx.transport(id)
        {
            transport.close_now(error.into());
        }
    }
}

/// Errors of one accept that say nothing about the next.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted)
}

/// Beyond these, others get their turn first.
const ACCEPTS_PER_TURN: usize = 16;
/// What fills the buffer once: to take that in takes some 50 µs.
const READ_PER_TURN: usize = BUFFER_LEN;
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);
