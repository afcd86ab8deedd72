//! What an operator sees: ready lines, exit codes, refusals.

use std::fs;
use std::path::Path;
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
fn a_store_of_a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (status, ..) = Daemon::start(dir.path(), "127.0.0.1:0").terminate();
    assert!(status.success());
    // The format's version is the number at 8; the header's checksum is at 60.
    let segment = dir.path().join("main/journal/00000001.log");
    let mut bytes = fs::read(&segment).unwrap();
    bytes[8..12].copy_from_slice(&99_u32.to_be_bytes());
    let checksum = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&checksum.to_be_bytes());
    fs::write(&segment, &bytes).unwrap();
    let error = refused_store(dir.path());
    assert!(error.contains("00000001.log") && error.contains("format 99"), "{error}");
}

#[test]
fn a_damaged_store_is_refused_with_the_place() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(dir.path(), "127.0.0.1:0");
    let db = Client::connect(&daemon.url()).unwrap();
    for _ in 0..10 {
        let mut txn = db.begin().unwrap();
        txn.create(vec![7; 1000]).unwrap();
        txn.commit().unwrap();
    }
    // Killed, so that it has to be read again.
    drop(daemon);
    fs::remove_dir_all(dir.path().join("main/index")).unwrap();
    let segment = damage_first_object(&dir.path().join("main/journal"));
    let error = refused_store(dir.path());
    assert!(error.contains("damaged") && error.contains(&segment), "{error}");
}

/// Flips a bit of the first object in a journal; says in which file that is.
fn damage_first_object(journal: &Path) -> String {
    let mut segments: Vec<_> = fs::read_dir(journal).unwrap().map(|file| file.unwrap()).collect();
    segments.sort_by_key(fs::DirEntry::file_name);
    for segment in segments {
        let mut bytes = fs::read(segment.path()).unwrap();
        if let Some(place) = bytes.windows(500).position(|window| window == [7; 500]) {
            bytes[place] ^= 1;
            fs::write(segment.path(), &bytes).unwrap();
            return segment.file_name().into_string().unwrap();
        }
    }
    panic!("no object in {}", journal.display());
}

#[test]
fn a_data_directory_that_is_none_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "not a directory").unwrap();
    let error = refused_store(&file);
    assert!(error.contains(file.to_str().unwrap()), "{error}");
}

/// What a daemon says, in one line, of a store that it cannot open.
fn refused_store(data: &Path) -> String {
    let (code, error) = refused(data, &["--listen", "127.0.0.1:0"]);
    assert_eq!(code, Some(1), "{error}");
    let lines: Vec<&str> = error.lines().filter(|line| line.starts_with("zeo-server: ")).collect();
    assert_eq!(lines.len(), 1, "{error}");
    lines[0].to_owned()
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
