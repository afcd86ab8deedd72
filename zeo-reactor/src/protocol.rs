//! What an application implements: a protocol for one connection, a factory for one kind of them.

use std::{io, mem};

use crate::{Address, ConnId, Context, LostReason, Transport};

/// One connection's understanding of bytes. It has no socket, no clock, and knows no other
/// connection.
///
/// Bytes arrive in pieces of any size, down to one byte, and turn into events, which
/// [`poll_event`](Self::poll_event) hands out one at a time to the [`Factory`].
#[expect(unused_variables, reason = "a default ignores what its documentation names")]
pub trait Protocol: Send + 'static {
    /// What the bytes mean.
    type Event;

    /// The connection is there, and nothing has been read yet.
    fn connection_made(&mut self, transport: &mut Transport) {}

    /// Some bytes have arrived; `data` is never empty.
    fn data_received(&mut self, transport: &mut Transport, data: &[u8]);

    /// The next event, if any. Drained after each call above, but only while the transport is not
    /// paused, and a bounded number a turn: the rest follows in the next, after the others.
    fn poll_event(&mut self) -> Option<Self::Event>;

    /// This side is closing the connection, and sends the last of its output. Nothing is received
    /// any more, so what was received can be let go. Comes at most once.
    fn connection_closing(&mut self) {}
}

/// The simplest protocol: whatever has arrived is an event.
#[derive(Debug, Default)]
pub struct Raw(Vec<u8>);

impl Protocol for Raw {
    type Event = Vec<u8>;

    fn data_received(&mut self, _: &mut Transport, data: &[u8]) {
        self.0.extend_from_slice(data);
    }

    fn poll_event(&mut self) -> Option<Vec<u8>> {
        (!self.0.is_empty()).then(|| mem::take(&mut self.0))
    }
}

/// One kind of connection, given to [`Context::listen`] or [`Context::connect`].
///
/// All callbacks run on the reactor's thread and must not block. `shared` is what all kinds of
/// connection of a reactor have in common; it is lent, like the reactor itself.
///
/// A connection that is closed from within a callback of its factory yields no further events;
/// what its own protocol had decoded before *it* closed the transport still comes.
#[expect(unused_variables, reason = "a default ignores what its documentation names")]
pub trait Factory<S>: Send + 'static {
    /// What speaks on each connection of this kind.
    type Protocol: Protocol;

    /// Makes the protocol for a new connection. `None` refuses it: it is closed at once, and no
    /// other callback mentions it.
    fn build_protocol(&mut self, shared: &mut S, peer: &Address) -> Option<Self::Protocol>;

    /// The connection is there; its protocol has been told, and no event has come yet.
    fn connection_made(&mut self, shared: &mut S, cx: &mut Context<S>, conn: ConnId) {}

    /// The protocol has understood something.
    fn event(
        &mut self,
        shared: &mut S,
        cx: &mut Context<S>,
        conn: ConnId,
        event: <Self::Protocol as Protocol>::Event,
    );

    /// The output waiting for the peer has fallen to the low-water mark or below, after having been
    /// above it (see [`Transport::set_output_limits`]).
    fn output_drained(&mut self, shared: &mut S, cx: &mut Context<S>, conn: ConnId) {}

    /// At the end of a turn, so many bytes of output wait for the peer. Told when it is another
    /// number than before; a peer that takes in everything at once is never mentioned.
    fn output_left(&mut self, shared: &mut S, cx: &mut Context<S>, conn: ConnId, bytes: usize) {}

    /// The connection is gone, and `conn` names nothing any more. Comes exactly once for each
    /// `connection_made`.
    fn connection_lost(
        &mut self,
        shared: &mut S,
        cx: &mut Context<S>,
        conn: ConnId,
        reason: LostReason,
    ) {
    }

    /// An outgoing connection could not be made.
    fn connection_failed(
        &mut self,
        shared: &mut S,
        cx: &mut Context<S>,
        to: &Address,
        error: io::Error,
    ) {
    }
}
