//! What many sessions cost, and how long it takes until all of them have heard of a commit.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use mio::{Events, Interest, Poll, Token};
use zeo_client::Client;
use zeo_proto::{Oid, ServerMessage, Tid};
use zeo_tests::sockets;

use crate::measure::{self, Sample};
use crate::plan::Plan;
use crate::store::Store;
use crate::table::{Aim, Figure, Row, Unit};

/// Memory for sessions that only are there. Both ends are in this process, but those of the
/// clients are bare sockets.
pub(crate) fn idle(_: &Plan) -> Vec<Row> {
    sockets::allow_open_files(2 * IDLE as u64 + 100).unwrap();
    let store = Store::in_memory(1);
    let before = resident();
    let sessions = sockets::sessions(&address(&store), "main", IDLE).unwrap();
    let kib = (resident() - before) as f64 / 1024.0 / sessions.len() as f64;
    let figure = Figure::new(Unit::KibiBytes, vec![kib]);
    vec![Row::alone(format!("memory of an idle session, of {IDLE}"), figure, Aim::AtMost(16.0))]
}

/// From the call of a commit until its invalidation is there, over all clients, beside a loop that
/// writes the same bytes to as many sockets.
pub(crate) fn invalidation(plan: &Plan) -> Vec<Row> {
    sockets::allow_open_files(4 * AUDIENCE as u64 + 100).unwrap();
    let store = Store::in_memory(1);
    let writer = store.client();
    let told = Audience::watch(sockets::sessions(&address(&store), "main", AUDIENCE).unwrap());
    let mut loop_ = PlainLoop::start();
    let [ours, theirs] = measure::rounds(
        plan,
        [&mut || told.hears(plan, || commit(&writer, store.oids[0])), &mut || {
            let PlainLoop { ends, told } = &mut loop_;
            told.hears(plan, || ends.iter_mut().for_each(|end| end.write_all(&frame()).unwrap()))
        }],
    );
    let what = format!("an invalidation reaches {AUDIENCE} clients");
    let reference = (&theirs[..], "a loop that writes the same to as many sockets");
    Row::latencies(&what, &ours, reference, Aim::None).into()
}

fn commit(writer: &Client, oid: Oid) {
    writer.run(|txn| txn.store(oid, "new")).unwrap();
}

/// The other ends of as many sockets, without a server.
struct PlainLoop {
    ends: Vec<TcpStream>,
    told: Audience,
}

impl PlainLoop {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let pair = |_| (TcpStream::connect(address).unwrap(), listener.accept().unwrap().0);
        let (told, ends): (Vec<_>, Vec<_>) = (0..AUDIENCE).map(pair).unzip();
        for end in &ends {
            end.set_nodelay(true).unwrap();
        }
        Self { ends, told: Audience::watch(told) }
    }
}

/// Many sockets, and a thread that waits for all of them.
struct Audience {
    listen: Sender<Instant>,
    heard: Receiver<Vec<f64>>,
}

impl Audience {
    fn watch(sockets: Vec<TcpStream>) -> Self {
        let ((listen, begins), (tell, heard)) = (bounded(1), bounded(1));
        let watch = move || {
            let mut ears = Ears::open(sockets);
            for begun in begins {
                tell.send(ears.hear(begun)).unwrap();
            }
        };
        std::thread::Builder::new().name("audience".to_owned()).spawn(watch).unwrap();
        Self { listen, heard }
    }

    /// How long after `say` has begun it is heard, again and again; over everybody who hears it.
    fn hears(&self, plan: &Plan, mut say: impl FnMut()) -> Sample {
        let (start, mut times, mut said) = (Instant::now(), Vec::new(), 0);
        while start.elapsed() < plan.slice {
            self.listen.send(Instant::now()).unwrap();
            say();
            times.extend(self.heard.recv().unwrap());
            said += 1;
        }
        times.sort_by(f64::total_cmp);
        let rate = f64::from(said) / start.elapsed().as_secs_f64();
        Sample { rate, p50: times[times.len() / 2], p99: times[times.len() * 99 / 100] }
    }
}

/// The sockets, and what waits for any of them.
struct Ears {
    poll: Poll,
    events: Events,
    sockets: Vec<mio::net::TcpStream>,
    /// Bytes of what is heard at a time.
    len: usize,
}

impl Ears {
    fn open(sockets: Vec<TcpStream>) -> Self {
        let poll = Poll::new().unwrap();
        let register = |(index, socket): (usize, TcpStream)| {
            socket.set_nonblocking(true).unwrap();
            let mut socket = mio::net::TcpStream::from_std(socket);
            poll.registry().register(&mut socket, Token(index), Interest::READABLE).unwrap();
            socket
        };
        let sockets = sockets.into_iter().enumerate().map(register).collect();
        Self { poll, events: Events::with_capacity(AUDIENCE), sockets, len: frame().len() }
    }

    /// Waits until every socket has brought its bytes; when each had, in microseconds.
    fn hear(&mut self, begun: Instant) -> Vec<f64> {
        let mut missing = vec![self.len; self.sockets.len()];
        let mut times = Vec::with_capacity(self.sockets.len());
        while times.len() < self.sockets.len() {
            self.poll.poll(&mut self.events, Some(Duration::from_secs(10))).unwrap();
            assert!(!self.events.is_empty(), "{} of them heard nothing", missing.len());
            for event in &self.events {
                let Token(index) = event.token();
                missing[index] -= take(&mut self.sockets[index]);
                if missing[index] == 0 {
                    times.push(begun.elapsed().as_secs_f64() * 1e6);
                }
            }
        }
        times
    }
}

/// Reads what there is.
fn take(socket: &mut mio::net::TcpStream) -> usize {
    let (mut bytes, mut taken) = ([0; 256], 0);
    loop {
        match socket.read(&mut bytes) {
            Ok(0) => panic!("a connection was closed"),
            Ok(read) => taken += read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return taken,
            Err(error) => panic!("{error}"),
        }
    }
}

/// The invalidation of one object, as long as any other.
fn frame() -> Vec<u8> {
    let mut frame = Vec::new();
    let message = ServerMessage::Invalidate(Tid::new(1), vec![Oid::new(1)], false);
    zeo_proto::encode(&message, &[], &mut frame).unwrap();
    frame
}

fn address(store: &Store) -> String {
    store.server.addresses()[0].to_string()
}

/// Bytes that this process has in memory.
pub(crate) fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

const IDLE: usize = 4_000;
const AUDIENCE: usize = 1_000;
