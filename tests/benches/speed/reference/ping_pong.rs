//! A blocking client and a blocking thread that answers, over a socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use super::{ANSWER, QUESTION};

/// The client's end; the other is a thread named `ping-pong`.
#[derive(Debug)]
pub(crate) struct PingPong {
    stream: TcpStream,
}

impl PingPong {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        peer.set_nodelay(true).unwrap();
        let answer = move || {
            let (mut question, answer) = ([0; QUESTION], [7; ANSWER]);
            while peer.read_exact(&mut question).is_ok() {
                peer.write_all(&answer).unwrap();
            }
        };
        thread::Builder::new().name("ping-pong".to_owned()).spawn(answer).unwrap();
        Self { stream }
    }

    /// The client's end alone; somebody answers there.
    pub(crate) fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    /// The bytes of a load, and of its answer.
    pub(crate) fn once(&mut self) {
        let mut answer = [0; ANSWER];
        self.stream.write_all(&[1; QUESTION]).unwrap();
        self.stream.read_exact(&mut answer).unwrap();
    }
}
