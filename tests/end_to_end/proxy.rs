//! A proxy between a client and the daemon that can lose answers and delay questions.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// Forwards connections to one address.
pub(crate) struct Proxy {
    address: String,
    state: Arc<Watched>,
}

/// What the proxy's threads share, and the signal that something of it changed.
struct Watched {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    mode: Mode,
    /// What the client sent and the server has not got.
    held: Vec<u8>,
    /// The latest connection: towards the client, and towards the server.
    latest: Option<(TcpStream, TcpStream)>,
    /// What the server sent on each connection.
    answers: Vec<Vec<u8>>,
}

#[derive(Clone, Copy)]
enum Mode {
    Forward,
    /// The client gets no answers any more; its connection is cut at the next.
    LoseAnswer,
    /// The server gets no questions any more.
    HoldQuestions,
    /// Nor from the first on of which this holds.
    HoldFrom(fn(&[u8]) -> bool),
}

impl Proxy {
    pub(crate) fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = State { mode: Mode::Forward, held: vec![], latest: None, answers: vec![] };
        let state = Arc::new(Watched { state: Mutex::new(state), changed: Condvar::new() });
        let (shared, server) = (Arc::clone(&state), server.to_owned());
        spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                shared.connect(client, TcpStream::connect(&server).unwrap());
            }
        });
        Self { address, state }
    }

    /// What a client connects to.
    pub(crate) fn url(&self) -> String {
        format!("zeo://{}/main", self.address)
    }

    /// The server's next answer is lost, and with it the connection.
    pub(crate) fn lose_the_next_answer(&self) {
        self.state.lock().mode = Mode::LoseAnswer;
    }

    /// From now on, what the client sends is held back.
    pub(crate) fn hold_questions(&self) {
        self.state.lock().mode = Mode::HoldQuestions;
    }

    /// What the client sends is held back from the first bytes on of which this holds.
    pub(crate) fn hold_from(&self, is_it: fn(&[u8]) -> bool) {
        self.state.lock().mode = Mode::HoldFrom(is_it);
    }

    /// Waits until something is held back.
    pub(crate) fn wait_until_held(&self) {
        drop(self.state.wait(|state| !state.held.is_empty()));
    }

    /// Waits until what is held back satisfies `is_enough`, then cuts the client's connection, but
    /// not the server's: its bytes are still under way. The next connection works.
    pub(crate) fn cut_when(&self, is_enough: impl Fn(&[u8]) -> bool) -> Delayed {
        let mut state = self.state.wait(|state| is_enough(&state.held));
        state.mode = Mode::Forward;
        let (client, server) = state.latest.take().unwrap();
        client.shutdown(Shutdown::Both).unwrap();
        let connection = state.answers.len() - 1;
        Delayed { server, connection, held: std::mem::take(&mut state.held) }
    }

    /// Lets bytes arrive that were under way, and waits until the server's answers on their
    /// connection satisfy `is_enough`.
    pub(crate) fn arrive(&self, mut delayed: Delayed, is_enough: impl Fn(&[u8]) -> bool) {
        delayed.server.write_all(&delayed.held).unwrap();
        drop(self.state.wait(|state| is_enough(&state.answers[delayed.connection])));
    }
}

/// Bytes of a connection that is gone at one end.
pub(crate) struct Delayed {
    server: TcpStream,
    connection: usize,
    held: Vec<u8>,
}

impl Watched {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn wait(&self, until: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let limit = Duration::from_secs(30);
        let waiting = self.changed.wait_timeout_while(self.lock(), limit, |state| !until(state));
        let (state, timeout) = waiting.unwrap();
        assert!(!timeout.timed_out(), "it does not come");
        state
    }

    fn connect(self: &Arc<Self>, client: TcpStream, server: TcpStream) {
        let clone = |stream: &TcpStream| stream.try_clone().unwrap();
        let mut state = self.lock();
        state.latest = Some((clone(&client), clone(&server)));
        state.answers.push(Vec::new());
        let connection = state.answers.len() - 1;
        drop(state);
        let (up, down) = (Arc::clone(self), Arc::clone(self));
        let (from, to) = (clone(&client), clone(&server));
        spawn(move || up.questions(from, to));
        spawn(move || down.answers(connection, server, client));
    }

    fn questions(&self, mut client: TcpStream, mut server: TcpStream) {
        while let Some(bytes) = read(&mut client) {
            let mut state = self.lock();
            if matches!(state.mode, Mode::HoldFrom(is_it) if is_it(&bytes)) {
                state.mode = Mode::HoldQuestions;
            }
            if matches!(state.mode, Mode::HoldQuestions) {
                state.held.extend(bytes);
                self.changed.notify_all();
            } else {
                drop(state);
                drop(server.write_all(&bytes));
            }
        }
    }

    fn answers(&self, connection: usize, mut server: TcpStream, mut client: TcpStream) {
        while let Some(bytes) = read(&mut server) {
            let mut state = self.lock();
            state.answers[connection].extend(&bytes);
            self.changed.notify_all();
            if matches!(state.mode, Mode::LoseAnswer) {
                state.mode = Mode::Forward;
                client.shutdown(Shutdown::Both).unwrap();
            }
            drop(state);
            drop(client.write_all(&bytes));
        }
    }
}

fn read(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut buffer = [0; 4096];
    let count = stream.read(&mut buffer).ok().filter(|&count| count > 0)?;
    Some(buffer[..count].to_vec())
}

fn spawn(work: impl FnOnce() + Send + 'static) {
    thread::Builder::new().name("proxy".to_owned()).spawn(work).unwrap();
}
