//! The daemon and its log.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A log that could not be written was reported where it could not be written either, and that
/// was a panic.
#[test]
fn it_goes_on_when_nobody_reads_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = start(dir.path());
    drop(daemon.stderr.take());
    for _ in 0..3 {
        assert!(talk(dir.path(), b"\0\0\0\x03abc").starts_with(b"\0\0\0\x09M5zeo"));
    }
    assert_eq!(daemon.try_wait().unwrap(), None);
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

/// The path of a peer's own socket, for one, was written as it was.
#[test]
fn a_peer_cannot_write_lines_into_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = start(dir.path());
    let hello = |storage: &[u8], label: &[u8]| {
        let mut hello = b"zeo\0\x01".to_vec();
        for (tag, value) in [(1, storage), (2, label)] {
            hello.extend([tag, 0, u8::try_from(value.len()).unwrap()]);
            hello.extend(value);
        }
        [&[0, 0, 0, u8::try_from(hello.len()).unwrap()], &hello[..]].concat()
    };
    talk(dir.path(), &hello(b"main", b"a\nlabel"));
    talk(dir.path(), &hello(b"no\nstorage", b""));
    talk(dir.path(), b"\0\0\0\x08\nno zeo\n");
    talk(dir.path(), &[&hello(b"main", b"")[..], b"\0\0\0\x05\n\n\n\n\n"].concat());
    let pid = daemon.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let mut log = String::new();
    daemon.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert_eq!(daemon.wait().unwrap().code(), Some(0));
    assert!(log.contains("session up") && log.contains("refused") && log.contains("closing"));
    for line in log.lines() {
        assert!(line.starts_with("20") && !line.contains('\x1b'), "{line:?}");
    }
}

/// A daemon on the socket `socket` in that directory, once it is ready.
fn start(dir: &Path) -> Child {
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_zeo-server"))
        .arg("--data")
        .arg(dir.join("data"))
        .arg("--listen")
        .arg(format!("unix:{}", dir.join("socket").display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("zeo-server ready on unix:"), "{line:?}");
    daemon
}

/// Says something from a socket with an ugly name, and returns all that is answered.
fn talk(dir: &Path, words: &[u8]) -> Vec<u8> {
    let ours = dir.join("a\nname\x1b[31m");
    drop(std::fs::remove_file(&ours));
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    socket.bind(&socket2::SockAddr::unix(&ours).unwrap()).unwrap();
    socket.connect(&socket2::SockAddr::unix(dir.join("socket")).unwrap()).unwrap();
    let mut stream = UnixStream::from(std::os::fd::OwnedFd::from(socket));
    stream.write_all(words).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}
