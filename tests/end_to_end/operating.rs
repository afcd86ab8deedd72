//! What an operator sees: ready lines, exit codes, refusals.

use std::fs;
use std::time::Duration;

use zeo_client::Client;

use crate::daemon::{Daemon, refused};

#[test]
fn it_says_where_it_listens_and_stops_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}", dir.path().join("socket").display());
    let options = ["--listen", "127.0.0.1:0", "--listen", &socket];
    let mut daemon = Daemon::start_with(&dir.path().join("data"), &options);
    assert_eq!(daemon.next_address(), socket);
    assert_ne!(daemon.address, "127.0.0.1:0", "the port that was picked is named");
    let db = Client::connect(&daemon.url()).unwrap();
    let mut txn = db.begin().unwrap();
    let oid = txn.create("kept").unwrap();
    txn.commit().unwrap();
    let over_unix = format!("zeo://{}?storage=main", socket.strip_prefix("unix:").unwrap());
    assert_eq!(Client::connect(&over_unix).unwrap().load(oid).unwrap().data, "kept");
    let (status, rest, time) = daemon.terminate();
    assert_eq!((status.code(), rest.as_str()), (Some(0), ""));
    assert!(time < Duration::from_secs(5), "{time:?}");
    let again = Daemon::start(&dir.path().join("data"), "127.0.0.1:0");
    assert_eq!(Client::connect(&again.url()).unwrap().load(oid).unwrap().data, "kept");
}

#[test]
fn a_directory_in_use_is_refused_with_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(dir.path(), "127.0.0.1:0");
    let (code, error) = refused(dir.path(), &["--listen", "127.0.0.1:0"]);
    assert_eq!(code, Some(1));
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.contains(&daemon.pid().to_string()), "{error}");
}

#[test]
fn an_address_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&dir.path().join("a"), "127.0.0.1:0");
    let (code, error) = refused(&dir.path().join("b"), &["--listen", &daemon.address]);
    assert_eq!(code, Some(1));
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.contains(&daemon.address), "{error}");
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("zeo.toml");
    fs::write(&file, "listen = ['127.0.0.1:0']\nstorages = ['main']\n").unwrap();
    let (code, error) = refused(dir.path(), &["--config", file.to_str().unwrap()]);
    assert_eq!(code, Some(1));
    assert!(error.contains("storages") && error.contains("`storage`"), "{error}");
    let (code, error) = refused(dir.path(), &["--listen", "nowhere"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("nowhere") && error.contains("unix:PATH"), "{error}");
}
