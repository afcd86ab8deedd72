//! What an operator sees: ready lines, exit codes, refusals.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use zeo_client::{Client, ConnectError, LoadError, Options};

use crate::daemon::{Daemon, ask, refused};

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
    assert_eq!(code, Some(75));
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.contains(&daemon.pid().to_string()), "{error}");
}

#[test]
fn an_address_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&dir.path().join("a"), "127.0.0.1:0");
    let (code, error) = refused(&dir.path().join("b"), &["--listen", &daemon.address]);
    assert_eq!(code, Some(75));
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
    let error = refused_store(dir.path(), DATA);
    assert!(error.contains("00000001.log") && error.contains("format 99"), "{error}");
}

#[test]
fn a_damaged_store_is_refused_with_the_place_and_the_rest_can_be_saved() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(dir.path(), "127.0.0.1:0");
    let db = Client::connect(&daemon.url()).unwrap();
    let create = || db.run(|txn| txn.create(vec![7; 1000])).unwrap();
    let oids: Vec<_> = (0..10).map(|_| create()).collect();
    // Killed, so that it has to be read again.
    drop(daemon);
    fs::remove_dir_all(dir.path().join("main/index")).unwrap();
    let segment = damage_first_object(&dir.path().join("main/journal"));
    let error = refused_store(dir.path(), DATA);
    assert!(error.contains("damaged") && error.contains(&segment), "{error}");

    let daemon = Daemon::start_with(dir.path(), &["--listen", "127.0.0.1:0", "--salvage"]);
    let db = read_only(&daemon, "main").unwrap();
    assert!(matches!(db.load(oids[0]), Err(LoadError::NotFound(_))));
    for oid in &oids[1..] {
        assert_eq!(db.load(*oid).unwrap().data, vec![7; 1000]);
    }
    let refused = Client::connect(&daemon.url()).unwrap_err().to_string();
    assert!(refused.contains("read-only"), "{refused}");
}

#[test]
fn storages_have_options_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let archived = |db: &Client| db.run(|txn| txn.create("archived")).unwrap();
    let both = ["--listen", "127.0.0.1:0", "--storage", "main", "--storage", "archive"];
    let daemon = Daemon::start_with(&dir.path().join("data"), &both);
    let oid = archived(&Client::connect(&url(&daemon, "archive", "")).unwrap());
    daemon.terminate();

    let daemon = configured(dir.path(), "[storages.archive]\nread-only = true\n");
    let archive = read_only(&daemon, "archive").unwrap();
    assert_eq!(archive.load(oid).unwrap().data, "archived");
    let refused = Client::connect(&url(&daemon, "archive", "")).unwrap_err().to_string();
    assert!(refused.contains("\"archive\" is read-only"), "{refused}");
    archived(&Client::connect(&daemon.url()).unwrap());
    daemon.terminate();

    let daemon = configured(dir.path(), "read-only = true\n");
    for storage in ["main", "archive"] {
        assert!(read_only(&daemon, storage).is_ok());
        assert!(Client::connect(&url(&daemon, storage, "")).is_err(), "{storage} is written");
    }
}

#[test]
fn a_quota_is_reached_and_raised() {
    let dir = tempfile::tempdir().unwrap();
    let quota = |size| format!("[storages.main]\nquota = '{size}'\n");
    let daemon = configured(dir.path(), &quota("1MiB"));
    let db = Client::connect(&daemon.url()).unwrap();
    let create = |db: &Client| db.run(|txn| txn.create(vec![7; 100 << 10]));
    let oids: Vec<_> = (0..20).map_while(|_| create(&db).ok()).collect();
    assert!((5..=10).contains(&oids.len()), "{} of 100 KiB in 1 MiB", oids.len());
    let refused = create(&db).unwrap_err().to_string();
    assert!(refused.contains("quota of 1048576 bytes"), "{refused}");
    let other = Client::connect(&url(&daemon, "archive", "")).unwrap();
    create(&other).unwrap();
    assert_eq!(db.load(oids[0]).unwrap().data, vec![7; 100 << 10]);
    daemon.terminate();

    let daemon = configured(dir.path(), &quota("2MiB"));
    let db = Client::connect(&daemon.url()).unwrap();
    create(&db).unwrap();
    assert_eq!(db.load(oids[0]).unwrap().data, vec![7; 100 << 10]);
}

/// A daemon of the storages `main` and `archive`, with that in its file.
fn configured(dir: &Path, text: &str) -> Daemon {
    let file = dir.join("zeo.toml");
    fs::write(&file, format!("storage = ['main', 'archive']\n{text}")).unwrap();
    let options = ["--listen", "127.0.0.1:0", "--config", file.to_str().unwrap()];
    Daemon::start_with(&dir.join("data"), &options)
}

fn read_only(daemon: &Daemon, storage: &str) -> Result<Client, ConnectError> {
    Client::connect(&url(daemon, storage, "?read_only=on"))
}

/// What the daemon says of its storage `main` when it is asked so.
fn status(options: &[&str]) -> Value {
    let (code, json, error) = ask(options);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    serde_json::from_str::<Value>(&json).unwrap()["main"].take()
}

fn url(daemon: &Daemon, storage: &str, parameters: &str) -> String {
    format!("zeo://{}/{storage}{parameters}", daemon.address)
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
    let error = refused_store(&file, FILE);
    assert!(error.contains(file.to_str().unwrap()), "{error}");
}

/// What a daemon says, in one line, of a store that it cannot open; it ends with that code.
fn refused_store(data: &Path, expected: i32) -> String {
    let (code, error) = refused(data, &["--listen", "127.0.0.1:0"]);
    assert_eq!(code, Some(expected), "{error}");
    let lines: Vec<&str> = error.lines().filter(|line| line.starts_with("zeo-server: ")).collect();
    assert_eq!(lines.len(), 1, "{error}");
    lines[0].to_owned()
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("zeo.toml");
    fs::write(&file, "listen = ['127.0.0.1:0']\nstorag = ['main']\n").unwrap();
    let (code, error) = refused(dir.path(), &["--config", file.to_str().unwrap()]);
    assert_eq!(code, Some(78));
    assert!(error.contains("zeo.toml:2: ") && error.contains("`storage`"), "{error}");
    let (code, error) = refused(dir.path(), &["--listen", "nowhere"]);
    assert_eq!(code, Some(78));
    assert!(error.contains("nowhere") && error.contains("unix:PATH"), "{error}");
}

#[test]
fn a_checked_configuration_is_printed_and_can_be_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("zeo.toml");
    fs::write(&file, "hot-size = '1024 kib'\n").unwrap();
    let file = file.to_str().unwrap();
    let options = ["--check-config", "--storage", "a", "--config", file];
    let (code, printed, _) = ask(&options);
    assert_eq!(code, Some(0));
    assert!(printed.contains("hot-size = \"1MiB\"") && printed.contains("storage = [\"a\"]"));
    fs::write(file, &printed).unwrap();
    assert_eq!(ask(&["--check-config", "--config", file]), (Some(0), printed, String::new()));
}

#[test]
fn a_health_check_asks_a_running_server() {
    let dir = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}", dir.path().join("socket").display());
    let options = ["--listen", "127.0.0.1:0", "--listen", &socket];
    let daemon = Daemon::start_with(&dir.path().join("data"), &options);
    let address = daemon.address.clone();
    for way in [&["--ruok", &address][..], &["--ruok", &socket], &["--listen", &address, "--ruok"]]
    {
        let (code, json, error) = ask(way);
        assert_eq!((code, error.as_str()), (Some(0), ""), "{way:?}");
        assert!(json.starts_with('{') && json.contains("\"last-transaction\""), "{json}");
    }
    daemon.terminate();
    let (code, json, error) = ask(&["--ruok", &address]);
    assert_eq!((code, json.as_str()), (Some(1), ""));
    assert!(error.contains(&address), "{error}");
}

#[test]
fn the_status_shows_who_holds_locks() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(dir.path(), "127.0.0.1:0");
    let db = Client::connect(&url(&daemon, "main", "?label=till-7")).unwrap();
    let mut txn = db.begin().unwrap();
    txn.create("a").unwrap();
    txn.create("b").unwrap();
    let voted = txn.vote().unwrap();
    let status = || status(&["--status", &daemon.address]);
    let holder = &status()["details"]["holders"][0];
    assert_eq!((&holder["label"], &holder["objects"]), (&"till-7".into(), &2.into()));
    assert!(holder["age_s"].as_f64().unwrap() >= 0.0);
    let sessions = status()["details"]["sessions"].as_array().unwrap().clone();
    let session = sessions.iter().find(|session| session["label"] == "till-7").unwrap();
    assert_eq!((&session["address"], &session["votes"]), (&holder["address"], &1.into()));
    let short = self::status(&["--ruok", &daemon.address]);
    assert_eq!((&short["lock_holders"], &short["details"]), (&1.into(), &Value::Null));
    voted.finish().unwrap();
    assert_eq!(status()["lock_time"], Value::Null);
    assert!(status()["journal_bytes"].as_u64().unwrap() > 0);
}

/// What somebody calls himself is printed to an operator's terminal.
#[test]
fn a_status_commands_no_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(dir.path(), "127.0.0.1:0");
    let label = "\u{9b}2J\u{202e}".to_owned();
    let _db = Options::default().label(label.clone()).connect(&daemon.url()).unwrap();
    let (code, json, _) = ask(&["--status", &daemon.address]);
    assert_eq!(code, Some(0));
    assert!(json.trim_end().chars().all(|c| c == ' ' || c.is_ascii_graphic()), "{json}");
    let sessions = status(&["--status", &daemon.address])["details"]["sessions"].take();
    assert!(sessions.as_array().unwrap().iter().any(|session| session["label"] == label));
}

#[test]
fn a_health_check_does_not_wait_for_a_server_that_is_silent() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let (code, _, error) = ask(&["--ruok", &address]);
    assert_eq!(code, Some(1));
    assert!(error.contains("is not well"), "{error}");
}

#[test]
fn files_are_for_those_they_are_meant_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let listen = |name: &str| format!("unix:{}", path(name).display());
    let log = path("log").display().to_string();
    let private = ["--listen", &listen("private"), "--log-file", &log];
    let _private = Daemon::start_with(&path("deep/data"), &private);
    let shared = ["--listen", &listen("shared"), "--socket-mode", "0660"];
    let _shared = Daemon::start_with(&path("other"), &shared);
    let mode = |name| fs::metadata(path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("deep/data"), 0o700);
    assert_eq!(mode("private"), 0o600);
    assert_eq!(mode("shared"), 0o660);
    assert_eq!(mode("log") & 0o137, 0, "the group may read it, if the umask lets it");
}

/// As ZEO does it, so that a service manager starts it again.
#[test]
fn hung_up_on_it_stops_in_order_and_asks_to_be_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&dir.path().join("data"), "127.0.0.1:0");
    let db = Client::connect(&daemon.url()).unwrap();
    let oid = db.run(|txn| txn.create("kept")).unwrap();
    let (status, ..) = daemon.end("HUP");
    assert_eq!(status.code(), Some(1));
    let again = Daemon::start(&dir.path().join("data"), "127.0.0.1:0");
    assert_eq!(Client::connect(&again.url()).unwrap().load(oid).unwrap().data, "kept");
}

/// Exit codes: the data is of no use; a file could not be used.
const DATA: i32 = 65;
const FILE: i32 = 74;
