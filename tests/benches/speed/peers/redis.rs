//! Redis, with every write synced before it is answered.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::process::{Process, free_port};
use super::{OBJECTS, Peer};
use crate::commit::CALLERS;
use crate::measure;
use crate::plan::Plan;
use crate::store::OBJECT;

/// A server, and a connection for each client.
#[derive(Debug)]
pub(super) struct Redis {
    connections: Vec<Mutex<Connection>>,
    /// Ends after the connections, and before its files.
    _process: Process,
    _dir: tempfile::TempDir,
}

impl Redis {
    pub(super) fn start(plan: &Plan) -> Result<Self, String> {
        let (dir, port) = (plan.scratch(), free_port());
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""]);
        command.args(["--appendonly", "yes", "--appendfsync", "always", "--dir"]).arg(dir.path());
        let process = Process::start(&mut command, port)?;
        let connections: Vec<_> = (0..CALLERS).map(|_| Mutex::new(Connection::new(port))).collect();
        let redis = Self { connections, _process: process, _dir: dir };
        (0..OBJECTS).for_each(|number| redis.with(0, |connection| connection.set(number)));
        Ok(redis)
    }

    fn with(&self, client: usize, f: impl FnOnce(&mut Connection)) {
        f(&mut self.connections[client].lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Peer for Redis {
    fn commits(&self, slice: Duration, clients: usize) -> f64 {
        let set = |client| self.with(client, |connection| connection.set(client));
        measure::callers(slice, clients, set).rate
    }

    fn loads(&self, slice: Duration, clients: usize) -> f64 {
        let find = |client| self.with(client, Connection::find);
        measure::callers(slice, clients, find).rate
    }
}

/// A client: just enough of the protocol.
#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    next: usize,
}

impl Connection {
    fn new(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, next: 0 }
    }

    fn set(&mut self, number: usize) {
        let key = key(number);
        let mut command = format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${OBJECT}\r\n", key.len());
        command.extend(std::iter::repeat_n('7', OBJECT));
        command.push_str("\r\n");
        assert_eq!(self.ask(&command, b"+OK\r\n".len()), b"+OK\r\n");
    }

    fn find(&mut self) {
        self.next = (self.next + 1) % OBJECTS;
        let key = key(self.next);
        let command = format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len());
        let head = format!("${OBJECT}\r\n");
        let answer = self.ask(&command, head.len() + OBJECT + "\r\n".len());
        assert!(answer.starts_with(head.as_bytes()));
    }

    fn ask(&mut self, command: &str, answer: usize) -> Vec<u8> {
        self.stream.write_all(command.as_bytes()).unwrap();
        let mut bytes = vec![0; answer];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }
}

fn key(number: usize) -> String {
    format!("object:{number}")
}
