//! Both hosts over real sockets, with the same requests.

use std::io::{BufRead, BufReader, Read};
use std::thread::{self, JoinHandle};

use serde_json::{Value, json};
use zeo_client::{Client, Subscription};
use zeo_server::{RunningServer, Server};

use super::*;
use crate::events::HEARTBEAT;

const HOSTS: [Host; 2] = [Host::Evented, Host::Threaded];

#[test]
fn both_hosts_serve_the_same_board() {
    for host in HOSTS {
        let demo = Demo::start(host);
        let (status, note) = demo.ask("POST", "/notes", r#"{"text":"<b>one</b>"}"#);
        assert_eq!((status, &note["text"]), (201, &json!("<b>one</b>")), "{host:?}");
        assert_eq!(demo.ask("GET", "/notes", ""), (200, json!([note])), "{host:?}");

        let path = format!("/notes/{}", note["id"].as_str().unwrap());
        let edit = json!({ "text": "two", "revision": note["revision"] }).to_string();
        let (status, edited) = demo.ask("PUT", &path, &edit);
        assert_eq!((status, &edited["text"]), (200, &json!("two")), "{host:?}");
        assert_eq!(demo.ask("PUT", &path, &edit), (409, edited.clone()), "{host:?}");

        let delete = format!("{path}?revision={}", edited["revision"].as_str().unwrap());
        assert_eq!(demo.ask("DELETE", &delete, ""), (204, Value::Null), "{host:?}");
        assert_eq!(demo.ask("GET", &path, "").0, 405, "{host:?}");
        assert!(demo.send("GET", "/", "").contains("<!doctype html>"), "{host:?}");
    }
}

#[test]
fn many_requests_at_once_do_not_deadlock_a_host() {
    for host in HOSTS {
        let demo = Demo::start(host);
        thread::scope(|scope| {
            for number in 0..16 {
                let body = json!({ "text": number.to_string() }).to_string();
                let demo = &demo;
                scope.spawn(move || assert_eq!(demo.ask("POST", "/notes", &body).0, 201));
            }
        });
        let (_, notes) = demo.ask("GET", "/notes", "");
        assert_eq!(notes.as_array().map(Vec::len), Some(16), "{host:?}");
    }
}

#[test]
fn pages_hear_of_what_another_process_changes() {
    for host in HOSTS {
        let demo = Demo::start(host);
        let mut pages = [demo.listen(), demo.listen()];
        let note = demo.other_board().add("theirs").unwrap();
        for page in &mut pages {
            assert_eq!(read_event(page), format!("data: {}\n", note.revision), "{host:?}");
        }
        let (_, notes) = demo.ask("GET", "/notes", "");
        assert_eq!(notes[0]["text"], "theirs", "{host:?}");
    }
}

#[test]
fn pages_that_listen_are_let_go_when_the_host_stops() {
    for host in HOSTS {
        let demo = Demo::start(host);
        let mut page = demo.listen();
        drop(demo);
        let mut rest = String::new();
        page.read_to_string(&mut rest).unwrap();
        assert!(!rest.contains("changed"), "{host:?}: {rest}");
    }
}

#[test]
fn a_body_over_the_limit_is_refused_however_large() {
    for host in HOSTS {
        let demo = Demo::start(host);
        for size in [api::BODY_MAX + 1, 4 << 20] {
            let (status, said) = demo.ask("POST", "/notes", &"x".repeat(size));
            assert_eq!((status, said["error"].is_string()), (413, true), "{host:?} {size}");
        }
        let text = "x".repeat(api::BODY_MAX - r#"{"text":""}"#.len());
        let (status, note) = demo.ask("POST", "/notes", &json!({ "text": text }).to_string());
        assert_eq!((status, &note["text"]), (201, &json!(text)), "{host:?}");
    }
}

#[test]
fn what_is_not_http_disturbs_nobody() {
    for host in HOSTS {
        let demo = Demo::start(host);
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(2 * HEAD_MAX));
        for (nonsense, refusal) in [("\0\u{1}\u{2}\r\n\r\n", "400"), (&long, "4")] {
            let mut stream = demo.connect();
            stream.write_all(nonsense.as_bytes()).unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).unwrap();
            assert!(said.starts_with(&format!("HTTP/1.1 {refusal}")), "{host:?}: {said}");
        }
        assert_eq!(demo.ask("GET", "/notes", ""), (200, json!([])), "{host:?}");
    }
}

#[test]
fn connections_beyond_the_limit_are_turned_away() {
    for host in HOSTS {
        let demo = Demo::start(host);
        let idle: Vec<_> = (0..CONNECTIONS_MAX).map(|_| demo.connect()).collect();
        let mut said = String::new();
        demo.connect().read_to_string(&mut said).unwrap();
        assert!(said.starts_with("HTTP/1.1 503 "), "{host:?}: {said}");
        drop(idle);
    }
}

/// A demo as a process would be: a server, a client, a host on a thread, stopped when dropped.
struct Demo {
    stopper: Stopper,
    host: Option<JoinHandle<io::Result<()>>>,
    _subscription: Subscription,
    server: RunningServer,
}

impl Demo {
    fn start(host: Host) -> Self {
        let server = Server::in_memory().unwrap();
        let db = Client::connect(&server.url("main")).unwrap();
        let board = Board::open(db.clone()).unwrap();
        let (events, subscription) = Events::of(&db);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stopper = Stopper { events: Arc::clone(&events), address };
        let app = Arc::new(App { board, events });
        let thread = thread::Builder::new().name(format!("{host:?}"));
        let host = thread.spawn(move || host.serve(listener, &app)).unwrap();
        Self { stopper, host: Some(host), _subscription: subscription, server }
    }

    /// The board as another process sees it.
    fn other_board(&self) -> Board {
        Board::open(Client::connect(&self.server.url("main")).unwrap()).unwrap()
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.stopper.address).unwrap();
        stream.set_read_timeout(Some(HEARTBEAT * 2)).unwrap();
        stream
    }

    fn send(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = self.connect();
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: demo\r\ncontent-length: {length}");
        stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        said
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let said = self.send(method, path, body);
        let (head, body) = said.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or_default())
    }

    /// A page's stream of events, after its greeting.
    fn listen(&self) -> BufReader<TcpStream> {
        let mut stream = self.connect();
        stream.write_all(b"GET /events HTTP/1.1\r\nhost: demo\r\n\r\n").unwrap();
        let mut page = BufReader::new(stream);
        skip_to(&mut page, "retry: ");
        page
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.stopper.stop();
        let host = self.host.take().unwrap();
        if !thread::panicking() {
            host.join().unwrap().unwrap();
        }
    }
}

/// The data of the next event.
fn read_event(page: &mut impl BufRead) -> String {
    skip_to(page, "event: changed");
    skip_to(page, "data: ")
}

/// The next line that begins so.
fn skip_to(page: &mut impl BufRead, start: &str) -> String {
    let mut line = String::new();
    while !line.starts_with(start) {
        line.clear();
        assert_ne!(page.read_line(&mut line).unwrap(), 0, "the stream ended before {start:?}");
    }
    line
}
