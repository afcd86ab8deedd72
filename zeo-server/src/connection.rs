//! How the protocol machine sits on a transport: bytes in, events out.

use zeo_proto::{Greeting, ServerConnection, ServerEvent, WireError};
use zeo_reactor::{Address, ConnId, Context, Factory, LostReason, Protocol, Transport};

use crate::memory::{Part, Told};
use crate::server::Server;

/// One connection of the native protocol, before and after its handshake.
#[derive(Debug)]
pub(crate) struct NativeConnection {
    machine: ServerConnection,
    /// What was last told of its memory.
    held: Told,
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
        match self.machine.poll() {
            Some(ServerEvent::Broken(error)) => {
                let mut farewell = Vec::new();
                self.machine.dismiss(&error, &mut farewell);
                Some(Arrived::Broken(error, farewell))
            }
            Some(event) => Some(Arrived::Event(event)),
            None => self.held_anew().map(Arrived::Holds),
        }
    }

    fn connection_closing(&mut self) {
        *self = Self::new();
    }
}

impl NativeConnection {
    fn new() -> Self {
        Self { machine: ServerConnection::new(Greeting::default()), held: Told::default() }
    }

    /// What it holds now, if that is worth telling.
    fn held_anew(&mut self) -> Option<usize> {
        self.held.anew(self.machine.memory())
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
