//! Clients in processes of their own, on one daemon.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::daemon::{Daemon, program};

#[test]
fn two_processes_see_each_others_commits_and_conflicts() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(dir.path(), "127.0.0.1:0");
    let (mut one, mut two) = (Visitor::start(&daemon), Visitor::start(&daemon));
    let oid = "00000000000000ff";
    assert_eq!(one.tell(&format!("load {oid}")), "none");
    let first = one.tell(&format!("store {oid} 0000000000000000 one"));
    two.tell("sync");
    assert_eq!(two.tell(&format!("load {oid}")), format!("{first} one"));
    let second = two.tell(&format!("store {oid} {first} two"));
    assert_eq!(one.tell(&format!("store {oid} {first} late")), "conflict");
    one.tell("sync");
    assert_eq!(one.tell(&format!("load {oid}")), format!("{second} two"));
}

/// A client in another process.
struct Visitor {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Visitor {
    fn start(daemon: &Daemon) -> Self {
        let mut child = Command::new(program("zeo-tests", "visitor"))
            .arg(daemon.url())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self { child, orders, answers }
    }

    fn tell(&mut self, order: &str) -> String {
        writeln!(self.orders, "{order}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
