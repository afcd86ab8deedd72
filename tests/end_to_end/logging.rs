//! The daemon's log: what is worth a line, and that it never holds the daemon up.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use zeo_client::Client;
use zeo_tests::sockets::sessions;

use crate::daemon::{Daemon, command};

#[test]
fn a_session_is_worth_a_line_when_it_begins_and_one_when_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let daemon = start(dir.path(), &log, &[]);
    let db = Client::connect(&daemon.url()).unwrap();
    for _ in 0..3 {
        db.run(|txn| txn.create("x")).unwrap();
    }
    drop(db);
    wait_until("the session has ended", || read(&log).contains("session down"));
    daemon.terminate();
    let log = read(&log);
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(" session ")).collect();
    let [up, down] = lines[..] else { panic!("{log}") };
    assert!(up.contains("session up") && up.contains("peer=\"127.0.0.1:"), "{up}");
    for part in ["session down", "storage=\"main\"", "reason=\"", "seconds=", "calls=", "commits=3"]
    {
        assert!(down.contains(part), "{part}: {down}");
    }
    for line in log.lines() {
        assert_eq!(line.find('Z'), Some("2026-11-21T05:31:39.000000".len()), "in UTC: {line}");
    }
}

#[test]
fn in_json_every_line_is_an_object() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let daemon = start(dir.path(), &log, &["--log-format", "json"]);
    drop(Client::connect(&daemon.url()).unwrap());
    say_nonsense(&daemon);
    daemon.terminate();
    let log = read(&log);
    assert!(log.contains("\"message\":\"session up\"") && log.contains("closing: "), "{log}");
    for line in log.lines() {
        assert!(line.starts_with("{\"timestamp\":\"") && line.ends_with('}'), "{line}");
    }
}

/// Health checks come every few seconds for ever, some of them through load balancers that only
/// connect; ZEO's filled its log.
#[test]
fn health_checks_are_not_worth_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let daemon = start(dir.path(), &log, &[]);
    for _ in 0..20 {
        let mut asking = TcpStream::connect(&daemon.address).unwrap();
        asking.write_all(b"\0\0\0\x04ruok").unwrap();
        asking.read_to_end(&mut Vec::new()).unwrap();
        drop(TcpStream::connect(&daemon.address).unwrap());
        // The greeting is not read: closing resets the connection.
        TcpStream::connect(&daemon.address).unwrap().peek(&mut [0]).unwrap();
    }
    let (status, ..) = daemon.terminate();
    assert!(status.success());
    let log = read(&log);
    let mut lines = log.lines().skip_while(|line| !line.contains(": ready ")).skip(1);
    assert!(lines.next().unwrap().contains("SIGTERM: stopping"), "{log}");
}

#[test]
fn a_log_file_that_was_moved_away_is_opened_anew_without_losing_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let (log, moved) = (dir.path().join("log"), dir.path().join("log.1"));
    let daemon = start(dir.path(), &log, &[]);
    let url = daemon.url();
    let sessions = |count| (0..count).for_each(|_| drop(Client::connect(&url).unwrap()));
    sessions(20);
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| sessions(60));
        fs::rename(&log, &moved).unwrap();
        daemon.signal("USR2");
        wait_until("the new file is there", || log.exists());
        busy.join().unwrap();
    });
    sessions(20);
    daemon.terminate();
    let (old, new) = (read(&moved), read(&log));
    assert!(new.contains("log file opened anew"), "{new}");
    assert_eq!((old + &new).matches("session up").count(), 100);
}

#[test]
fn a_log_file_that_cannot_be_opened_anew_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (log, moved) = (dir.path().join("log"), dir.path().join("log.1"));
    let daemon = start(dir.path(), &log, &[]);
    fs::rename(&log, &moved).unwrap();
    fs::create_dir(&log).unwrap();
    daemon.signal("USR2");
    wait_until("it has said so", || read(&moved).contains("the old one is kept"));
    drop(Client::connect(&daemon.url()).unwrap());
    daemon.terminate();
    assert!(read(&moved).contains("session up"));
}

#[test]
fn a_log_that_cannot_be_written_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = start(dir.path(), Path::new("/dev/full"), &["--log-level", "debug"]);
    commit(&daemon);
    let (status, _, time) = daemon.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(time < Duration::from_secs(5), "{time:?}");
}

#[test]
fn lines_that_were_lost_are_counted_when_there_is_room_again() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    std::os::unix::fs::symlink("/dev/full", &log).unwrap();
    let daemon = start(dir.path(), &log, &[]);
    for _ in 0..10 {
        say_nonsense(&daemon);
    }
    fs::remove_file(&log).unwrap();
    daemon.signal("USR2");
    wait_until("it has said so", || log.exists() && read(&log).contains("log lines were lost"));
    daemon.terminate();
    let log = read(&log);
    let (_, lost) = log.split_once(" lost=").unwrap();
    let lost: usize = lost.split_whitespace().next().unwrap().parse().unwrap();
    // Lines that were still on their way when there was room again are not lost.
    let written = log.lines().filter(|line| line.contains("closing: ")).count();
    assert!(lost > 0 && lost + written >= 10, "{log}");
}

/// Standard error is a pipe and its reader hangs: it takes 64 KiB, and then every write to it
/// waits.
#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = command(dir.path());
    command.args(["--listen", "127.0.0.1:0"]).stderr(Stdio::piped());
    let daemon = Daemon::spawn(command);
    for _ in 0..500 {
        // Two lines of more than a hundred bytes.
        drop(sessions(&daemon.address, "main", 1).unwrap());
    }
    commit(&daemon);
    let (status, _, time) = daemon.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(time < Duration::from_secs(10), "{time:?}");
}

fn start(dir: &Path, log: &Path, options: &[&str]) -> Daemon {
    let mut command = command(&dir.join("data"));
    command.args(["--listen", "127.0.0.1:0", "--log-file"]).arg(log).args(options);
    command.env("TZ", "Asia/Tokyo");
    Daemon::spawn(command)
}

/// Is turned away, which is worth a line of some hundred bytes.
fn say_nonsense(daemon: &Daemon) {
    let mut stream = TcpStream::connect(&daemon.address).unwrap();
    stream.write_all(b"\0\0\0\x03abc").unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
}

fn commit(daemon: &Daemon) {
    let db = Client::connect(&daemon.url()).unwrap();
    let oid = db.run(|txn| txn.create("x")).unwrap();
    assert_eq!(db.load(oid).unwrap().data, "x");
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_mins(1), "waited a minute until {what}");
        std::thread::yield_now();
    }
}
