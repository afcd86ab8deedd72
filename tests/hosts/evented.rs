//! A host on tokio's `current_thread` runtime: one thread, whose tasks call the client.

use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;

use crate::{Fixture, increment, number, within_time};

#[test]
fn a1_a_tokio_program_needs_no_bridge() {
    within_time(|| {
        let fixture = Fixture::new();
        runtime().block_on(async {
            assert_eq!(increment(&fixture.db, fixture.counter), 1);
        });
    });
}

#[test]
fn a2_a_tokio_host_reads_before_its_loop_runs() {
    within_time(|| {
        let fixture = Fixture::new();
        let start = number(&fixture.stranger().load(fixture.counter).unwrap().data);
        runtime().block_on(async {
            assert_eq!(increment(&fixture.db, fixture.counter), start + 1);
        });
    });
}

/// The host serves requests and makes them, all on one thread; its handler blocks in the client.
#[test]
fn a3_a_tokio_handler_may_block_in_the_client() {
    within_time(|| {
        let fixture = Rc::new(Fixture::new());
        let tasks = LocalSet::new();
        tasks.block_on(&runtime(), async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let server = Rc::clone(&fixture);
            let serving = tasks.spawn_local(async move {
                for _ in 0..20 {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    let number = increment(&server.db, server.counter);
                    stream.write_all(number.to_string().as_bytes()).await.unwrap();
                }
            });
            for expected in 1..=20 {
                let mut stream = TcpStream::connect(address).await.unwrap();
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer).await.unwrap();
                assert_eq!(number(&answer), expected);
            }
            serving.await.unwrap();
        });
    });
}

#[test]
fn a_deferred_can_be_awaited_without_blocking() {
    within_time(|| {
        let fixture = Fixture::new();
        let stranger = fixture.stranger();
        runtime().block_on(async {
            let revision = stranger.nb().load(fixture.counter).await.unwrap().unwrap();
            assert_eq!(revision.data, "0");
        });
    });
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}
