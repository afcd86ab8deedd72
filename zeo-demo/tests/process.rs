//! The demo as a process: what it prints, what it refuses, what it leaves behind.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use serde_json::{Value, json};
use tempfile::tempdir;
use zeo_server::Server;

const HOSTS: [&str; 2] = ["evented", "threaded"];

#[test]
fn a_demo_loads_its_notes_before_its_host_runs_and_keeps_them() {
    let dir = tempdir().unwrap();
    for (count, host) in HOSTS.into_iter().enumerate() {
        let demo = Demo::start(&["--host", host], Some(dir.path()));
        let loaded = format!("loaded {count} notes before the host's loop started");
        assert_eq!(demo.loaded, loaded, "{host}");
        assert_eq!(demo.ask("POST", "/notes", &json!({ "text": host })).0, 201);
        assert!(demo.terminate().success(), "{host}");
    }
}

#[test]
fn demos_on_one_server_see_each_other_and_refuse_what_is_stale() {
    let server = Server::in_memory().unwrap();
    let url = server.url("main");
    let [one, two] = HOSTS.map(|host| Demo::start(&["--host", host, "--server", &url], None));
    let mut page = two.listen();
    let (_, note) = one.ask("POST", "/notes", &json!({ "text": "one" }));
    skip_to(&mut page, "event: changed");
    assert_eq!(two.ask("GET", "/notes", &Value::Null), (200, json!([note])));

    let path = format!("/notes/{}", note["id"].as_str().unwrap());
    let edit = |text| json!({ "text": text, "revision": note["revision"] });
    let (status, edited) = two.ask("PUT", &path, &edit("two"));
    assert_eq!((status, &edited["text"]), (200, &json!("two")));
    assert_eq!(one.ask("PUT", &path, &edit("mine")), (409, edited));
}

#[test]
fn a_demo_that_listens_to_a_page_still_stops_in_order() {
    let dir = tempdir().unwrap();
    for host in HOSTS {
        let demo = Demo::start(&["--host", host], Some(dir.path()));
        let mut page = demo.listen();
        assert!(demo.terminate().success(), "{host}");
        page.read_to_end(&mut Vec::new()).unwrap();
    }
}

#[test]
fn what_is_in_the_way_is_said_in_one_line() {
    let dir = tempdir().unwrap();
    let demo = Demo::start(&[], Some(dir.path()));
    let (_, port) = demo.address.rsplit_once(':').unwrap();
    let data = dir.path().to_str().unwrap();
    let nobody = "zeo://127.0.0.1:1/main?wait_timeout=0";
    for (args, reason) in [
        (["--port", port, "--data", data], "Address already in use"),
        (["--port", "0", "--data", data], "is in use by process"),
        (["--port", "0", "--server", nobody], "no connection to 127.0.0.1:1"),
        (["--port", "0", "--server", "http://x"], "is not a zeo URL"),
    ] {
        let output = command().args(args).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(said.starts_with("zeo-demo: ") && said.contains(reason), "{args:?}: {said}");
        assert_eq!((said.lines().count(), output.stdout.len()), (1, 0), "{args:?}: {said}");
    }
}

/// A running demo; killed when dropped.
struct Demo {
    process: Child,
    loaded: String,
    address: String,
}

impl Demo {
    fn start(args: &[&str], data: Option<&Path>) -> Self {
        let mut command = command();
        command.args(["--port", "0"]).args(args).stdout(Stdio::piped());
        if let Some(data) = data {
            command.arg("--data").arg(data);
        }
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let loaded = lines.next().unwrap().unwrap();
        let url = lines.next().unwrap().unwrap();
        let address = url.strip_prefix("http://").unwrap().to_owned();
        Self { process, loaded, address }
    }

    fn send(&self, method: &str, path: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: demo\r\ncontent-length: {length}");
        stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).unwrap();
        stream
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let mut said = String::new();
        self.send(method, path, &body.to_string()).read_to_string(&mut said).unwrap();
        let (head, body) = said.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or_default())
    }

    /// A page's stream of events, after its greeting.
    fn listen(&self) -> impl BufRead + use<> {
        let mut page = BufReader::new(self.send("GET", "/events", ""));
        skip_to(&mut page, "retry: ");
        page
    }

    /// Asks it to stop, as a service manager would.
    fn terminate(mut self) -> ExitStatus {
        let process = self.process.id().to_string();
        assert!(Command::new("kill").arg(process).status().unwrap().success());
        self.process.wait().unwrap()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Errors say that it has ended already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_zeo-demo"))
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
