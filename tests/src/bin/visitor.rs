//! A client in a process of its own, told what to do on standard input: what the end-to-end tests
//! use where two processes have to meet.
//!
//! `load OID` prints `SERIAL DATA` or `none`; `store OID SERIAL DATA` commits and prints the tid or
//! `conflict`; `sync` waits until everything committed before has been seen.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "a test's own program fails by panicking, and prints what it is asked for"
)]

use std::io::{Write, stdin, stdout};

use zeo_client::{Client, CommitError, LoadError};
use zeo_proto::{Oid, Tid};

fn main() {
    let url = std::env::args().nth(1).unwrap();
    let db = Client::connect(&url).unwrap();
    for line in stdin().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        println!("{}", obey(&db, &words));
        stdout().flush().unwrap();
    }
}

fn obey(db: &Client, words: &[&str]) -> String {
    match words {
        ["load", oid] => load(db, oid.parse().unwrap()),
        ["store", oid, serial, data] => {
            store(db, oid.parse().unwrap(), serial.parse().unwrap(), data)
        }
        ["sync"] => db.sync().unwrap().to_string(),
        other => panic!("what is {other:?}?"),
    }
}

fn load(db: &Client, oid: Oid) -> String {
    match db.load(oid) {
        Ok(revision) => {
            format!("{} {}", revision.tid, std::str::from_utf8(&revision.data).unwrap())
        }
        Err(LoadError::NotFound(_) | LoadError::Deleted { .. }) => "none".to_owned(),
        Err(error) => panic!("{error}"),
    }
}

fn store(db: &Client, oid: Oid, serial: Tid, data: &str) -> String {
    let mut txn = db.begin().unwrap();
    if serial == Tid::ZERO {
        txn.store_new(oid, data.to_owned()).unwrap();
    } else {
        txn.saw(oid, serial);
        txn.store(oid, data.to_owned()).unwrap();
    }
    match txn.commit() {
        Ok(tid) => tid.to_string(),
        Err(CommitError::Conflict(_)) => "conflict".to_owned(),
        Err(error) => panic!("{error}"),
    }
}
