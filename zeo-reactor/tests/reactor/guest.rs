//! A reactor whose host waits for it, beside other things.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use zeo_reactor::{Address, Reactor};

use crate::kit::{Log, Mio, Place, Recorder};

/// A host that knows nothing of the reactor but a descriptor and a time limit.
#[test]
fn b1_a_host_serves_connections_calls_and_timers_turn_by_turn() {
    let mut guest = Mio.reactor();
    let handle = guest.handle();
    let (tick, ticked) = handle.deferred();
    let address = guest.with(|_, cx| {
        cx.call_later(Duration::from_millis(1), move |_, _| tick.send(()));
        cx.listen(&Mio.address(), Recorder::echo()).unwrap().1
    });
    let other = thread::Builder::new()
        .spawn(move || {
            ticked.wait().unwrap();
            let Address::Tcp(address) = address else { panic!("it is TCP") };
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"echo").unwrap();
            let mut answer = [0; 4];
            stream.read_exact(&mut answer).unwrap();
            // The host sleeps, and is woken by a call.
            assert_eq!(handle.ask(|_, _| 7).wait(), Ok(7));
            handle.stop();
            answer
        })
        .unwrap();
    let mut waits = 0;
    while !guest.is_stopped() {
        host_waits(&mut guest);
        guest.turn(Some(Duration::ZERO)).unwrap();
        waits += 1;
        assert!(waits < 1_000, "it does not sleep");
    }
    assert_eq!(&other.join().unwrap(), b"echo");
}

fn host_waits(guest: &mut Reactor<Log>) {
    let limit = guest.prepare_wait().map(|limit| Timespec::try_from(limit).unwrap());
    let fd = guest.fd().unwrap();
    poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], limit.as_ref()).unwrap();
}
