//! A reactor in a thread of its own.

use std::{sync::Arc, time::Duration};

use crossbeam_channel::bounded;
use zeo_reactor::{
    Address, Context, JoinError, MioDriver, NotRunning, Reactor, ReactorThread, StartError,
    WaitError,
};

use crate::kit::{Log, Mio, Place, Recorder};

/// Each has its own thread, state and connections; what leads to one leads to no other.
#[test]
fn a4_many_reactors_live_in_one_process() {
    let threads: Vec<_> = (0..8).map(|number| start(format!("reactor {number}"))).collect();
    let addresses: Vec<Address> = threads.iter().map(listen).collect();
    for (thread, to) in threads.iter().zip(addresses.iter().cycle().skip(1)) {
        let to = to.clone();
        let greets = Recorder { on_made: |to| to.write(b"hello"), ..Recorder::new("client") };
        thread.handle().call_from_thread(move |_, cx| cx.connect(&to, greets)).unwrap();
    }
    for thread in &threads {
        for name in ["client", "server"] {
            while thread.handle().ask(|log, _| log.data(name)).wait().unwrap() != b"hello" {}
        }
        let name = thread.handle().ask(|_, _| std::thread::current().name().map(str::to_owned));
        assert_eq!(name.wait().unwrap().as_deref(), Some(thread.name()));
    }
}

#[test]
fn a6_listening_and_connecting_are_asked_of_a_running_reactor() {
    let thread = start("running".to_owned());
    let to = listen(&thread);
    let (handle, client) = (thread.handle(), Recorder::new("client"));
    handle.call_from_thread(move |_, cx| cx.connect(&to, client)).unwrap();
    while !handle.ask(|log, _| log.made("client").is_some()).wait().unwrap() {}
}

#[test]
fn d1_it_starts_stops_and_starts_again() {
    let thread = ReactorThread::new("again", reactor());
    for _ in 0..3 {
        assert!(!thread.is_running());
        assert_eq!(thread.stop(), Err(NotRunning));
        thread.start().unwrap();
        assert!(thread.is_running());
        assert!(matches!(thread.start(), Err(StartError::Running)));
        assert_eq!(thread.handle().ask(|count, _| *count += 1).wait(), Ok(()));
        thread.stop().unwrap();
        thread.join(None).unwrap();
    }
    assert_eq!(thread.call_in_reactor(|count, _| *count).wait(), Ok(3));
}

#[test]
fn d1_a_call_runs_directly_when_it_is_not_running() {
    let thread = ReactorThread::new("direct", reactor());
    let here = || std::thread::current().name().map(str::to_owned);
    let before = thread.call_in_reactor(move |_, _| here());
    assert_eq!(before.wait().unwrap(), here());
    thread.start().unwrap();
    let during = thread.call_in_reactor(move |_, _| here());
    assert_eq!(during.wait().unwrap().as_deref(), Some("direct"));
    thread.stop().unwrap();
    thread.join(None).unwrap();
    assert_eq!(thread.call_in_reactor(move |_, _| here()).wait().unwrap(), here());
}

#[test]
fn d3_a_stop_from_within_ends_the_thread() {
    let thread = ReactorThread::spawn("within", reactor()).unwrap();
    assert_eq!(thread.handle().ask(|_, cx| cx.stop()).wait(), Ok(()));
    thread.join(None).unwrap();
}

#[test]
fn d1_a_stop_right_after_the_start_is_not_lost() {
    let thread = ReactorThread::new("early", reactor());
    for _ in 0..50 {
        thread.start().unwrap();
        thread.stop().unwrap();
        thread.join(None).unwrap();
    }
}

#[test]
fn d1_joining_has_a_limit() {
    let thread = ReactorThread::spawn("limit", reactor()).unwrap();
    assert_eq!(thread.join(Some(Duration::from_millis(1))), Err(JoinError::TimedOut));
    thread.stop().unwrap();
    assert_eq!(thread.join(Some(Duration::from_mins(1))), Ok(()));
}

#[test]
fn d3_a_panic_fails_every_waiter_and_is_told_by_join() {
    let thread = ReactorThread::spawn("panics", reactor()).unwrap();
    let handle = thread.handle();
    let (held, never) = handle.deferred::<()>();
    handle
        .call_from_thread(move |_, cx| {
            cx.call_later(Duration::from_mins(1), move |_, _| held.send(()));
            panic!("on purpose");
        })
        .unwrap();
    assert_eq!(never.wait(), Err(WaitError::Dropped));
    assert_eq!(thread.join(None), Err(JoinError::Gone("on purpose".to_owned())));
    assert_eq!(handle.ask(|_, _| ()).wait(), Err(WaitError::Dropped));
    assert!(matches!(thread.start(), Err(StartError::Gone(_))));
    assert_eq!(thread.call_in_reactor(|_, _| ()).wait(), Err(WaitError::Dropped));
}

#[test]
fn d3_dropping_it_stops_and_joins() {
    let alive = Arc::new(());
    let shared = Arc::clone(&alive);
    let reactor = Reactor::new(MioDriver::new().unwrap(), shared);
    drop(ReactorThread::spawn("dropped", reactor).unwrap());
    assert_eq!(Arc::strong_count(&alive), 1, "the thread has ended, and its state is gone");
}

#[test]
fn d3_dropping_it_on_its_own_thread_does_not_hang() {
    let thread = Arc::new(ReactorThread::spawn("its own", reactor()).unwrap());
    let handle = thread.handle();
    let (released, release) = bounded::<()>(0);
    let (dropped, drops) = bounded(1);
    let last = Arc::clone(&thread);
    handle
        .call_from_thread(move |_, _| {
            release.recv().unwrap();
            assert_eq!(last.join(None), Err(JoinError::OwnThread));
            drop(last);
            dropped.send(()).unwrap();
        })
        .unwrap();
    drop(thread);
    released.send(()).unwrap();
    drops.recv().unwrap();
    while handle.is_running() {
        std::thread::yield_now();
    }
}

fn reactor() -> Reactor<usize> {
    Reactor::new(MioDriver::new().unwrap(), 0)
}

fn start(name: String) -> ReactorThread<Log> {
    ReactorThread::spawn(name, Mio.reactor()).unwrap()
}

fn listen(thread: &ReactorThread<Log>) -> Address {
    let listen = |_: &mut Log, cx: &mut Context<Log>| cx.listen(&Mio.address(), Recorder::echo());
    thread.handle().ask(listen).wait().unwrap().unwrap().1
}
