//! The end of a turn: output leaves, and connections that have ended are taken away.
//!
//! Both have a bound for one turn, so that whoever asks for something waits neither for a large
//! answer to somebody else nor for the news to ten thousand others. What is short goes first, in the
//! order in which it was written; the rest follows in the next turns, each connection in its turn.

use std::mem;

use super::Reactor;
use crate::{ConnId, LostReason, context::token, transport::Closing};

impl<S: 'static> Reactor<S> {
    pub(super) fn flush(&mut self) -> bool {
        let touched = mem::take(&mut self.cx.touched);
        let worked = !touched.is_empty() || !self.cx.behind.is_empty();
        let mut share = Share { connections: CONNECTIONS_PER_TURN, bytes: BYTES_PER_TURN };
        for id in touched {
            if self.is_short(id) && share.is_left() {
                self.look_after(id, &mut share);
            } else {
                self.look_after_later(id);
            }
        }
        share.connections = share.connections.max(CONNECTIONS_BEHIND);
        share.bytes = share.bytes.max(BYTES_BEHIND);
        while share.is_left()
            && let Some(id) = self.cx.behind.pop_front()
        {
            // It may have been looked after meanwhile.
            if self.cx.conns.get(id.0).is_some_and(|conn| conn.transport.behind) {
                self.look_after(id, &mut share);
            }
        }
        worked
    }

    /// Whether what waits to leave takes no share that others would notice.
    fn is_short(&self, id: ConnId) -> bool {
        let transport = self.cx.conns.get(id.0).map(|conn| &conn.transport);
        transport
            .is_none_or(|it| it.output_len() <= SHORT || matches!(it.closing(), Closing::Now(_)))
    }

    fn look_after_later(&mut self, id: ConnId) {
        let Some(conn) = self.cx.conns.get_mut(id.0) else { return };
        conn.transport.touched = false;
        if !mem::replace(&mut conn.transport.behind, true) {
            self.cx.behind.push_back(id);
        }
    }

    fn look_after(&mut self, id: ConnId, share: &mut Share) {
        let Some(conn) = self.cx.conns.get_mut(id.0) else { return };
        (conn.transport.touched, conn.transport.behind) = (false, false);
        conn.undrained |= mem::take(&mut conn.transport.resumed);
        let before = conn.transport.output_len();
        self.write(id, WRITTEN_AT_ONCE);
        share.take(before - self.output_len(id));
        self.tell_left(id);
        match self.end_of(id) {
            Some(reason) => self.lose(id, reason),
            None => self.go_on(id),
        }
    }

    fn output_len(&self, id: ConnId) -> usize {
        self.cx.conns.get(id.0).map_or(0, |conn| conn.transport.output_len())
    }

    /// Writes about so many bytes, as far as the system takes them.
    pub(super) fn write(&mut self, id: ConnId, most: usize) {
        let Some(conn) = self.cx.conns.get_mut(id.0).filter(|conn| conn.writable) else { return };
        let driver = &mut self.cx.driver;
        match conn.transport.output.flush(most, |slices| driver.write(token(id), slices)) {
            Ok(more) => conn.writable = more,
            Err(error) => conn.transport.close_now(error.into()),
        }
    }

    /// Why the connection ends now, if it does.
    fn end_of(&self, id: ConnId) -> Option<LostReason> {
        let conn = self.cx.conns.get(id.0)?;
        match conn.transport.closing() {
            Closing::Now(reason) => Some(reason.clone()),
            Closing::AfterOutput if conn.ended => Some(LostReason::Closed),
            Closing::No if conn.ended => Some(LostReason::PeerClosed),
            Closing::AfterOutput | Closing::No => None,
        }
    }

    /// `connection_lost`, this once: the connection is no longer known when it is told.
    pub(super) fn lose(&mut self, id: ConnId, reason: LostReason) {
        let Some(conn) = self.cx.remove_conn(id) else { return };
        if let Some(seat) = conn.seat {
            self.with_kind(conn.kind, |kind, shared, cx| {
                kind.lost(seat, (shared, cx), id, reason);
            });
        }
        self.cx.kinds.release(conn.kind);
    }

    fn go_on(&mut self, id: ConnId) {
        let Some(conn) = self.cx.conns.get_mut(id.0) else { return };
        let has_more = conn.writable && conn.transport.output_len() > 0;
        if has_more {
            self.look_after_later(id);
        }
        let Some(conn) = self.cx.conns.get_mut(id.0) else { return };
        if *conn.transport.closing() == Closing::AfterOutput {
            return self.close_in_order(id);
        }
        if conn.undrained && !conn.transport.is_paused() {
            self.cx.list(id);
        }
        self.tell_drained(id);
    }

    fn tell_drained(&mut self, id: ConnId) {
        if let Some(conn) = self.cx.conns.get_mut(id.0)
            && conn.transport.take_drained()
        {
            let kind = conn.kind;
            self.with_kind(kind, |kind, shared, cx| kind.drained(shared, cx, id));
        }
    }

    fn tell_left(&mut self, id: ConnId) {
        if let Some(conn) = self.cx.conns.get_mut(id.0)
            && let Some(bytes) = conn.transport.left_anew()
        {
            let kind = conn.kind;
            self.with_kind(kind, |kind, shared, cx| kind.left((shared, cx), id, bytes));
        }
    }

    /// Closing a socket with unread input makes the system reset the connection, and the peer may
    /// lose the last words sent to it. So: say that they were the last, and discard input until
    /// the peer closes too, within the linger limit.
    fn close_in_order(&mut self, id: ConnId) {
        let Some(conn) = self.cx.conns.get_mut(id.0) else { return };
        let (linger, kind, seat) = (conn.transport.linger, conn.kind, conn.seat);
        let first = conn.limit.is_none();
        if conn.transport.output_len() == 0 && !mem::replace(&mut conn.shut, true) {
            self.cx.driver.shutdown(token(id));
            self.cx.list(id);
        }
        if first {
            self.cx.limit_conn(id, Some(linger));
            self.with_kind(kind, |kind, _, _| seat.map(|seat| kind.closing(seat)));
        }
    }
}

/// What is left for others in this turn.
#[derive(Debug)]
struct Share {
    connections: usize,
    bytes: usize,
}

impl Share {
    fn is_left(&self) -> bool {
        self.connections > 0 && self.bytes > 0
    }

    fn take(&mut self, bytes: usize) {
        self.connections = self.connections.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// A write to a socket takes some microseconds, and 100 more for a MiB.
const CONNECTIONS_PER_TURN: usize = 32;
const BYTES_PER_TURN: usize = 128 << 10;
/// Of these, what is kept for connections that are behind.
const CONNECTIONS_BEHIND: usize = 8;
const BYTES_BEHIND: usize = 64 << 10;
/// Output that is not longer goes before what is.
const SHORT: usize = 96 << 10;
/// What one connection is allowed at a time: more than 64 answers of a KiB, which leave in one write.
const WRITTEN_AT_ONCE: usize = 128 << 10;
