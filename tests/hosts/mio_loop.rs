//! A host with a mio loop of its own, whose callbacks call the client.

use std::io::{Read, Write};
use std::net::TcpStream as StdStream;
use std::thread;
use std::time::Duration;

use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};

use crate::{Fixture, increment, number, within_time};

#[test]
fn a2_a_mio_host_reads_before_its_loop_runs() {
    within_time(|| {
        let fixture = Fixture::new();
        let start = number(&fixture.stranger().load(fixture.counter).unwrap().data);
        assert_eq!(serve(&fixture, 1), [start + 1]);
    });
}

#[test]
fn a3_a_mio_callback_may_block_in_the_client() {
    within_time(|| {
        let fixture = Fixture::new();
        assert_eq!(serve(&fixture, 20), (1..=20).collect::<Vec<_>>());
    });
}

/// Runs a loop that answers so many connections, each with what the counter was brought to.
fn serve(fixture: &Fixture, connections: usize) -> Vec<u64> {
    let mut poll = Poll::new().unwrap();
    let mut listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    poll.registry().register(&mut listener, Token(0), Interest::READABLE).unwrap();
    let visitors = thread::Builder::new()
        .spawn(move || (0..connections).map(|_| visit(address)).collect::<Vec<_>>())
        .unwrap();
    let (mut events, mut left) = (Events::with_capacity(16), connections);
    while left > 0 {
        poll.poll(&mut events, Some(Duration::from_millis(100))).unwrap();
        while let Ok((mut stream, _)) = listener.accept() {
            let number = increment(&fixture.db, fixture.counter);
            stream.write_all(number.to_string().as_bytes()).unwrap();
            left -= 1;
        }
    }
    visitors.join().unwrap()
}

fn visit(address: std::net::SocketAddr) -> u64 {
    let mut answer = Vec::new();
    StdStream::connect(address).unwrap().read_to_end(&mut answer).unwrap();
    number(&answer)
}
