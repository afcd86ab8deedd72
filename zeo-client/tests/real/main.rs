//! The client with a real server in the same process: transactions in two phases, conflicts,
//! history.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod copying;
mod history;
mod resolving;
mod together;
mod two_phase;
mod undoing;

use std::str;

use zeo_client::{Client, Oid, Tid};
use zeo_server::{RunningServer, Server};

fn server() -> RunningServer {
    Server::in_memory().unwrap()
}

fn client(server: &RunningServer) -> Client {
    Client::connect(&server.url("main")).unwrap()
}

fn create(db: &Client, data: &'static str) -> Oid {
    db.run(|txn| txn.create(data)).unwrap()
}

/// Changes an object that is there.
fn change(db: &Client, oid: Oid, data: &'static str) -> Tid {
    let mut txn = db.begin().unwrap();
    txn.load(oid).unwrap();
    txn.store(oid, data).unwrap();
    txn.commit().unwrap()
}

fn delete(db: &Client, oid: Oid) -> Tid {
    let mut txn = db.begin().unwrap();
    txn.load(oid).unwrap();
    txn.delete(oid).unwrap();
    txn.commit().unwrap()
}

fn number(data: &[u8]) -> i64 {
    str::from_utf8(data).unwrap().parse().unwrap()
}

fn balance(db: &Client, account: Oid) -> i64 {
    number(&db.load(account).unwrap().data)
}
