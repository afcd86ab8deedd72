//! A host whose own loop is a zeo-reactor: it is not private, so its callbacks may block, and the
//! client's reactor is another one.

use std::sync::mpsc;
use std::time::Duration;

use zeo_client::Client;
use zeo_proto::Oid;
use zeo_reactor::{MioDriver, Reactor, ReactorThread};

use crate::{Fixture, increment, number, within_time};

/// The host's state.
struct Host {
    db: Client,
    counter: Oid,
}

#[test]
fn a2_a_reactor_host_reads_before_its_loop_runs() {
    within_time(|| {
        let fixture = Fixture::new();
        let start = number(&fixture.stranger().load(fixture.counter).unwrap().data);
        let mut host = host(&fixture);
        let counted = host.with(|host, _| increment(&host.db, host.counter));
        assert_eq!(counted, start + 1);
    });
}

#[test]
fn a3_a_reactor_callback_may_block_in_the_client() {
    within_time(|| {
        let fixture = Fixture::new();
        let thread = ReactorThread::spawn("host", host(&fixture)).unwrap();
        let (counted, counts) = mpsc::sync_channel(100);
        for _ in 0..20 {
            let counted = counted.clone();
            let callback = move |host: &mut Host, cx: &mut zeo_reactor::Context<Host>| {
                counted.send(increment(&host.db, host.counter)).unwrap();
                // Also from a timer, and with a client whose cache is cold.
                cx.call_later(Duration::ZERO, move |host: &mut Host, _| {
                    counted.send(increment(&host.db, host.counter)).unwrap();
                });
            };
            thread.handle().call_from_thread(callback).unwrap();
        }
        drop(counted);
        let mut numbers: Vec<u64> = counts.iter().collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=40).collect::<Vec<_>>());
    });
}

fn host(fixture: &Fixture) -> Reactor<Host> {
    let host = Host { db: fixture.stranger(), counter: fixture.counter };
    Reactor::new(MioDriver::new().unwrap(), host)
}
