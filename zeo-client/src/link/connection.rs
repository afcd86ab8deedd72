//! Joins the protocol's machine to the reactor: bytes in, events to [`State`].

use std::{io, mem};

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
    /// Bytes came of which nothing has been said.
    heard: bool,
}

/// What comes from a server.
pub(super) enum Input {
    Event(ClientEvent),
    /// A part of a message: large ones take their time, and the server lives meanwhile.
    Part,
}

impl Connection {
    fn new(hello: Hello) -> Self {
        Self { machine: ClientConnection::new(hello), greeting: true, first: None, heard: false }
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
    type Event = Input;

    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        self.machine.receive(data);
        self.heard = true;
        if self.greeting {
            self.greet(transport);
        }
    }

    fn poll_event(&mut self) -> Option<Input> {
        if self.greeting {
            return None;
        }
        let event = self.first.take().or_else(|| self.machine.poll());
        let part = mem::take(&mut self.heard) && event.is_none();
        event.map(Input::Event).or_else(|| part.then_some(Input::Part))
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

    fn event(&mut self, state: &mut State, cx: &mut Cx, conn: ConnId, input: Input) {
        if state.is_present(conn) {
            state.heard(cx);
            match input {
                Input::Event(event) => state.understood(cx, conn, event),
                Input::Part => {}
            }
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
