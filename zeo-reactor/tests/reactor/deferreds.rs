//! Deferreds: every way to get a result, and every way not to.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Duration,
};

use crossbeam_channel::bounded;
use zeo_reactor::{
    Deferred, DeferredSender, Dropped, MioDriver, Reactor, ReactorThread, WaitError, deferred,
    deferred_on, forbid_blocking,
};

#[test]
fn b5_a_result_reaches_the_thread_that_waits() {
    for round in 0..1000 {
        let (sender, deferred) = deferred();
        let sends = thread::Builder::new().spawn(move || sender.send(round)).unwrap();
        assert_eq!(deferred.wait(), Ok(round));
        sends.join().unwrap();
    }
}

#[test]
fn a_dropped_sender_fails_the_wait() {
    let (sender, deferred) = deferred::<()>();
    drop(sender);
    assert_eq!(deferred.wait(), Err(WaitError::Dropped));
}

#[test]
fn one_may_go_on_waiting_after_a_limit() {
    let (sender, mut deferred) = deferred();
    assert_eq!(deferred.wait_timeout(Duration::from_micros(200)), Err(WaitError::TimedOut));
    assert_eq!(deferred.wait_timeout(Duration::ZERO), Err(WaitError::TimedOut));
    sender.send("late");
    assert_eq!(deferred.wait_timeout(Duration::ZERO), Ok("late"));
    assert_eq!(deferred.wait(), Err(WaitError::Dropped), "it was taken");
}

#[test]
fn b5_a_result_can_be_polled_for() {
    let (sender, mut deferred) = deferred();
    assert_eq!(deferred.try_take(), None);
    sender.send(1);
    assert_eq!(deferred.try_take(), Some(Ok(1)));
    assert_eq!(deferred.try_take(), Some(Err(WaitError::Dropped)));
    assert_eq!(Deferred::ready(2).wait(), Ok(2));
}

#[test]
fn the_sender_knows_whether_anybody_waits() {
    let (sender, receiver) = deferred::<()>();
    assert!(!sender.is_abandoned());
    drop(receiver);
    assert!(sender.is_abandoned());
    let (sender, receiver) = deferred::<()>();
    receiver.then(|_| ());
    assert!(!sender.is_abandoned(), "a callback waits");
}

#[test]
fn an_abandoned_value_is_dropped_at_once() {
    let value = Arc::new(());
    let (sender, receiver) = deferred();
    drop(receiver);
    sender.send(Arc::clone(&value));
    assert_eq!(Arc::strong_count(&value), 1);
    let (sender, receiver) = deferred();
    sender.send(Arc::clone(&value));
    drop(receiver);
    assert_eq!(Arc::strong_count(&value), 1);
}

#[test]
fn b5_a_future_wakes_its_task_once_it_fires() {
    let count = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut cx = Context::from_waker(&waker);
    let (sender, deferred) = deferred();
    let mut future = pin!(deferred);
    assert_eq!(future.as_mut().poll(&mut cx), Poll::Pending);
    assert_eq!(future.as_mut().poll(&mut cx), Poll::Pending);
    sender.send(5);
    assert_eq!(count.0.load(SeqCst), 1);
    assert_eq!(future.poll(&mut cx), Poll::Ready(Ok(5)));
}

#[test]
fn d3_a_callback_runs_on_the_thread_that_fires_and_hears_of_a_drop() {
    for fires in [true, false] {
        let (sender, deferred) = deferred();
        let (results, received) = bounded(1);
        deferred.then(move |result| results.send((result, thread::current().id())).unwrap());
        let fire = move || if fires { sender.send(1) } else { drop(sender) };
        let thread = thread::Builder::new().spawn(fire).unwrap();
        let id = thread.thread().id();
        thread.join().unwrap();
        assert_eq!(received.recv().unwrap(), (if fires { Ok(1) } else { Err(Dropped) }, id));
    }
}

#[test]
fn a_callback_given_late_runs_at_once() {
    let (results, received) = bounded(1);
    Deferred::ready(1).then(move |result| results.send(result).unwrap());
    assert_eq!(received.try_recv(), Ok(Ok(1)));
}

#[test]
fn b5_a_callback_runs_in_the_executor_of_its_maker() {
    let reactor = reactor_thread();
    let id = reactor.handle().ask(|(), _| thread::current().id()).wait().unwrap();
    for early in [true, false] {
        let (sender, deferred) = deferred_on(Arc::new(reactor.handle()));
        let (results, received) = bounded(1);
        let mut sender: Option<DeferredSender<()>> = Some(sender);
        if early {
            sender.take().unwrap().send(());
        }
        deferred.then(move |_| results.send(thread::current().id()).unwrap());
        drop(sender);
        assert_eq!(received.recv().unwrap(), id);
    }
}

#[test]
fn the_reactor_that_delivers_cannot_wait_and_others_can() {
    let (host, other) = (reactor_thread(), reactor_thread());
    let (asked, handle) = (host.handle(), host.handle());
    let own = host.handle().ask(move |(), _| asked.ask(|(), _| ()).wait());
    assert_eq!(own.wait(), Ok(Err(WaitError::WouldDeadlock)));
    let foreign = other.handle().ask(move |(), _| handle.ask(|(), _| 7).wait());
    assert_eq!(foreign.wait(), Ok(Ok(7)));
}

#[test]
fn a4_a_turn_within_a_callback_of_another_reactor_counts_for_both() {
    let mut outer = Reactor::new(MioDriver::new().unwrap(), ());
    let mut inner = Reactor::new(MioDriver::new().unwrap(), ());
    let asked = outer.handle();
    outer.with(|(), _| {
        let result = inner.with(|(), _| asked.ask(|(), _| ()).wait());
        assert_eq!(result, Err(WaitError::WouldDeadlock));
    });
}

#[test]
fn a3_a_private_reactor_waits_for_nobody() {
    let mut private = Reactor::new(MioDriver::new().unwrap(), ()).private();
    private.with(|(), _| {
        let (_sender, deferred) = deferred::<()>();
        assert_eq!(deferred.wait(), Err(WaitError::WouldDeadlock));
        assert_eq!(Deferred::ready(1).wait(), Ok(1), "what is there needs no waiting");
    });
    assert!(!zeo_reactor::is_blocking_forbidden());
}

#[test]
fn a_thread_may_forbid_itself_to_block() {
    let guard = forbid_blocking();
    let (_sender, mut deferred) = deferred::<()>();
    assert_eq!(deferred.wait_timeout(Duration::from_secs(9)), Err(WaitError::WouldDeadlock));
    drop(guard);
    assert_eq!(deferred.wait_timeout(Duration::from_micros(1)), Err(WaitError::TimedOut));
}

fn reactor_thread() -> ReactorThread<()> {
    ReactorThread::spawn("test", Reactor::new(MioDriver::new().unwrap(), ())).unwrap()
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}
