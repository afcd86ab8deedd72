//! A connection of the native protocol in the thread that uses it: a client that costs as little as
//! can be, to measure servers with.

use std::io::{Read, Write};
use std::net::TcpStream;

use zeo_proto::{Call, ClientConnection, ClientEvent, ClientMessage, Hello, Oid, Tid};
use zeo_reactor::Address;

use crate::store::OBJECT;

/// A connection whose owner reads and writes it directly.
#[derive(Debug)]
pub(crate) struct RawLink {
    stream: TcpStream,
    machine: ClientConnection,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl RawLink {
    pub(crate) fn connect(address: &Address) -> Self {
        let stream = TcpStream::connect(address.to_string()).unwrap();
        stream.set_nodelay(true).unwrap();
        let machine = ClientConnection::new(Hello::new("main").unwrap());
        let mut link = Self { stream, machine, input: vec![0; 128 << 10], output: Vec::new() };
        while !matches!(link.next(), ClientEvent::Welcomed(_)) {
            link.machine.take_output(&mut link.output);
        }
        link
    }

    /// Loads every object, with so many calls in flight.
    pub(crate) fn load(&mut self, oids: &[Oid], window: usize) {
        let (ahead, rest) = oids.split_at(window);
        for oid in ahead {
            self.ask(*oid);
        }
        for next in rest.iter().map(Some).chain(ahead.iter().map(|_| None)) {
            let event = self.next();
            assert!(matches!(&event, ClientEvent::Message(_, data) if data.len() == OBJECT));
            if let Some(oid) = next {
                self.ask(*oid);
            }
        }
    }

    fn ask(&mut self, oid: Oid) {
        let call = ClientMessage::Call(7, Call::LoadBefore(oid, Tid::MAX));
        zeo_proto::encode(&call, &[], &mut self.output).unwrap();
    }

    /// The next event. What is to be said is sent before there is nothing to do but wait.
    fn next(&mut self) -> ClientEvent {
        loop {
            if let Some(event) = self.machine.poll() {
                return event;
            }
            self.stream.write_all(&self.output).unwrap();
            self.output.clear();
            let read = self.stream.read(&mut self.input).unwrap();
            self.machine.receive(&self.input[..read]);
        }
    }
}
