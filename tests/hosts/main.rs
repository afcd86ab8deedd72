//! The promises to hosts: A1 (no loop needed), A2 (a loop that starts late), A3 (calls from inside
//! a loop's callback), each in every kind of host.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod evented;
mod mio_loop;
mod plain;
mod reactor_host;

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use zeo_client::Client;
use zeo_proto::Oid;
use zeo_server::{RunningServer, Server};

/// A server in a thread, a client of it, and a counter in the database.
struct Fixture {
    server: RunningServer,
    db: Client,
    counter: Oid,
}

impl Fixture {
    fn new() -> Self {
        let server = Server::in_memory().unwrap();
        let db = Client::connect(&server.url("main")).unwrap();
        let mut txn = db.begin().unwrap();
        let counter = txn.create("0").unwrap();
        txn.commit().unwrap();
        Self { server, db, counter }
    }

    /// Another client, whose cache is cold.
    fn stranger(&self) -> Client {
        Client::connect(&self.server.url("main")).unwrap()
    }
}

/// What every host does with the client: ordinary blocking calls, nothing that knows the host.
fn increment(db: &Client, counter: Oid) -> u64 {
    let mut txn = db.begin().unwrap();
    let number = number(&txn.load(counter).unwrap().data) + 1;
    txn.store(counter, number.to_string()).unwrap();
    db.commit(txn).unwrap();
    number
}

fn number(data: &[u8]) -> u64 {
    std::str::from_utf8(data).unwrap().parse().unwrap()
}

/// Runs a host in a thread of its own: one that deadlocks fails instead of hanging the tests.
fn within_time<T: Send + 'static>(host: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::sync_channel(1);
    let run = move || drop(done.send(host()));
    thread::Builder::new().name("host".to_owned()).spawn(run).unwrap();
    match result.recv_timeout(Duration::from_secs(30)) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("the host hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => panic!("the host panicked"),
    }
}
