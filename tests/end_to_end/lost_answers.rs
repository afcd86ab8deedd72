//! Commits whose answer is lost: each is applied exactly once.

use zeo_client::Client;
use zeo_proto::{
    Call, ClientMessage, Failure, FrameReader, MAX_FRAME, Oid, ServerMessage, Tid, decode,
};

use crate::daemon::Daemon;
use crate::proxy::Proxy;

/// The connection is cut after the durable write: the client learns from the outcome that its
/// commit was made.
#[test]
fn a_commit_is_applied_once_when_its_answer_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(dir.path(), "127.0.0.1:0");
    let proxy = Proxy::start(&daemon.address);
    let db = Client::connect(&proxy.url()).unwrap();
    let (oid, before) = counter(&db);
    proxy.lose_the_next_answer();
    let tid = increment(&db, oid);
    assert_eq!(db.statistics().reconnects, 1, "the answer was lost");
    assert_eq!(revisions(&daemon, oid), [before, tid]);
}

/// The question about a commit overtakes it, because the old connection's bytes are still under
/// way. The server says that it was not made, so it must not be made when they arrive: the client
/// makes it under another name.
#[test]
fn a_commit_is_applied_once_when_its_bytes_arrive_after_the_question() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(dir.path(), "127.0.0.1:0");
    let proxy = Proxy::start(&daemon.address);
    let db = Client::connect(&proxy.url()).unwrap();
    let (oid, before) = counter(&db);
    proxy.hold_questions();
    let (tid, delayed) = std::thread::scope(|scope| {
        let committing = scope.spawn(|| increment(&db, oid));
        let delayed = proxy.cut_when(has_a_vote);
        (committing.join().unwrap(), delayed)
    });
    proxy.arrive(delayed, is_fenced);
    assert_eq!(revisions(&daemon, oid), [before, tid]);
}

fn counter(db: &Client) -> (Oid, Tid) {
    let mut txn = db.begin().unwrap();
    let oid = txn.create("0").unwrap();
    (oid, txn.commit().unwrap())
}

fn increment(db: &Client, oid: Oid) -> Tid {
    let mut txn = db.begin().unwrap();
    assert_eq!(txn.load(oid).unwrap().data, "0");
    txn.store(oid, "1").unwrap();
    txn.commit().unwrap()
}

/// The serials of all revisions of an object, oldest first, as another client sees them.
fn revisions(daemon: &Daemon, oid: Oid) -> Vec<Tid> {
    let db = Client::connect(&daemon.url()).unwrap();
    let mut serials = Vec::new();
    let mut before = Tid::MAX;
    while let Ok(revision) = db.load_before(oid, before) {
        serials.insert(0, revision.tid);
        before = revision.tid;
    }
    serials
}

/// Whether a client's bytes go as far as the vote of a transaction.
fn has_a_vote(bytes: &[u8]) -> bool {
    frames(bytes).into_iter().any(|frame| {
        let message = decode::<ClientMessage>(frame).map(|(message, _)| message);
        matches!(message, Ok(ClientMessage::Call(_, Call::TpcVote(_, true))))
    })
}

/// Whether a server's bytes say that a transaction is fenced.
fn is_fenced(bytes: &[u8]) -> bool {
    frames(bytes).into_iter().any(|frame| {
        let message = decode::<ServerMessage>(frame).map(|(message, _)| message);
        matches!(message, Ok(ServerMessage::Failure(_, Failure::Fenced)))
    })
}

pub(crate) fn frames(bytes: &[u8]) -> Vec<bytes::Bytes> {
    let mut reader = FrameReader::new();
    reader.receive(bytes);
    std::iter::from_fn(|| reader.next_frame(MAX_FRAME).unwrap()).collect()
}
