//! Memory for messages that have arrived in part, of all connections together.

use std::collections::BTreeMap;

use zeo_proto::Goodbye;
use zeo_reactor::{ConnId, Context};

use crate::server::Server;

/// What connections hold in memory of messages that are not whole yet.
#[derive(Debug, Default)]
pub(crate) struct Input {
    held: BTreeMap<ConnId, usize>,
    total: usize,
}

impl Input {
    /// Notes what a connection holds now, in bytes.
    pub(crate) fn set(&mut self, conn: ConnId, bytes: usize) {
        let before = match bytes {
            0 => self.held.remove(&conn),
            _ => self.held.insert(conn, bytes),
        };
        self.total = self.total - before.unwrap_or(0) + bytes;
    }

    /// The connection that holds most.
    fn largest(&self) -> Option<ConnId> {
        self.held.iter().max_by_key(|&(_, bytes)| bytes).map(|(&conn, _)| conn)
    }
}

impl Server {
    /// A connection holds more, or less, than before. When all of them hold too much, the one with
    /// most is closed: a message may be 64 MiB, and to send all of one but its end costs a peer
    /// nothing.
    pub(crate) fn holds(&mut self, cx: &mut Context<Self>, conn: ConnId, bytes: usize) {
        self.input.set(conn, bytes);
        let max = self.limits.input_bytes;
        while self.input.total > max
            && let Some(largest) = self.input.largest()
        {
            self.input.set(largest, 0);
            tracing::warn!(conn = %largest, "closing: messages in part take more than {max} bytes");
            let why = "too much memory is taken by messages that have arrived in part".to_owned();
            self.dismiss(cx, largest, Goodbye::TookTooLong(why));
        }
    }
}
