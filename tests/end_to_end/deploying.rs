//! What `deploy/` promises: the service manager's protocol, and a page that knows every message.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeo_client::Client;

use crate::daemon::{Daemon, ask, command};

#[test]
fn the_service_manager_hears_when_it_is_ready_alive_and_stopping() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::new(dir.path());
    let daemon = manager.start(dir.path(), &[]);
    let ready = manager.hears("READY=1");
    assert!(ready.contains(&format!("STATUS=ready on {}", daemon.address)), "{ready}");
    for _ in 0..3 {
        manager.hears("WATCHDOG=1");
    }
    let (status, ..) = daemon.terminate();
    assert!(status.success());
    manager.hears("STOPPING=1");
}

/// Whatever is logged.
#[test]
fn the_service_manager_hears_of_progress_while_a_storage_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon =
        Daemon::start_with(&dir.path().join("data"), &["--listen", "127.0.0.1:0", "--small-sizes"]);
    let db = Client::connect(&daemon.url()).unwrap();
    for _ in 0..8 {
        db.run(|txn| txn.create(vec![7; 100 << 10])).unwrap();
    }
    daemon.kill();
    fs::remove_dir_all(dir.path().join("data/main/index")).unwrap();
    let manager = Manager::new(dir.path());
    let _daemon = manager.start(dir.path(), &["--small-sizes", "--log-level", "error"]);
    let opening = manager.receive();
    assert!(opening.contains("STATUS=opening directory="), "{opening}");
    let progress = manager.receive();
    assert!(progress.contains("STATUS=read this far in the journal segment="), "{progress}");
    assert!(progress.contains("EXTEND_TIMEOUT_USEC="), "{progress}");
    manager.hears("READY=1");
}

/// Whoever writes a new message says on the page what it means and what to do.
#[test]
fn the_page_knows_every_warning_and_error() {
    let page = page();
    let mut messages = Vec::new();
    for source in sources(&["zeo-server/src", "zeo-reactor/src"]) {
        let text = fs::read_to_string(&source).unwrap();
        messages.extend(messages_in(&text).map(|message| (source.clone(), message)));
    }
    assert!(messages.len() > 30, "they are not found any more: {messages:?}");
    messages.retain(|(_, message)| message.len() < 4 || !page.contains(message));
    assert!(messages.is_empty(), "deploy/OPERATING.md does not have {messages:?}");
}

#[test]
fn the_page_knows_every_key_of_the_status() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(dir.path(), "127.0.0.1:0");
    let db = Client::connect(&daemon.url()).unwrap();
    let mut txn = db.begin().unwrap();
    txn.create("a").unwrap();
    let voted = txn.vote().unwrap();
    let (_, status, _) = ask(&["--status", &daemon.address]);
    voted.abort();
    let keys: Vec<&str> = status.split('"').filter(|part| !part.is_empty()).collect();
    let keys = keys.windows(2).filter(|pair| pair[1].starts_with(':')).map(|pair| pair[0]);
    let page = page();
    let mut known = 0;
    for key in keys.filter(|&key| key != "main") {
        assert!(page.contains(&format!("| `{key}` |")), "{key} is not on it");
        known += 1;
    }
    assert!(known > 50, "{status}");
}

/// The stable beginnings of warnings and errors in a source: each is the last text in its macro.
fn messages_in(source: &str) -> impl Iterator<Item = String> {
    let calls = source.split("tracing::");
    let calls =
        calls.filter_map(|rest| rest.strip_prefix("warn!").or_else(|| rest.strip_prefix("error!")));
    calls.map(|rest| {
        last_text(rest).split('{').next().unwrap().trim_end_matches([' ', ':']).to_owned()
    })
}

/// The last literal before the closing parenthesis of what begins here; none of ours has quotes.
fn last_text(call: &str) -> &str {
    let (mut depth, mut last) = (0, "");
    for (place, part) in call.split('"').enumerate() {
        if place % 2 == 1 {
            last = part;
            continue;
        }
        for c in part.chars() {
            depth += i32::from(c == '(') - i32::from(c == ')');
            if c == ')' && depth == 0 {
                return last;
            }
        }
    }
    panic!("a macro without an end")
}

fn sources(directories: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting: Vec<PathBuf> = directories.iter().map(|name| root().join(name)).collect();
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// The operator's page, its lines joined.
fn page() -> String {
    fs::read_to_string(root().join("deploy/OPERATING.md")).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// What a service manager listens with.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(dir: &Path) -> Self {
        let path = dir.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        Self { socket, path }
    }

    fn start(&self, dir: &Path, options: &[&str]) -> Daemon {
        let mut command = command(&dir.join("data"));
        command.args(["--listen", "127.0.0.1:0"]).args(options);
        command.env("NOTIFY_SOCKET", &self.path).env("WATCHDOG_USEC", "200000");
        Daemon::spawn(command)
    }

    fn receive(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// Receives up to a message with that line.
    fn hears(&self, line: &str) -> String {
        loop {
            let message = self.receive();
            if message.lines().any(|other| other == line) {
                return message;
            }
        }
    }
}
