//! The watcher's connections: the protocol's machine, and nothing else.

use std::io;

use zeo_proto::{ClientConnection, ClientEvent, Hello};
use zeo_reactor::{Address, ConnId, Context, Factory, LostReason, Protocol, Transport};

use super::Watcher;

/// Makes the watcher's connections.
pub(super) struct Eyes {
    pub(super) address: Address,
}

/// What an eye sees: an event of the protocol, and what the machine has to send by itself.
type Glance = (ClientEvent, Vec<u8>);

pub(super) struct Eye {
    machine: ClientConnection,
}

impl Protocol for Eye {
    type Event = Glance;

    fn data_received(&mut self, _: &mut Transport, data: &[u8]) {
        self.machine.receive(data);
    }

    fn poll_event(&mut self) -> Option<Glance> {
        let event = self.machine.poll()?;
        let mut output = Vec::new();
        self.machine.take_output(&mut output);
        Some((event, output))
    }
}

impl Factory<Watcher> for Eyes {
    type Protocol = Eye;

    fn build_protocol(&mut self, _: &mut Watcher, _: &Address) -> Option<Eye> {
        Some(Eye { machine: ClientConnection::new(Hello::new("main").unwrap()) })
    }

    fn event(
        &mut self,
        watcher: &mut Watcher,
        cx: &mut Context<Watcher>,
        conn: ConnId,
        (event, output): Glance,
    ) {
        cx.transport(conn).unwrap().write(&output);
        match event {
            ClientEvent::Welcomed(welcome) => watcher.welcomed(cx, conn, welcome.last_tid),
            ClientEvent::Message(message, _) => watcher.told(cx, conn, message),
            ClientEvent::Greeted | ClientEvent::Refused(_) => {}
            other => panic!("{other:?}"),
        }
    }

    fn connection_lost(
        &mut self,
        watcher: &mut Watcher,
        cx: &mut Context<Watcher>,
        _: ConnId,
        _: LostReason,
    ) {
        watcher.lost(cx, &self.address);
    }

    fn connection_failed(
        &mut self,
        watcher: &mut Watcher,
        cx: &mut Context<Watcher>,
        to: &Address,
        _: io::Error,
    ) {
        watcher.connect_again(cx, to);
    }
}
