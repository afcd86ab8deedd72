//! Connections: bytes both ways, back-pressure, every way to end.

use std::{io, time::Duration};

use bytes::Bytes;
use zeo_reactor::{Address, LostReason, MioDriver, Reactor, Transport};

use crate::kit::{Log, Mio, Place, Recorder, Seen, a_few_turns, in_all_places, join, on_transport};

in_all_places!(
    a5_what_is_written_comes_back,
    c4_large_output_leaves_in_parts_and_in_order,
    a_peer_that_never_reads_cannot_fill_the_memory,
    the_fall_of_the_output_is_told,
    a_paused_connection_is_not_read_and_its_events_are_not_drained,
    c2_a_connection_is_lost_once_for_each_side,
    c2_lose_connection_sends_what_was_written_before,
    the_peer_gets_the_last_words_although_its_own_are_not_read,
    c2_a_refused_connect_is_told_as_failed,
    c2_a_connection_that_the_factory_refuses_is_closed,
    the_name_of_a_lost_connection_is_never_used_again,
    a_closed_listener_takes_no_more_connections,
    a_connector_connects_many_times,
);

fn a5_what_is_written_comes_back(place: &impl Place) {
    let mut reactor = place.reactor();
    let client =
        Recorder { on_made: |transport| transport.write(b"hello"), ..Recorder::new("client") };
    join(place, &mut reactor, Recorder::echo(), client);
    place.until(&mut reactor, |log| log.data("client") == b"hello");
}

fn c4_large_output_leaves_in_parts_and_in_order(place: &impl Place) {
    let mut reactor = place.reactor();
    join(place, &mut reactor, Recorder::new("server"), Recorder::new("client"));
    let data = pattern(place);
    on_transport(&mut reactor, "client", |transport| write_mixed(transport, &data));
    place.until(&mut reactor, |log| log.data_len("server") == data.len());
    assert!(reactor.shared().data("server") == data);
}

fn a_peer_that_never_reads_cannot_fill_the_memory(place: &impl Place) {
    let mut reactor = place.reactor();
    let server = Recorder { on_made: Transport::pause_reading, ..Recorder::new("server") };
    join(place, &mut reactor, server, Recorder::new("client"));
    on_transport(&mut reactor, "client", |transport| transport.set_output_limits(1000, 100_000));
    while reactor.shared().lost("client").is_empty() {
        on_transport(&mut reactor, "client", |transport| {
            transport.write(&[0; 10_000]);
            assert!(transport.output_len() <= 100_000);
        });
        place.step(&mut reactor);
    }
    assert_eq!(reactor.shared().lost("client"), [LostReason::OutputFull]);
}

fn the_fall_of_the_output_is_told(place: &impl Place) {
    let mut reactor = place.reactor();
    let server = Recorder { on_made: Transport::pause_reading, ..Recorder::new("server") };
    join(place, &mut reactor, server, Recorder::new("client"));
    let data = pattern(place);
    let len = data.len();
    on_transport(&mut reactor, "client", |transport| {
        transport.set_output_limits(10_000, usize::MAX);
        transport.write_bytes(Bytes::from(data));
    });
    a_few_turns(&mut reactor);
    assert!(!reactor.shared().seen.contains(&Seen::Drained("client")), "nobody reads");
    on_transport(&mut reactor, "server", Transport::resume_reading);
    place.until(&mut reactor, |log| log.data_len("server") == len);
    let drained = reactor.shared().seen.iter().filter(|seen| **seen == Seen::Drained("client"));
    assert_eq!(drained.count(), 1);
}

fn a_paused_connection_is_not_read_and_its_events_are_not_drained(place: &impl Place) {
    let mut reactor = place.reactor();
    let pause = |transport: &mut Transport, _: &[u8]| transport.pause_reading();
    let server = Recorder { on_data: pause, ..Recorder::new("server") };
    join(place, &mut reactor, server, Recorder::new("client"));
    let data = pattern(place);
    on_transport(&mut reactor, "client", |transport| write_mixed(transport, &data));
    let mut resumed = 0;
    while reactor.shared().data_len("server") < data.len() {
        resumed += 1;
        place.until(&mut reactor, |log| pieces(log) == resumed);
        a_few_turns(&mut reactor);
        assert_eq!(pieces(reactor.shared()), resumed, "one piece for each time it was resumed");
        on_transport(&mut reactor, "server", Transport::resume_reading);
    }
    assert!(reactor.shared().data("server") == data);
}

fn c2_a_connection_is_lost_once_for_each_side(place: &impl Place) {
    let mut reactor = place.reactor();
    join(place, &mut reactor, Recorder::new("server"), Recorder::new("client"));
    on_transport(&mut reactor, "client", |transport| {
        transport.abort();
        transport.lose_connection();
        transport.write(b"too late");
    });
    place.until(&mut reactor, |log| !log.lost("server").is_empty());
    a_few_turns(&mut reactor);
    assert_eq!(reactor.shared().lost("client"), [LostReason::Closed]);
    assert_eq!(reactor.shared().lost("server"), [LostReason::PeerClosed]);
}

fn c2_lose_connection_sends_what_was_written_before(place: &impl Place) {
    let mut reactor = place.reactor();
    join(place, &mut reactor, Recorder::new("server"), Recorder::new("client"));
    let data = pattern(place);
    on_transport(&mut reactor, "client", |transport| {
        write_mixed(transport, &data);
        transport.lose_connection();
        transport.write(b"ignored");
    });
    place.until(&mut reactor, |log| !log.lost("client").is_empty());
    place.until(&mut reactor, |log| !log.lost("server").is_empty());
    assert!(reactor.shared().data("server") == data);
    assert_eq!(reactor.shared().lost("client"), [LostReason::Closed]);
}

/// A system that closes a socket with unread input resets the connection, and the peer may then
/// never read the reason that was sent to it just before.
fn the_peer_gets_the_last_words_although_its_own_are_not_read(place: &impl Place) {
    let mut reactor = place.reactor();
    let server = Recorder {
        on_made: |transport| {
            transport.write(b"goodbye");
            transport.lose_connection();
        },
        ..Recorder::new("server")
    };
    let client = Recorder {
        on_made: |transport| transport.write(&vec![1; 50_000]),
        ..Recorder::new("client")
    };
    join(place, &mut reactor, server, client);
    place.until(&mut reactor, |log| !log.lost("client").is_empty());
    assert_eq!(reactor.shared().data("client"), b"goodbye");
    assert_eq!(reactor.shared().data("server"), b"", "nothing is received after lose_connection");
}

fn c2_a_refused_connect_is_told_as_failed(place: &impl Place) {
    let mut reactor = place.reactor();
    reactor.with(|_, cx| {
        let (listener, address) = cx.listen(&place.address(), Recorder::new("server")).unwrap();
        cx.stop_listening(listener);
        cx.connect(&address, Recorder::new("client"));
    });
    place.until(&mut reactor, |log| log.failed().is_some());
    assert_eq!(reactor.shared().seen, [Seen::Failed("client", io::ErrorKind::ConnectionRefused)]);
}

fn c2_a_connection_that_the_factory_refuses_is_closed(place: &impl Place) {
    let mut reactor = place.reactor();
    reactor.with(|_, cx| {
        let server = Recorder { accepts: false, ..Recorder::new("server") };
        let (_, address) = cx.listen(&place.address(), server).unwrap();
        cx.connect(&address, Recorder::new("client"));
    });
    place.until(&mut reactor, |log| !log.lost("client").is_empty());
    assert!(reactor.shared().made("server").is_none());
}

fn the_name_of_a_lost_connection_is_never_used_again(place: &impl Place) {
    let mut reactor = place.reactor();
    let address = join(place, &mut reactor, Recorder::new("server"), Recorder::new("client"));
    let old = reactor.shared().made("client").unwrap();
    on_transport(&mut reactor, "client", Transport::abort);
    place.until(&mut reactor, |log| log.lost("server").len() == 1 && log.lost("client").len() == 1);
    reactor.shared_mut().seen.clear();
    reactor.with(|_, cx| cx.connect(&address, Recorder::new("client")));
    place.until(&mut reactor, |log| log.made("client").is_some() && log.made("server").is_some());
    reactor.with(|_, cx| assert!(cx.transport(old).is_none()));
    assert_ne!(reactor.shared().made("client"), Some(old));
}

fn a_closed_listener_takes_no_more_connections(place: &impl Place) {
    let mut reactor = place.reactor();
    let (listener, address) =
        reactor.with(|_, cx| cx.listen(&place.address(), Recorder::new("server")).unwrap());
    reactor.with(|_, cx| {
        let again = cx.listen(&address, Recorder::new("second"));
        assert_eq!(again.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        cx.stop_listening(listener);
        cx.stop_listening(listener);
        assert!(cx.listen(&address, Recorder::new("third")).is_ok(), "the address is free again");
    });
}

fn a_connector_connects_many_times(place: &impl Place) {
    let mut reactor = place.reactor();
    reactor.with(|_, cx| {
        let (_, address) = cx.listen(&place.address(), Recorder::echo()).unwrap();
        let client = Recorder { on_made: |to| to.write(b"x"), ..Recorder::new("client") };
        let connector = cx.connector(client);
        cx.connect_with(connector, &address);
        cx.connect_with(connector, &address);
        cx.drop_connector(connector);
        cx.connect_with(connector, &address);
    });
    place.until(&mut reactor, |log| log.data("client") == b"xx");
    a_few_turns(&mut reactor);
    let made = reactor.shared().seen.iter().filter(|seen| matches!(seen, Seen::Made("client", _)));
    assert_eq!(made.count(), 2);
}

#[test]
fn a_unix_socket_replaces_a_stale_file_and_removes_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "the file of a dead socket stays");
    let mut reactor = Mio.reactor();
    let listener = reactor.with(|_, cx| {
        let at = Address::Unix(path.clone());
        let (listener, address) = cx.listen(&at, Recorder::echo()).unwrap();
        assert_eq!(address, at);
        let second = cx.listen(&at, Recorder::echo()).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse, "a live socket stays");
        let client = Recorder { on_made: |to| to.write(b"hello"), ..Recorder::new("client") };
        cx.connect(&at, client);
        listener
    });
    Mio.until(&mut reactor, |log| log.data("client") == b"hello");
    reactor.with(|_, cx| cx.stop_listening(listener));
    assert!(!path.exists());
}

#[test]
fn a_file_that_is_no_socket_is_never_replaced() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let result = Mio.reactor().with(|_, cx| {
        cx.listen(&Address::Unix(file.path().to_owned()), Recorder::echo()).map(|_| ())
    });
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    assert!(file.path().exists());
}

#[test]
fn an_idle_reactor_sleeps() {
    let mut reactor = Reactor::new(MioDriver::new().unwrap(), Log::default());
    join(&Mio, &mut reactor, Recorder::echo(), Recorder::new("client"));
    a_few_turns(&mut reactor);
    let report = reactor.turn(Some(Duration::from_millis(1))).unwrap();
    assert!(!report.worked, "nothing happens, and so nothing must be reported");
}

/// Runs of bytes, each 1,009 long, so that no two pieces of a round length are equal.
fn pattern<P: Place>(_: &P) -> Vec<u8> {
    let mut data = Vec::new();
    for byte in (0..=250).cycle().take(P::LARGE / 1009) {
        data.extend([byte; 1009]);
    }
    data
}

/// In pieces small and large, copied and not.
fn write_mixed(transport: &mut Transport, data: &[u8]) {
    let (small, large) = data.split_at(data.len() / 3);
    for (index, piece) in small.chunks(999).chain(large.chunks(30_001)).enumerate() {
        if index % 2 == 0 {
            transport.write(piece);
        } else {
            transport.write_bytes(Bytes::copy_from_slice(piece));
        }
    }
}

fn pieces(log: &Log) -> usize {
    log.seen.iter().filter(|seen| matches!(seen, Seen::Data("server", _))).count()
}
