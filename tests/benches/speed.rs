//! How fast it is, beside its references measured in the same run.
//!
//! `cargo bench -p zeo-tests` prints one table. Each row is measured in several rounds, interleaved
//! with its reference, and says the medians and their ratio: this machine's absolute figures are
//! of little use on another, the ratios are. `-- --quick` takes fewer and shorter rounds, and other
//! arguments choose rows: `-- commits` measures those with "commits" in their name.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a benchmark reads the clock, prints, and fails by panicking"
)]

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use zeo_client::Client;
use zeo_proto::{Call, ClientConnection, ClientEvent, ClientMessage, Hello, Oid, Tid};
use zeo_reactor::Address;
use zeo_server::storage::{self, OpenOptions as StorageOptions};
use zeo_server::{RunningServer, Server};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let plan = if arguments.iter().any(|argument| argument == "--quick") {
        Plan { rounds: 3, slice: Duration::from_millis(300) }
    } else {
        Plan { rounds: 7, slice: Duration::from_secs(1) }
    };
    let names: Vec<_> = arguments.iter().filter(|name| !name.starts_with('-')).collect();
    println!("| what | zeo | reference | ratio | reference is |");
    println!("|---|---|---|---|---|");
    for (name, measure) in ROWS {
        if names.is_empty() || names.iter().any(|part| name.contains(part.as_str())) {
            measure(plan);
        }
    }
}

type Row = (&'static str, fn(Plan));

const ROWS: [Row; 7] = [
    ("load, in cache", cached_load),
    ("load, cold", cold_load),
    ("batch load", batch_load),
    ("server, loads one at a time", |plan| raw_loads(plan, 1, 8.0)),
    ("server, loads pipelined", |plan| raw_loads(plan, 64, 1.5)),
    ("commits, 1 caller", |plan| {
        commits(plan, 1, "append to an extending file + fdatasync");
    }),
    ("commits, 64 callers", |plan| {
        commits(plan, 64, "a plain log with group commit, 64 callers");
    }),
];

/// How long to measure.
#[derive(Debug, Clone, Copy)]
struct Plan {
    rounds: usize,
    slice: Duration,
}

fn cached_load(plan: Plan) {
    let server = Server::in_memory().unwrap();
    let db = Client::connect(&server.url("main")).unwrap();
    let oid = filled(&db, 1)[0];
    db.load(oid).unwrap();
    let nanos = median(plan.rounds, || {
        1e9 / rate(plan.slice / 4, 1_000, || {
            std::hint::black_box(db.load(oid).unwrap());
        })
    });
    println!("| load, in cache | {nanos:.0} ns | 100 ns | {:.2} | the aim |", nanos / 100.0);
}

/// Loads that the client has not, one at a time, that the server has in memory.
fn cold_load(plan: Plan) {
    let server = Server::in_memory().unwrap();
    let writer = Client::connect(&server.url("main")).unwrap();
    let oids = filled(&writer, 20_000);
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    let mut ping = PingPong::start();
    for _ in 0..plan.rounds {
        // A fresh client has a cold cache.
        let db = Client::connect(&server.url("main")).unwrap();
        ours.push(latency(plan.slice, oids.iter(), |&oid| drop(db.load(oid).unwrap())));
        theirs.push(latency(plan.slice, oids.iter(), |_| ping.once()));
    }
    let (ours, theirs) = (middle(ours), middle(theirs));
    println!(
        "| load, cold, one caller, p50 | {ours:.1} µs | {theirs:.1} µs | {:.2} | a blocking socket ping-pong |",
        ours / theirs
    );
}

fn batch_load(plan: Plan) {
    let server = Server::in_memory().unwrap();
    let writer = Client::connect(&server.url("main")).unwrap();
    let oids = filled(&writer, 50_000);
    let rate = median(plan.rounds, || {
        let db = Client::connect(&server.url("main")).unwrap();
        let start = Instant::now();
        assert!(db.load_many(&oids).unwrap().iter().all(Option::is_some));
        oids.len() as f64 / start.elapsed().as_secs_f64()
    });
    println!("| batch load | {rate:.0} objects/s | 400000 | {:.2} | the aim |", rate / 400_000.0);
}

/// What a server's own thread takes for a load from memory, asked for by a connection without a
/// client library that always has `window` of them in flight.
fn raw_loads(plan: Plan, window: usize, aim_micros: f64) {
    let server = Server::in_memory().unwrap();
    let oids = filled(&Client::connect(&server.url("main")).unwrap(), 20_000);
    let mut link = RawLink::connect(&server.addresses()[0]);
    let (mut rates, mut micros) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        let (start, before, mut count) = (Instant::now(), server_cpu(), 0);
        while start.elapsed() < plan.slice {
            link.load(&oids, window);
            count += oids.len();
        }
        rates.push(count as f64 / start.elapsed().as_secs_f64());
        micros.push((server_cpu() - before) * 1e6 / count as f64);
    }
    let (rate, micros) = (middle(rates), middle(micros));
    println!(
        "| server CPU per load, {window} in flight ({rate:.0}/s) | {micros:.2} µs | {aim_micros} µs | {:.2} | the aim |",
        micros / aim_micros
    );
}

/// Seconds of CPU that the server's reactor has taken, as Linux counts them.
fn server_cpu() -> f64 {
    let threads =
        std::fs::read_dir("/proc/self/task").unwrap().map(|thread| thread.unwrap().path());
    let mine = threads.filter(|thread| {
        std::fs::read_to_string(thread.join("comm")).is_ok_and(|name| name == "zeo-server\n")
    });
    let nanos = mine.map(|thread| {
        let text = std::fs::read_to_string(thread.join("schedstat")).unwrap();
        text.split(' ').next().unwrap().parse::<f64>().unwrap()
    });
    nanos.sum::<f64>() / 1e9
}

/// Durable commits of one object of 1 KiB by that many callers, beside the same bytes in a file.
fn commits(plan: Plan, callers: usize, reference: &str) {
    let dir = tempfile::tempdir_in(".").unwrap();
    let server = on_disk(dir.path());
    let db = Client::connect(&server.url("main")).unwrap();
    let oids = filled(&db, callers);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let log = PlainLog::create(&dir.path().join("log"));
    for _ in 0..plan.rounds {
        ours.push(all_callers(plan.slice, callers, |caller| {
            let mut txn = db.begin().unwrap();
            txn.store(oids[caller], vec![7; 1024]).unwrap();
            txn.commit().unwrap();
        }));
        theirs.push(all_callers(plan.slice, callers, |_| log.commit(&[7; 1100])));
    }
    let (ours, theirs) = (middle(ours), middle(theirs));
    println!(
        "| durable commits, {callers} callers | {ours:.0}/s | {theirs:.0}/s | {:.2} | {reference} |",
        ours / theirs
    );
}

fn on_disk(dir: &Path) -> RunningServer {
    let storage = storage::open(&dir.join("main"), StorageOptions::new([1; 16])).unwrap();
    let address = "127.0.0.1:0".parse().unwrap();
    Server::builder().storage("main", Arc::new(storage)).listen(address).start().unwrap()
}

/// Commits that many objects of 1 KiB.
fn filled(db: &Client, count: usize) -> Vec<Oid> {
    let mut oids = Vec::new();
    for chunk in (0..count).collect::<Vec<_>>().chunks(1_000) {
        let mut txn = db.begin().unwrap();
        oids.extend(chunk.iter().map(|_| txn.create(vec![7; 1024]).unwrap()));
        txn.commit().unwrap();
    }
    oids
}

/// How often a second `f` can be done, called `batch` times between looks at the clock.
fn rate(slice: Duration, batch: u32, mut f: impl FnMut()) -> f64 {
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < slice {
        for _ in 0..batch {
            f();
        }
        count += batch;
    }
    f64::from(count) / start.elapsed().as_secs_f64()
}

/// The median time of `f` in microseconds.
fn latency<T>(slice: Duration, over: impl Iterator<Item = T>, mut f: impl FnMut(T)) -> f64 {
    let (begin, mut times) = (Instant::now(), Vec::new());
    for item in over {
        let start = Instant::now();
        f(item);
        times.push(start.elapsed().as_secs_f64() * 1e6);
        if begin.elapsed() > slice {
            break;
        }
    }
    middle(times)
}

/// How often a second `f` is done by that many threads together.
fn all_callers(slice: Duration, callers: usize, f: impl Fn(usize) + Sync) -> f64 {
    let ready = Barrier::new(callers + 1);
    thread::scope(|scope| {
        let counts: Vec<_> = (0..callers)
            .map(|caller| {
                let (ready, f) = (&ready, &f);
                scope.spawn(move || {
                    ready.wait();
                    let (start, mut count) = (Instant::now(), 0_u32);
                    while start.elapsed() < slice {
                        f(caller);
                        count += 1;
                    }
                    f64::from(count) / start.elapsed().as_secs_f64()
                })
            })
            .collect();
        ready.wait();
        counts.into_iter().map(|count| count.join().unwrap()).sum()
    })
}

fn median(rounds: usize, mut f: impl FnMut() -> f64) -> f64 {
    middle((0..rounds).map(|_| f()).collect())
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A connection of the native protocol in the thread that uses it.
struct RawLink {
    stream: TcpStream,
    machine: ClientConnection,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl RawLink {
    fn connect(address: &Address) -> Self {
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
    fn load(&mut self, oids: &[Oid], window: usize) {
        let (ahead, rest) = oids.split_at(window);
        for oid in ahead {
            self.ask(*oid);
        }
        for next in rest.iter().map(Some).chain(ahead.iter().map(|_| None)) {
            let event = self.next();
            assert!(matches!(&event, ClientEvent::Message(_, data) if data.len() == 1024));
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

/// A blocking server thread and a blocking client, with the bytes of a load and of its answer.
struct PingPong {
    stream: TcpStream,
}

impl PingPong {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        peer.set_nodelay(true).unwrap();
        let serve = move || {
            let (mut question, answer) = ([0; QUESTION], [7; ANSWER]);
            while peer.read_exact(&mut question).is_ok() {
                peer.write_all(&answer).unwrap();
            }
        };
        thread::Builder::new().spawn(serve).unwrap();
        Self { stream }
    }

    fn once(&mut self) {
        let mut answer = [0; ANSWER];
        self.stream.write_all(&[1; QUESTION]).unwrap();
        self.stream.read_exact(&mut answer).unwrap();
    }
}

/// Appends with one sync for all who wait: the least that durable commits can cost.
struct PlainLog {
    state: Mutex<LogState>,
    synced: Condvar,
    file: std::fs::File,
}

#[derive(Default)]
struct LogState {
    waiting: Vec<u8>,
    /// Groups begun and groups synced.
    current: u64,
    done: u64,
    syncing: bool,
}

impl PlainLog {
    fn create(path: &Path) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        Self { state: Mutex::new(LogState::default()), synced: Condvar::new(), file }
    }

    fn commit(&self, bytes: &[u8]) {
        let mut state = self.state.lock().unwrap();
        state.waiting.extend_from_slice(bytes);
        let mine = state.current;
        loop {
            if state.done > mine {
                return;
            }
            if state.syncing {
                state = self.synced.wait(state).unwrap();
                continue;
            }
            state.syncing = true;
            let group = std::mem::take(&mut state.waiting);
            state.current += 1;
            drop(state);
            (&self.file).write_all(&group).unwrap();
            self.file.sync_data().unwrap();
            state = self.state.lock().unwrap();
            state.syncing = false;
            state.done += 1;
            self.synced.notify_all();
        }
    }
}

/// Bytes of a `LoadBefore` call, and of its answer with 1 KiB of data.
const QUESTION: usize = 4 + 4 + 8 + 4 + 16;
const ANSWER: usize = 4 + 4 + 8 + 4 + 4 + 8 + 1 + 4 + 1024;
