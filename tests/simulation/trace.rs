//! A trace that somebody can read: when, who, what. It is made when a run that failed is run again.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex};

use zeo_proto::Versions;
use zeo_proto::{ClientConnection, ClientEvent, Greeting, Hello, ServerConnection, ServerEvent};
use zeo_reactor::Time;
use zeo_reactor::sim::{Sight, World};

use crate::system::SERVER;

/// The lines so far. Clones are the same trace.
#[derive(Clone, Default)]
pub(crate) struct Trace(Arc<Mutex<Vec<String>>>);

impl Trace {
    /// Writes down what happens in a world from now on.
    pub(crate) fn of(&self, world: &World) {
        let (trace, mut streams) = (self.clone(), Streams::default());
        world.observe(move |now, sight| match sight {
            Sight::Bytes { stream, from, to, data } => {
                for message in streams.receive(stream, from, data) {
                    trace.add(now, &format!("{from} → {to}: {message}"));
                }
            }
            other => trace.add(now, &other),
        });
    }

    /// Adds a line.
    pub(crate) fn add(&self, now: Time, what: &dyn Display) {
        let time = now.since_start().as_secs_f64();
        self.0.lock().unwrap().push(format!("{time:14.6}  {what}"));
    }

    /// The last lines, so many.
    pub(crate) fn last(&self, count: usize) -> String {
        let lines = self.0.lock().unwrap();
        let left_out = lines.len().saturating_sub(count);
        let mut text = format!("trace: seconds, who, what ({left_out} lines before these)\n");
        for line in &lines[left_out..] {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

/// The machines that understand each direction of each connection.
#[derive(Default)]
struct Streams {
    from_server: BTreeMap<u64, ClientConnection>,
    from_clients: BTreeMap<u64, ServerConnection>,
}

impl Streams {
    /// What the bytes complete, in short.
    fn receive(&mut self, stream: u64, from: &str, data: &[u8]) -> Vec<String> {
        if from == SERVER {
            let new = || ClientConnection::new(Hello::new("main").unwrap());
            let machine = self.from_server.entry(stream).or_insert_with(new);
            machine.receive(data);
            return std::iter::from_fn(|| machine.poll()).map(|event| said(&event)).collect();
        }
        let new = || ServerConnection::new(Greeting { versions: Versions::SPOKEN });
        let machine = self.from_clients.entry(stream).or_insert_with(new);
        machine.receive(data);
        std::iter::from_fn(|| machine.poll()).map(|event| asked(&event)).collect()
    }
}

fn said(event: &ClientEvent) -> String {
    short(match event {
        ClientEvent::Welcomed(welcome) => format!("Welcome, {}", welcome.last_tid),
        ClientEvent::Message(message, _) => format!("{message:?}"),
        other => format!("{other:?}"),
    })
}

fn asked(event: &ServerEvent) -> String {
    short(match event {
        ServerEvent::Hello(hello) => format!("Hello, {:?}", hello.last_tid),
        ServerEvent::Message(message, tail) if tail.is_empty() => format!("{message:?}"),
        ServerEvent::Message(message, tail) => format!("{message:?} and {} bytes", tail.len()),
        other => format!("{other:?}"),
    })
}

fn short(text: String) -> String {
    if text.len() <= LINE { text } else { text.chars().take(LINE).chain("…".chars()).collect() }
}

/// Longer messages are cut.
const LINE: usize = 200;
