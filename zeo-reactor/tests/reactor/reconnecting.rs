//! Connections that come back.

use std::time::Duration;

use zeo_reactor::{Address, BackOff, Context, Reactor, Time, sim::World};

use crate::kit::{Log, Place, Recorder, Seen, Sim, in_all_places};

in_all_places!(
    c3_a_lost_connection_comes_back,
    c3_the_addresses_are_tried_in_turn,
    c3_one_that_was_told_to_stop_does_not_come_back,
    c3_a_factory_that_refuses_stops_it,
);

fn c3_a_lost_connection_comes_back(place: &impl Place) {
    let mut reactor = place.reactor();
    reactor.with(|_, cx| {
        let server = Recorder { on_made: |to| to.lose_connection(), ..Recorder::new("server") };
        let (_, address) = cx.listen(&place.address(), server).unwrap();
        cx.reconnect(vec![address], SHORT, Recorder::new("client"));
    });
    place.until(&mut reactor, |log| log.lost("client").len() >= 5);
}

fn c3_the_addresses_are_tried_in_turn(place: &impl Place) {
    let mut reactor = place.reactor();
    reactor.with(|_, cx| {
        let server = Recorder { on_made: |to| to.lose_connection(), ..Recorder::new("server") };
        let (_, there) = cx.listen(&place.address(), server).unwrap();
        let nobody = nobody_there(place, cx);
        cx.reconnect(vec![nobody, there], SHORT, Recorder::new("client"));
    });
    place.until(&mut reactor, |log| log.lost("client").len() >= 3);
    let client = |seen: &&Seen| !matches!(seen, Seen::Made("server", _) | Seen::Lost("server", ..));
    let seen: Vec<_> = reactor.shared().seen.iter().filter(client).collect();
    for round in seen.chunks_exact(3) {
        let [Seen::Failed(..), Seen::Made(..), Seen::Lost(..)] = round else { panic!("{seen:?}") };
    }
}

fn c3_one_that_was_told_to_stop_does_not_come_back(place: &impl Place) {
    let mut reactor = place.reactor();
    let reconnector = reactor.with(|_, cx| {
        let (_, address) = cx.listen(&place.address(), Recorder::echo()).unwrap();
        cx.reconnect(vec![address], SHORT, Recorder::new("client"))
    });
    place.until(&mut reactor, |log| log.made("client").is_some());
    reconnector.stop();
    reactor.with(|log, cx| cx.transport(log.made("client").unwrap()).unwrap().abort());
    place.until(&mut reactor, |log| log.lost("client").len() + log.lost("server").len() == 2);
    assert_eq!(reactor.next_deadline(), None, "nothing is planned");
}

fn c3_a_factory_that_refuses_stops_it(place: &impl Place) {
    let mut reactor = place.reactor();
    let reconnector = reactor.with(|_, cx| {
        let (_, address) = cx.listen(&place.address(), Recorder::new("server")).unwrap();
        let client = Recorder { accepts: false, ..Recorder::new("client") };
        cx.reconnect(vec![address], SHORT, client)
    });
    place.until(&mut reactor, |log| !log.lost("server").is_empty());
    assert!(reconnector.is_stopped());
    assert_eq!(reactor.next_deadline(), None, "nothing is planned");
}

/// Pauses of a minute would be long in any other place.
#[test]
fn c3_pauses_grow_to_the_cap_and_begin_anew_after_a_good_connection() {
    for seed in 0..20 {
        let place = Sim(World::new(seed));
        let mut reactor = place.reactor();
        let back_off = BackOff { first: Duration::from_secs(1), most: Duration::from_mins(1) };
        let reconnector = reactor.with(|_, cx| {
            let nobody = nobody_there(&place, cx);
            cx.reconnect(vec![nobody], back_off, Recorder::new("client"))
        });
        let pauses = pauses(&place, &mut reactor, 10);
        for (pause, longest) in pauses.iter().zip([1, 2, 4, 8, 16, 32, 60, 60, 60, 60]) {
            let longest = Duration::from_secs(longest);
            assert!((longest / 2..=longest + SLACK).contains(pause), "{pauses:?}");
        }
        assert!(!pauses.ends_with(&[pauses.last().copied().unwrap(); 2]), "half is random");
        reconnector.is_good();
        // The pause in progress is not cut short.
        let anew = self::pauses(&place, &mut reactor, 2);
        assert!(anew.iter().skip(1).all(|&pause| pause <= back_off.first + SLACK), "{anew:?}");
    }
}

/// How long the next pauses are, in virtual time.
fn pauses(place: &Sim, reactor: &mut Reactor<Log>, count: usize) -> Vec<Duration> {
    let so_far = reactor.shared().seen.len().max(1);
    let failed_at = |number| {
        place.until(reactor, |log| log.seen.len() >= number);
        place.0.now()
    };
    let times: Vec<Time> = (so_far..=so_far + count).map(failed_at).collect();
    times.iter().zip(times.iter().skip(1)).map(|(before, after)| *after - *before).collect()
}

fn nobody_there(place: &impl Place, cx: &mut Context<Log>) -> Address {
    let (listener, address) = cx.listen(&place.address(), Recorder::new("nobody")).unwrap();
    cx.stop_listening(listener);
    address
}

const SHORT: BackOff = BackOff { first: Duration::from_millis(1), most: Duration::from_millis(2) };
/// What a refusal takes on its way.
const SLACK: Duration = Duration::from_millis(200);
