//! Ten thousand sessions that only are there.

use std::fs;
use std::time::{Duration, Instant};

use zeo_client::Client;

use crate::daemon::{Daemon, ask};
use zeo_tests::sockets::{allow_open_files, ruok, sessions};

#[test]
#[expect(clippy::print_stdout, reason = "figures to be read")]
fn ten_thousand_idle_sessions_are_cheap_and_disturb_nobody() {
    allow_open_files(SESSIONS as u64 + 200).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let daemon =
        Daemon::start_with(dir.path(), &["--listen", "127.0.0.1:0", "--max-sessions", "10100"]);
    let client = Client::connect(&daemon.url()).unwrap();
    works(&client, &daemon);
    let alone = Memory::of(daemon.pid());
    let crowd = sessions(&daemon.address, "main", SESSIONS).unwrap();
    let crowded = Memory::of(daemon.pid());
    works(&client, &daemon);
    assert_status_is_bounded(&daemon);
    let each = (crowded.resident - alone.resident) / SESSIONS;
    println!("idle session: {each} bytes resident, {}", crowded.since(&alone));
    assert!(each <= IDLE_MAX, "{each} bytes a session");
    drop(crowd);
    wait_until_alone(&daemon);
    let again = sessions(&daemon.address, "main", SESSIONS).unwrap();
    let grown = Memory::of(daemon.pid());
    assert_eq!(again.len(), SESSIONS);
    println!("the second time: {}", grown.since(&crowded));
    assert!(grown.resident <= crowded.resident + SLACK, "{}", grown.since(&crowded));
    works(&client, &daemon);
}

/// Commits, and loads what was committed over a connection whose cache is empty.
fn works(client: &Client, daemon: &Daemon) {
    let mut txn = client.begin().unwrap();
    let oid = txn.create("in a crowd").unwrap();
    let tid = txn.commit().unwrap();
    let other = Client::connect(&daemon.url()).unwrap();
    let found = other.load(oid).unwrap();
    assert_eq!((found.data.as_ref(), found.tid), (b"in a crowd".as_slice(), tid));
}

/// All of them together would take too much of a turn.
fn assert_status_is_bounded(daemon: &Daemon) {
    let (_, status, _) = ask(&["--status", &daemon.address]);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let details = &status["main"]["details"];
    assert_eq!(details["sessions"].as_array().unwrap().len(), 1_000);
    // The status has a session itself.
    let others = status["main"]["connections"].as_u64().unwrap() - 1_000;
    assert_eq!(details["sessions_left_out"], others);
}

/// Asks for the server's status until no session but the test's own is there.
fn wait_until_alone(daemon: &Daemon) {
    let limit = Instant::now() + Duration::from_mins(1);
    while !ruok(&daemon.address).unwrap().contains("\"connections\":1,") {
        assert!(Instant::now() < limit, "closed connections stay");
    }
}

/// What a process has in memory, in bytes. What the kernel holds for its sockets is not in it.
struct Memory {
    resident: usize,
    /// The part that is neither of a file nor shared.
    anonymous: usize,
}

impl Memory {
    fn of(pid: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            let kib: usize = line.trim().trim_end_matches(" kB").parse().unwrap();
            kib * 1024
        };
        Self { resident: value("VmRSS:"), anonymous: value("RssAnon:") }
    }

    fn since(&self, before: &Self) -> String {
        let grown = |now: usize, before: usize| now.saturating_sub(before) >> 10;
        let resident = grown(self.resident, before.resident);
        let anonymous = grown(self.anonymous, before.anonymous);
        format!("{resident} KiB more resident, of which {anonymous} KiB private")
    }
}

const SESSIONS: usize = 10_000;
/// Bytes of the server's memory that an idle session may cost.
const IDLE_MAX: usize = 16 << 10;
/// By how many bytes the second crowd may differ from the first: it finds the memory in pieces.
const SLACK: usize = 8 << 20;
