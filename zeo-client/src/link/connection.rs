//! Joins the protocol's machine to the reactor: bytes in, events to [`State`].

use std::io;

use zeo_proto::{ClientConnection, ClientEvent, Hello};
use zeo_reactor::{Address, ConnId, Factory, LostReason, Protocol, Transport};

use super::{Cx, State};

/// One connection to a server.
#[derive(Debug)]
pub(super) struct Connection {
    machine: ClientConnection,
    /// Whether the server has not greeted us; the answer to its greeting is sent at once.
    greeting: bool,
    first: Option<ClientEvent>,
}

impl Connection {
    fn new(hello: Hello) -> Self {
        Self { machine: ClientConnection::new(hello), greeting: true, first: None }
    }

    fn greet(&mut self, transport: &mut Transport) {
        self.first = self.machine.poll();
        self.greeting = self.first.is_none();
        let mut hello = Vec::new();
        self.machine.take_output(&mut hello);
        transport.write(&hello);
    }
}

impl Protocol for Connection {
    type Event = ClientEvent;

    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        self.machine.receive(data);
        if self.greeting {
            self.greet(transport);
        }
    }

    fn poll_event(&mut self) -> Option<ClientEvent> {
        if self.greeting {
            return None;
        }
        self.first.take().or_else(|| self.machine.poll())
    }
}

/// Makes connections; everything it hears goes to [`State`].
#[derive(Debug)]
pub(super) struct Connector;

impl Factory<State> for Connector {
    type Protocol = Connection;

    fn build_protocol(&mut self, state: &mut State, _: &Address) -> Option<Connection> {
        state.hello().map(Connection::new)
    }

    fn connection_made(&mut self, state: &mut State, cx: &mut Cx, conn: ConnId) {
        state.connection_made(cx, conn);
    }

    fn event(&mut self, state: &mut State, cx: &mut Cx, conn: ConnId, event: ClientEvent) {
        if state.is_present(conn) {
            state.understood(cx, conn, event);
        }
    }

    fn output_drained(&mut self, state: &mut State, cx: &mut Cx, conn: ConnId) {
        if state.is_present(conn) {
            state.feed(cx);
        }
    }

    fn connection_lost(&mut self, state: &mut State, cx: &mut Cx, conn: ConnId, why: LostReason) {
        if state.is_present(conn) {
            state.connection_lost(cx, &why);
        }
    }

    fn connection_failed(&mut self, state: &mut State, cx: &mut Cx, _: &Address, why: io::Error) {
        state.connection_failed(cx, &why.to_string());
    }
}
