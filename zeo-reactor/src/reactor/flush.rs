//! The end of a turn: output leaves, and connections that have ended are taken away.

use std::mem;

use super::Reactor;
use crate::{ConnId, LostReason, context::token, transport::Closing};

impl<S: 'static> Reactor<S> {
    pub(super) fn flush(&mut self) -> bool {
        let touched = mem::take(&mut self.cx.touched);
        for id in &touched {
            self.look_after(*id);
        }
        !touched.is_empty()
    }

    fn look_after(&mut self, id: ConnId) {
        let Some(conn) = self.cx.conns.get_mut(id.0) else { return };
        conn.transport.touched = false;
        conn.undrained |= mem::take(&mut conn.transport.resumed);
        self.write(id);
        self.tell_left(id);
        match self.end_of(id) {
            Some(reason) => self.lose(id, reason),
            None => self.go_on(id),
        }
    }

    pub(super) fn write(&mut self, id: ConnId) {
        let Some(conn) = self.cx.conns.get_mut(id.0).filter(|conn| conn.writable) else { return };
        let driver = &mut self.cx.driver;
        match conn.transport.output.flush(|slices| driver.write(token(id), slices)) {
            Ok(all) => conn.writable = all,
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
