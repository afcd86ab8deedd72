//! How the protocol machine sits on a transport: bytes in, events out.

use zeo_proto::{Greeting, PINNED_MAX, ServerConnection, ServerEvent, WireError};
use zeo_reactor::{Address, ConnId, Context, Factory, LostReason, Protocol, Transport};

use crate::memory::{Part, Told};
use crate::server::Server;

/// One connection of the native protocol, before and after its handshake.
#[derive(Debug)]
pub(crate) struct NativeConnection {
    machine: ServerConnection,
    /// What was last told of its memory.
    held: Told,
    /// Bytes of that which went on with messages as slices of it: whoever has them counts them.
    passed_on: usize,
    /// An event that comes after the change of memory that it makes was told of.
    next: Option<ServerEvent>,
}

/// What a connection brought.
#[derive(Debug)]
pub(crate) enum Arrived {
    /// Something in order.
    Event(ServerEvent),
    /// So many bytes of memory hold what has arrived and is not understood yet; not told of every
    /// byte.
    Holds(usize),
    /// Its peer broke the protocol; the bytes are what it is told about that.
    Broken(WireError, Vec<u8>),
}

impl Protocol for NativeConnection {
    type Event = Arrived;

    fn connection_made(&mut self, transport: &mut Transport) {
        let mut greeting = Vec::new();
        self.machine.greet(&mut greeting);
        transport.write(&greeting);
    }

    fn data_received(&mut self, _: &mut Transport, data: &[u8]) {
        self.machine.receive(data);
    }

    fn poll_event(&mut self) -> Option<Arrived> {
        if let Some(bytes) = self.held_anew() {
            return Some(Arrived::Holds(bytes));
        }
        let event = self.next.take().or_else(|| self.poll_machine());
        if let Some(bytes) = self.held_anew() {
            self.next = event;
            return Some(Arrived::Holds(bytes));
        }
        match event {
            Some(ServerEvent::Broken(error)) => {
                let mut farewell = Vec::new();
                self.machine.dismiss(&error, &mut farewell);
                Some(Arrived::Broken(error, farewell))
            }
            event => event.map(Arrived::Event),
        }
    }

    fn connection_closing(&mut self) {
        *self = Self::new();
    }
}

impl NativeConnection {
    fn new() -> Self {
        let machine = ServerConnection::new(Greeting::default());
        Self { machine, held: Told::default(), passed_on: 0, next: None }
    }

    /// The machine's next event; after the last it has given back what memory it can.
    fn poll_machine(&mut self) -> Option<ServerEvent> {
        let event = self.machine.poll();
        self.passed_on = event.as_ref().map_or(0, |event| self.passed_on + self.shared_with(event));
        event
    }

    /// What it holds now, if that is worth telling.
    fn held_anew(&mut self) -> Option<usize> {
        self.held.anew(self.machine.memory().saturating_sub(self.passed_on))
    }

    /// Bytes of object data that an event has in this connection's memory; a little is copied out
    /// of it.
    fn shared_with(&self, event: &ServerEvent) -> usize {
        match event {
            ServerEvent::Message(_, data) if data.len() >= self.machine.memory() / PINNED_MAX => {
                data.len()
            }
            ServerEvent::Message(..)
            | ServerEvent::Hello(_)
            | ServerEvent::Ruok
            | ServerEvent::Zeo5Client
            | ServerEvent::Broken(_) => 0,
        }
    }
}

/// Makes connections of the native protocol for a listener.
#[derive(Debug)]
pub(crate) struct NativeFactory;

impl Factory<Server> for NativeFactory {
    type Protocol = NativeConnection;

    fn build_protocol(&mut self, _: &mut Server, _: &Address) -> Option<NativeConnection> {
        Some(NativeConnection::new())
    }

    fn connection_made(&mut self, server: &mut Server, cx: &mut Context<Server>, conn: ConnId) {
        server.greeted(cx, conn);
    }

    fn event(
        &mut self,
        server: &mut Server,
        cx: &mut Context<Server>,
        conn: ConnId,
        event: Arrived,
    ) {
        server.arrived(cx, conn, event);
    }

    fn output_drained(&mut self, server: &mut Server, cx: &mut Context<Server>, conn: ConnId) {
        server.advance_lane(cx, conn);
        server.regulate(cx, conn);
    }

    fn output_left(
        &mut self,
        server: &mut Server,
        cx: &mut Context<Server>,
        conn: ConnId,
        bytes: usize,
    ) {
        server.holds(cx, conn, Part::Output, bytes);
    }

    fn connection_lost(
        &mut self,
        server: &mut Server,
        cx: &mut Context<Server>,
        conn: ConnId,
        reason: LostReason,
    ) {
        server.connection_lost(cx, conn, &reason.to_string());
    }
}
