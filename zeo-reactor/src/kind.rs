//! Kinds of connection: a factory and its protocols, behind one type-erased face, so that an input
//! costs one virtual call.

use std::io;

use slab::Slab;

use crate::{Address, ConnId, Context, Factory, LostReason, Protocol, Transport};

/// Names a kind within its reactor, as long as somebody uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KindId(usize);

/// A protocol among those of its kind.
pub(crate) type Seat = usize;

/// What a turn does to a connection, whatever its kind.
pub(crate) trait AnyKind<S>: Send {
    fn build(&mut self, shared: &mut S, peer: &Address) -> Option<Seat>;
    fn made(&mut self, seat: Seat, shared: &mut S, cx: &mut Context<S>, conn: ConnId);
    fn received(&mut self, seat: Seat, lent: Lent<'_, S>, conn: ConnId, data: &[u8]) -> Drained;
    fn resumed(&mut self, seat: Seat, lent: Lent<'_, S>, conn: ConnId) -> Drained;
    fn drained(&mut self, shared: &mut S, cx: &mut Context<S>, conn: ConnId);
    fn left(&mut self, lent: Lent<'_, S>, conn: ConnId, bytes: usize);
    fn closing(&mut self, seat: Seat);
    fn lost(&mut self, seat: Seat, lent: Lent<'_, S>, conn: ConnId, reason: LostReason);
    fn failed(&mut self, shared: &mut S, cx: &mut Context<S>, to: &Address, error: io::Error);
}

/// Whether a connection's events were handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drained {
    /// As many as may be now.
    All,
    /// As many as a turn allows; there may be more.
    TurnsWorth,
}

/// What every callback is lent.
pub(crate) type Lent<'a, S> = (&'a mut S, &'a mut Context<S>);

pub(crate) struct Kind<S, F: Factory<S>> {
    factory: F,
    protocols: Slab<F::Protocol>,
}

impl<S: 'static, F: Factory<S>> Kind<S, F> {
    pub(crate) const fn new(factory: F) -> Self {
        Self { factory, protocols: Slab::new() }
    }

    fn tell<'a>(
        &mut self,
        seat: Seat,
        cx: &'a mut Context<S>,
        conn: ConnId,
    ) -> Option<(&mut F::Protocol, &'a mut Transport)> {
        Some((self.protocols.get_mut(seat)?, cx.transport(conn)?))
    }

    /// Hands out events until there are no more, reading is paused, the factory closes the
    /// connection, or it is the others' turn.
    fn drain(&mut self, seat: Seat, (shared, cx): Lent<'_, S>, conn: ConnId) -> Drained {
        let Some(transport) = cx.transport(conn) else { return Drained::All };
        transport.yields = false;
        let was_closing = transport.is_closing();
        for _ in 0..EVENTS_PER_TURN {
            let Some((protocol, transport)) = self.tell(seat, cx, conn) else { break };
            if transport.is_paused() || transport.is_closing() != was_closing {
                return Drained::All;
            }
            if transport.yields {
                break;
            }
            let Some(event) = protocol.poll_event() else { return Drained::All };
            self.factory.event(shared, cx, conn, event);
        }
        Drained::TurnsWorth
    }
}

impl<S: 'static, F: Factory<S>> AnyKind<S> for Kind<S, F> {
    fn build(&mut self, shared: &mut S, peer: &Address) -> Option<Seat> {
        let protocol = self.factory.build_protocol(shared, peer)?;
        Some(self.protocols.insert(protocol))
    }

    fn made(&mut self, seat: Seat, shared: &mut S, cx: &mut Context<S>, conn: ConnId) {
        if let Some((protocol, transport)) = self.tell(seat, cx, conn) {
            protocol.connection_made(transport);
            self.factory.connection_made(shared, cx, conn);
            self.drain(seat, (shared, cx), conn);
        }
    }

    fn received(&mut self, seat: Seat, lent: Lent<'_, S>, conn: ConnId, data: &[u8]) -> Drained {
        let (shared, cx) = lent;
        let Some((protocol, transport)) = self.tell(seat, cx, conn) else { return Drained::All };
        protocol.data_received(transport, data);
        self.drain(seat, (shared, cx), conn)
    }

    fn resumed(&mut self, seat: Seat, lent: Lent<'_, S>, conn: ConnId) -> Drained {
        self.drain(seat, lent, conn)
    }

    fn drained(&mut self, shared: &mut S, cx: &mut Context<S>, conn: ConnId) {
        self.factory.output_drained(shared, cx, conn);
    }

    fn left(&mut self, lent: Lent<'_, S>, conn: ConnId, bytes: usize) {
        let (shared, cx) = lent;
        self.factory.output_left(shared, cx, conn, bytes);
    }

    fn closing(&mut self, seat: Seat) {
        if let Some(protocol) = self.protocols.get_mut(seat) {
            protocol.connection_closing();
        }
    }

    fn lost(&mut self, seat: Seat, lent: Lent<'_, S>, conn: ConnId, reason: LostReason) {
        let (shared, cx) = lent;
        drop(self.protocols.try_remove(seat));
        self.factory.connection_lost(shared, cx, conn, reason);
    }

    fn failed(&mut self, shared: &mut S, cx: &mut Context<S>, to: &Address, error: io::Error) {
        self.factory.connection_failed(shared, cx, to, error);
    }
}

/// All kinds of a reactor, each with a count of what uses it: listeners, connectors, connects in
/// progress and connections.
pub(crate) struct Kinds<S> {
    slots: Slab<Used<S>>,
}

struct Used<S> {
    /// Absent while lent to a callback.
    kind: Option<Box<dyn AnyKind<S>>>,
    users: usize,
}

impl<S> Kinds<S> {
    pub(crate) const fn new() -> Self {
        Self { slots: Slab::new() }
    }

    /// Adds a kind that has one user.
    pub(crate) fn add(&mut self, kind: Box<dyn AnyKind<S>>) -> KindId {
        KindId(self.slots.insert(Used { kind: Some(kind), users: 1 }))
    }

    pub(crate) fn retain(&mut self, id: KindId) {
        if let Some(used) = self.slots.get_mut(id.0) {
            used.users += 1;
        }
    }

    /// The last user takes the kind with it; one that is lent goes when it comes back.
    pub(crate) fn release(&mut self, id: KindId) {
        if let Some(used) = self.slots.get_mut(id.0) {
            used.users -= 1;
            self.collect(id);
        }
    }

    pub(crate) fn lend(&mut self, id: KindId) -> Option<Box<dyn AnyKind<S>>> {
        self.slots.get_mut(id.0)?.kind.take()
    }

    pub(crate) fn put_back(&mut self, id: KindId, kind: Box<dyn AnyKind<S>>) {
        if let Some(used) = self.slots.get_mut(id.0) {
            used.kind = Some(kind);
            self.collect(id);
        }
    }

    fn collect(&mut self, id: KindId) {
        if self.slots.get(id.0).is_some_and(|used| used.users == 0 && used.kind.is_some()) {
            drop(self.slots.try_remove(id.0));
        }
    }
}

/// Beyond these events of one connection, others get their turn first.
const EVENTS_PER_TURN: usize = 32;
