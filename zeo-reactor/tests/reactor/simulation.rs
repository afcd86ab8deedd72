//! The simulated world itself: it is deterministic, and its faults are what they say.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use zeo_reactor::{
    Address, ConnId, LostReason, Reactor, StageConfig,
    sim::{LinkConfig, Turns, World, WorldHeld},
};

use crate::kit::{Log, Recorder, Seen};

#[test]
fn the_same_seed_gives_the_same_run_and_another_another() {
    let hashes: Vec<u64> = [1, 1, 2].map(|seed| chatter(seed).trace_hash()).into();
    assert_eq!(hashes[0], hashes[1]);
    assert_ne!(hashes[0], hashes[2]);
}

#[test]
fn a5_bytes_are_cut_anywhere() {
    let mut lens = Vec::new();
    for seed in 0..50 {
        let mut pair = Pair::new(seed);
        pair.write_from_client(&[1; 1000]);
        pair.until(|pair| pair.server.shared().data_len("server") == 1000);
        lens.extend(pair.server.shared().seen.iter().filter_map(|seen| match seen {
            Seen::Data(_, data) => Some(data.len()),
            _ => None,
        }));
    }
    assert!(lens.contains(&1) && lens.contains(&1000), "{lens:?}");
}

#[test]
fn a_cut_holds_bytes_back_and_healing_delivers_them_in_order() {
    for seed in 0..50 {
        let mut pair = Pair::new(seed);
        pair.write_from_client(b"one ");
        pair.world.cut("client", "server");
        pair.write_from_client(b"two ");
        assert!(pair.idle());
        assert_eq!(pair.server.shared().data_len("server"), 0, "nothing had arrived before");
        pair.world.heal("client", "server");
        pair.write_from_client(b"three");
        assert!(pair.idle());
        assert_eq!(pair.server.shared().data("server"), b"one two three");
    }
}

#[test]
fn one_direction_can_be_cut_alone() {
    let mut pair = Pair::new(3);
    pair.world.cut_one_way("server", "client");
    pair.write_from_client(b"heard");
    assert!(pair.idle());
    assert_eq!(pair.server.shared().data("server"), b"heard");
    assert_eq!(pair.client.shared().data("client"), b"", "the echo does not come back");
}

#[test]
fn a_reset_is_heard_on_both_sides() {
    let mut pair = Pair::new(4);
    assert_eq!(pair.world.reset("client", "server"), 1);
    assert!(pair.idle());
    assert!(is_reset(&pair.client.shared().lost("client")));
    assert!(is_reset(&pair.server.shared().lost("server")));
}

#[test]
fn a_half_open_connection_is_noticed_by_who_sends() {
    let mut pair = Pair::new(5);
    assert_eq!(pair.world.half_open("server", "client"), 1);
    assert!(pair.idle());
    assert!(is_reset(&pair.server.shared().lost("server")));
    assert!(pair.client.shared().lost("client").is_empty());
    pair.write_from_client(b"anybody there?");
    assert!(pair.idle());
    assert!(is_reset(&pair.client.shared().lost("client")));
}

#[test]
fn what_was_sent_on_a_stranded_connection_arrives_late() {
    let mut pair = Pair::new(11);
    let (late, before) = (Duration::from_secs(7), pair.world.now());
    pair.write_from_client(b"last words");
    assert_eq!(pair.world.strand("client", "server", late), 1);
    pair.until(|pair| pair.server.shared().data_len("server") == 10);
    assert!(is_reset(&pair.client.shared().lost("client")));
    assert!(pair.world.now() >= before + late);
}

/// The peer had read, and was gone before it could say so: nobody noticed, ever.
#[test]
fn who_has_no_room_to_write_notices_that_the_peer_is_gone() {
    let mut pair = Pair::new(14);
    pair.world.set_links(LinkConfig { window: 10, fragments: false, ..LinkConfig::default() });
    pair.write_from_client(&[1; 10]);
    pair.until(|pair| pair.server.shared().data_len("server") == 10);
    assert_eq!(pair.world.half_open("server", "client"), 1);
    pair.write_from_client(b"more");
    assert!(pair.idle());
    assert!(is_reset(&pair.client.shared().lost("client")));
}

/// It was taken for a connection of the client with itself, so faults passed it by.
#[test]
fn who_connects_before_anybody_listens_is_connected_to_that_host() {
    let world = World::new(15);
    let mut server = Reactor::new(world.driver("server"), Log::default());
    let mut client = Reactor::new(world.driver("client"), Log::default());
    let address: Address = "10.0.0.1:9".parse().unwrap();
    client.with(|_, cx| cx.connect(&address, Recorder::new("client")));
    client.turn(Some(Duration::ZERO)).unwrap();
    server.with(|_, cx| cx.listen(&address, Recorder::echo()).unwrap());
    let mut pair = Pair { world, server, client, address };
    assert!(pair.idle());
    assert_eq!(pair.world.reset("client", "server"), 1);
    assert!(pair.idle());
    assert!(is_reset(&pair.client.shared().lost("client")));
}

#[test]
fn whoever_looks_sees_connections_bytes_and_jobs() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut pair = Pair::new(12);
    let into = Arc::clone(&seen);
    pair.world.observe(move |_, sight| into.lock().unwrap().push(sight.to_string()));
    pair.write_from_client(b"x");
    pair.server.with(|_, cx| {
        let stage = cx.start_stage(StageConfig { name: "sums", threads: 1, bound: 1 }).unwrap();
        cx.defer_to_stage(stage, || 1 + 1, |_, _, _| ()).unwrap();
    });
    assert!(pair.idle());
    pair.world.reset("client", "server");
    let seen = seen.lock().unwrap();
    for line in ["client → server: 1 bytes", "server: sums works", "server: sums is done"] {
        assert!(seen.iter().any(|seen| seen == line), "{line} in {seen:?}");
    }
    assert!(seen.last().unwrap().contains("breaks"));
}

#[test]
fn when_all_is_over_a_world_is_empty() {
    let mut pair = Pair::new(13);
    assert_eq!((pair.client.held().connections, pair.world.held().sockets), (1, 2));
    pair.client.with(|_, cx| cx.stop());
    assert!(pair.idle());
    assert_eq!((pair.server.held().connections, pair.world.held().sockets), (0, 0));
    let Pair { world, server, client, .. } = pair;
    drop((server, client));
    assert_eq!(world.held(), WorldHeld::default());
}

#[test]
fn the_peers_of_a_crashed_host_lose_their_connections_and_find_it_again() {
    let mut pair = Pair::new(6);
    let address = pair.address.clone();
    drop(std::mem::replace(
        &mut pair.server,
        Reactor::new(pair.world.driver("server"), Log::default()),
    ));
    assert!(pair.idle());
    assert_eq!(pair.client.shared().lost("client"), [LostReason::PeerClosed]);
    pair.client.with(|_, cx| cx.connect(&address, Recorder::new("client")));
    assert!(pair.idle());
    assert_eq!(pair.client.shared().failed(), Some(io::ErrorKind::ConnectionRefused));
    pair.server.with(|_, cx| cx.listen(&address, Recorder::echo()).unwrap());
    pair.client.with(|_, cx| cx.connect(&address, Recorder::new("client")));
    assert!(pair.idle());
    assert!(pair.server.shared().made("server").is_some());
}

#[test]
fn a_host_that_crashes_behind_a_cut_leaves_its_peers_in_the_dark() {
    let mut pair = Pair::new(7);
    pair.world.cut("client", "server");
    drop(std::mem::replace(
        &mut pair.server,
        Reactor::new(pair.world.driver("server"), Log::default()),
    ));
    assert!(pair.idle());
    assert!(pair.client.shared().lost("client").is_empty());
}

#[test]
fn a_connect_through_a_cut_takes_until_its_limit() {
    let world = World::new(8);
    let mut server = Reactor::new(world.driver("server"), Log::default());
    let mut client = Reactor::new(world.driver("client"), Log::default());
    let at: Address = "10.0.0.1:0".parse().unwrap();
    let address = server.with(|_, cx| cx.listen(&at, Recorder::echo()).unwrap().1);
    world.cut("client", "server");
    client.with(|_, cx| {
        cx.set_connect_timeout(Duration::from_secs(3));
        cx.connect(&address, Recorder::new("client"));
    });
    assert!(world.run_until_idle(&mut [&mut server, &mut client], Duration::from_secs(9)).unwrap());
    assert_eq!(client.shared().failed(), Some(io::ErrorKind::TimedOut));
    assert!(world.now().since_start() >= Duration::from_secs(3));
}

#[test]
fn each_host_has_its_own_time_of_day() {
    let world = World::new(9);
    let mut a = Reactor::new(world.driver("a"), ());
    let mut b = Reactor::new(world.driver("b"), ());
    world.set_unix_micros("a", 1_000_000);
    assert_eq!(a.with(|(), cx| cx.unix_micros()), 1_000_000);
    a.with(|(), cx| cx.call_later(Duration::from_secs(2), |(), _| ()));
    assert!(world.run_until_idle(&mut [&mut a], Duration::from_secs(9)).unwrap());
    assert_eq!(a.with(|(), cx| cx.unix_micros()), 3_000_000);
    assert!(b.with(|(), cx| cx.unix_micros()) > 3_000_000);
}

#[test]
fn links_can_be_made_perfect() {
    let mut pair = Pair::new(10);
    let (delay_min, delay_max) = (Duration::ZERO, Duration::ZERO);
    pair.world.set_links(LinkConfig { delay_min, delay_max, fragments: false, window: 1 << 20 });
    let before = pair.world.now();
    pair.write_from_client(&vec![1; 100_000]);
    assert!(pair.idle());
    assert_eq!(pair.client.shared().data_len("client"), 100_000);
    assert_eq!(pair.world.now(), before);
}

struct Pair {
    world: World,
    server: Reactor<Log>,
    client: Reactor<Log>,
    address: Address,
}

impl Pair {
    fn new(seed: u64) -> Self {
        let world = World::new(seed);
        let mut server = Reactor::new(world.driver("server"), Log::default());
        let mut client = Reactor::new(world.driver("client"), Log::default());
        let at: Address = "10.0.0.1:0".parse().unwrap();
        let address = server.with(|_, cx| cx.listen(&at, Recorder::echo()).unwrap().1);
        client.with(|_, cx| cx.connect(&address, Recorder::new("client")));
        let mut pair = Self { world, server, client, address };
        pair.until(|pair| {
            let (client, server) = (pair.client.shared(), pair.server.shared());
            client.made("client").is_some() && server.made("server").is_some()
        });
        assert!(pair.idle());
        pair
    }

    fn idle(&mut self) -> bool {
        let reactors: &mut [&mut dyn Turns] = &mut [&mut self.server, &mut self.client];
        self.world.run_until_idle(reactors, Duration::from_mins(1)).unwrap()
    }

    fn until(&mut self, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            let reactors: &mut [&mut dyn Turns] = &mut [&mut self.server, &mut self.client];
            assert!(self.world.step(reactors).unwrap(), "nothing will ever happen");
        }
    }

    fn write_from_client(&mut self, data: &[u8]) {
        let conn: ConnId = self.client.shared().made("client").unwrap();
        self.client.with(|_, cx| cx.transport(conn).unwrap().write(data));
        // The turn that hands it to the link.
        self.client.turn(Some(Duration::ZERO)).unwrap();
    }
}

/// A run with a little of everything.
fn chatter(seed: u64) -> World {
    let mut pair = Pair::new(seed);
    for round in 0..20 {
        pair.write_from_client(&[round; 500]);
        pair.world.step(&mut [&mut pair.server, &mut pair.client]).unwrap();
    }
    assert!(pair.idle());
    assert_eq!(pair.client.shared().data_len("client"), 10_000);
    pair.world.clone()
}

fn is_reset(lost: &[LostReason]) -> bool {
    matches!(lost, [LostReason::Error(io::ErrorKind::ConnectionReset, _)])
}
