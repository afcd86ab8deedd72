//! The blocking face, with a real server in the same process.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use zeo_client::{
    CallError, Client, CommitError, ConnectError, LoadError, NotCommitted, Oid, RunError,
    StoreError, Tid, forbid_blocking,
};
use zeo_server::{RunningServer, Server};

#[test]
fn one_client_sees_what_another_has_committed() {
    let server = server();
    let (one, two) = (client(&server), client(&server));
    let oid = create(&one, "first");
    let tid = two.sync().unwrap();
    assert_eq!(two.load(oid).unwrap().data, "first");
    let mut txn = two.begin().unwrap();
    txn.load(oid).unwrap();
    txn.store(oid, "second").unwrap();
    txn.commit().unwrap();
    one.sync().unwrap();
    assert_eq!(one.load(oid).unwrap().data, "second");
    assert_eq!(one.load_before(oid, tid.next()).unwrap().data, "first");
    assert_eq!(one.identity(), two.identity());
}

#[test]
fn a_commit_is_one_round_trip_and_a_cached_load_is_none() {
    let server = server();
    let db = client(&server);
    let oid = db.new_oid().unwrap();
    let before = db.statistics().round_trips;
    let mut txn = db.begin().unwrap();
    txn.store_new(oid, "data").unwrap();
    txn.commit().unwrap();
    assert_eq!(db.statistics().round_trips, before + 1);
    assert_eq!(db.load(oid).unwrap().data, "data");
    assert_eq!(db.statistics().round_trips, before + 1);
}

#[test]
fn a_store_of_what_somebody_else_changed_is_a_conflict() {
    let server = server();
    let (one, two) = (client(&server), client(&server));
    let oid = create(&one, "0");
    let read = two.sync().unwrap();
    let mut slow = two.begin().unwrap();
    slow.load(oid).unwrap();
    one.run(|txn| txn.store(oid, "1")).unwrap();
    slow.store(oid, "2").unwrap();
    let Err(CommitError::Conflict(conflict)) = slow.commit() else { panic!() };
    assert_eq!((conflict.oid, conflict.read), (oid, read));
    assert!(conflict.committed > read);
}

/// In an empty database: one of two that make the root is told that somebody was faster, and never
/// that there is no root at its snapshot.
#[test]
fn r15_two_clients_make_the_root_of_an_empty_database() {
    let server = server();
    let clients = [client(&server), client(&server)];
    let make_root = |db: &Client| {
        db.run(|txn| match txn.load(Oid::ROOT) {
            Ok(root) => Ok::<_, Box<dyn std::error::Error>>(root.data),
            Err(LoadError::NotFound(_)) => {
                txn.store(Oid::ROOT, "root")?;
                Ok("root".into())
            }
            Err(error) => Err(error.into()),
        })
        .unwrap()
    };
    let mut slow = clients[0].begin().unwrap();
    assert!(matches!(slow.load(Oid::ROOT), Err(LoadError::NotFound(_))));
    slow.store(Oid::ROOT, "another").unwrap();
    assert_eq!(make_root(&clients[1]), "root");
    assert!(matches!(slow.commit(), Err(CommitError::Conflict(_))));
    assert_eq!(make_root(&clients[0]), "root");
}

#[test]
fn a_transaction_is_committed_only_where_it_began() {
    let server = server();
    let (one, two) = (client(&server), client(&server));
    let mut txn = one.begin().unwrap();
    txn.store(Oid::ROOT, "data").unwrap();
    assert!(matches!(two.commit(txn), Err(CommitError::NotCommitted(NotCommitted::Refused(_)))));
    let mut txn = one.begin().unwrap();
    txn.store(Oid::ROOT, "data").unwrap();
    assert!(one.clone().commit(txn).is_ok());
}

#[test]
fn run_counts_right_however_many_count() {
    let server = server();
    let counter = create(&client(&server), "0");
    let threads = [(); 4].map(|()| {
        let db = Client::options().attempts(1_000).connect(&server.url("main")).unwrap();
        spawn(move || (0..25).for_each(|_| increment(&db, counter)))
    });
    for thread in threads {
        thread.join().unwrap();
    }
    let db = client(&server);
    assert_eq!(db.load(counter).unwrap().data, "100");
}

#[test]
fn run_gives_up_after_its_attempts_and_returns_the_works_own_error() {
    let server = server();
    let (db, other) = (client(&server), client(&server));
    let oid = create(&db, "0");
    let few = Client::options().attempts(3).connect(&server.url("main")).unwrap();
    let mut attempts = 0;
    let result = few.run(|txn| {
        attempts += 1;
        txn.load(oid)?;
        other.run(|txn| txn.store(oid, "theirs")).unwrap();
        txn.store(oid, "ours").unwrap();
        Ok::<_, LoadError>(())
    });
    assert!(matches!(result, Err(RunError::Commit(CommitError::Conflict(_)))), "{result:?}");
    assert_eq!(attempts, 3);
    let result = few.run(|_| Err::<(), _>(StoreError::ReadOnly));
    assert_eq!(result, Err(RunError::App(StoreError::ReadOnly)));
}

#[test]
fn a_thread_that_must_not_wait_is_told_so_before_anything_is_sent() {
    let server = server();
    let db = client(&server);
    let oid = create(&db, "data");
    let mut txn = db.begin().unwrap();
    txn.store(oid, "other").unwrap();
    let before = db.statistics();
    let forbidden = forbid_blocking();
    assert_eq!(db.load(oid), Err(LoadError::WouldDeadlock));
    assert_eq!(db.load_many(&[oid]), Err(LoadError::WouldDeadlock));
    assert_eq!(db.sync(), Err(CallError::WouldDeadlock));
    assert_eq!(txn.commit(), Err(CommitError::WouldDeadlock));
    let connected = Client::connect(&server.url("main"));
    assert_eq!(connected.map(drop), Err(ConnectError::WouldDeadlock));
    drop(forbidden);
    assert_eq!(db.statistics(), before);
    assert_eq!(db.load(oid).unwrap().data, "data");
}

// R21: what the application runs on the reactor's thread would wait for itself.
#[test]
fn r21_a_call_from_the_reactors_thread_is_refused() {
    let server = server();
    let db = client(&server);
    let (told, result) = bounded(1);
    let waker = Waker::from(Arc::new(CallsBack { db: db.clone(), told }));
    let mut ping = pin!(db.nb().ping());
    if ping.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
        assert_eq!(result.recv().unwrap(), Err(CallError::WouldDeadlock));
    }
}

#[test]
fn results_can_be_awaited() {
    let server = server();
    let db = client(&server);
    let oid = create(&db, "data");
    let other = client(&server);
    let revision = block_on(async { other.nb().load(oid).await.unwrap() });
    assert_eq!(revision.unwrap().data, "data");
}

#[test]
fn a_callback_may_wait_for_what_it_asks() {
    let server = server();
    let (db, other) = (client(&server), client(&server));
    let oid = create(&other, "first");
    db.sync().unwrap();
    let (told, result) = bounded(8);
    let inner = db.clone();
    let _subscription = db.on_invalidation(move |change| {
        assert!(change.concerns(oid));
        told.send(inner.load(oid).unwrap().data).unwrap();
    });
    other.run(|txn| txn.store(oid, "second")).unwrap();
    assert_eq!(result.recv().unwrap(), "second");
}

#[test]
fn a_client_can_be_closed_and_dropped_in_its_own_callback() {
    let server = server();
    let other = client(&server);
    for close in [true, false] {
        let db = client(&server);
        let (ended, end) = bounded(1);
        let mut last = Some(db.clone());
        let subscription = db.on_invalidation(move |_| {
            if let Some(db) = last.take() {
                if close {
                    db.close();
                }
                drop(db);
                ended.send(()).unwrap();
            }
        });
        drop(db);
        create(&other, "change");
        end.recv().unwrap();
        drop(subscription);
    }
}

#[test]
fn the_last_client_can_be_dropped_by_the_callback_of_a_result() {
    let server = server();
    let db = client(&server);
    let (ended, end) = bounded(1);
    let last = db.clone();
    db.nb().ping().then(move |result| {
        drop(last);
        ended.send(result).unwrap();
    });
    drop(db);
    assert!(matches!(end.recv().unwrap(), Ok(Ok(()) | Err(CallError::Closed))));
}

#[test]
fn the_last_client_can_be_dropped_on_its_own_reactors_thread() {
    let server = server();
    for close in [true, false] {
        let db = client(&server);
        let waiting = db.nb().load(Oid::new(7));
        let (ended, end) = bounded(1);
        let mut ping = pin!(db.nb().ping());
        let waker = Waker::from(Arc::new(Closes { last: Mutex::new(Some(db)), close, ended }));
        let poll = ping.as_mut().poll(&mut Context::from_waker(&waker));
        drop(waker);
        if poll.is_pending() {
            end.recv().unwrap();
        }
        assert!(waiting.wait().is_ok(), "answered, not dropped");
    }
}

#[test]
fn whoever_closes_first_everybody_who_waits_is_told() {
    let server = server();
    for _ in 0..20 {
        let db = client(&server);
        let (told, tells) = bounded(8);
        for number in 0..8 {
            let told = told.clone();
            db.nb().load(Oid::new(number)).then(move |result| told.send(result).unwrap());
        }
        let other = db.clone();
        let thread = spawn(move || other.close());
        db.close();
        for _ in 0..8 {
            assert!(tells.recv().unwrap().is_ok(), "an answer, or that it is closed");
        }
        thread.join().unwrap();
    }
}

#[test]
fn a_waiting_call_ends_when_another_thread_closes() {
    let server = server();
    let db = client(&server);
    drop(server);
    let waiting = db.nb().sync();
    let thread = spawn(move || waiting.wait());
    db.close();
    assert_eq!(thread.join().unwrap(), Ok(Err(CallError::Closed)));
    assert_eq!(db.load(Oid::ROOT), Err(LoadError::Closed));
}

#[test]
fn who_cannot_be_reached_is_named_with_the_reason() {
    let url = "zeo://127.0.0.1:1/main?wait=off";
    let Err(ConnectError::Unreachable { server, reason }) = Client::connect(url) else { panic!() };
    assert_eq!(server, "127.0.0.1:1");
    assert!(reason.contains("refused"), "{reason}");
}

#[test]
fn a_storage_that_is_not_there_is_a_clear_error() {
    let server = server();
    let url = server.url("other");
    let Err(ConnectError::Refused(text)) = Client::connect(&url) else { panic!() };
    assert!(text.contains("other") && text.contains("main"), "{text}");
}

#[test]
fn a_name_without_an_address_is_a_clear_error() {
    let result = Client::connect("zeo://no-such-host.invalid/main");
    assert!(matches!(result, Err(ConnectError::Resolve { .. })), "{result:?}");
    assert!(matches!(Client::connect("no url"), Err(ConnectError::Url(_))));
}

#[test]
fn many_objects_are_loaded_in_one_call() {
    let server = server();
    let db = client(&server);
    let mut txn = db.begin().unwrap();
    let oids: Vec<_> = (0..3_000).map(|number| txn.create(number.to_string()).unwrap()).collect();
    txn.commit().unwrap();
    let found = client(&server).load_many(&oids).unwrap();
    for (number, revision) in found.iter().enumerate() {
        assert_eq!(revision.as_ref().unwrap().data, number.to_string());
    }
}

#[test]
fn large_and_small_commits_go_through_at_the_same_time() {
    let server = server();
    let db = client(&server);
    let large = vec![7; 20 << 20];
    let (big, small) = (db.new_oid().unwrap(), db.new_oid().unwrap());
    let mut txn = db.begin().unwrap();
    txn.store_new(big, large.clone()).unwrap();
    let commit = db.nb().commit(txn);
    let tids: Vec<Tid> = (0..20).map(|n| put(&db, small, n)).collect();
    assert!(tids.is_sorted());
    let tid = commit.wait().unwrap().unwrap();
    let revision = client(&server).load(big).unwrap();
    assert_eq!((revision.tid, revision.data == large), (tid, true));
}

fn server() -> RunningServer {
    Server::in_memory().unwrap()
}

fn client(server: &RunningServer) -> Client {
    Client::connect(&server.url("main")).unwrap()
}

fn create(db: &Client, data: &'static str) -> Oid {
    db.run(|txn| txn.create(data)).unwrap()
}

fn put(db: &Client, oid: Oid, number: u32) -> Tid {
    let mut txn = db.begin().unwrap();
    if number > 0 {
        txn.load(oid).unwrap();
    }
    txn.store(oid, number.to_string()).unwrap();
    txn.commit().unwrap()
}

fn increment(db: &Client, counter: Oid) {
    let add_one = db.run(|txn| {
        let data = txn.load(counter)?.data;
        let count: u32 = std::str::from_utf8(&data).unwrap().parse().unwrap();
        txn.store(counter, (count + 1).to_string()).unwrap();
        Ok::<_, LoadError>(())
    });
    add_one.unwrap();
}

fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    thread::Builder::new().spawn(work).unwrap()
}

struct CallsBack {
    db: Client,
    told: Sender<Result<(), CallError>>,
}

impl Wake for CallsBack {
    fn wake(self: Arc<Self>) {
        self.told.send(self.db.ping()).unwrap();
    }
}

struct Closes {
    last: Mutex<Option<Client>>,
    close: bool,
    ended: Sender<()>,
}

impl Wake for Closes {
    fn wake(self: Arc<Self>) {
        let last = self.last.lock().unwrap().take();
        if let Some(db) = last.filter(|_| self.close) {
            db.close();
        }
        self.ended.try_send(()).ok();
    }
}

struct Unparks(Mutex<Option<Sender<()>>>);

impl Wake for Unparks {
    fn wake(self: Arc<Self>) {
        if let Some(sender) = &*self.0.lock().unwrap() {
            sender.try_send(()).ok();
        }
    }
}

/// The smallest executor there can be.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let (sender, woken): (_, Receiver<()>) = bounded(1);
    let waker = Waker::from(Arc::new(Unparks(Mutex::new(Some(sender)))));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        woken.recv_timeout(Duration::from_secs(30)).unwrap();
    }
}
