//! Stopping in order, whatever is in progress.

use std::time::Duration;

use zeo_proto::{Call, Failure, Goodbye, Oid, OutcomeQuery, Reply, ServerMessage, Tid, TxnId};
use zeo_server::Limits;

use crate::faulty::Faulty;
use crate::peer::{Peer, Txn};

/// The rest of a chore that had failed counted as work in progress, and its end told nobody: the
/// stop ran into its limit, and nothing was closed.
#[test]
fn a_stop_does_not_wait_for_a_chore_that_failed() {
    let storage = Faulty::new();
    storage.set(|faults| (faults.overlay_full, faults.index_failures) = (true, u32::MAX));
    let server = storage.serve(Limits::default());
    storage.wait_until(|faults| faults.index_failures < u32::MAX);
    server.stop();
    storage.wait_until(|faults| faults.closed);
}

/// No chore was begun any more, also none that a commit waited for.
#[test]
fn commits_that_wait_for_the_index_are_finished_by_a_stop() {
    let storage = Faulty::new();
    storage.set(|faults| (faults.overlay_full, faults.index_steps) = (true, u32::MAX));
    let server = storage.serve(Limits::default());
    let (mut writer, mut other) = (Peer::connect(&server), Peer::connect(&server));
    let commit = writer.begin_commit(&Txn::new(1, 0, Tid::ZERO), &[(1, None, b"a")]);
    writer.call(Call::Ping).unwrap();
    server.stopper().begin_stop();
    // What would keep a stop from coming to its end is not taken on.
    while other.commit(&Txn::new(2, 0, Tid::ZERO), &[(2, None, b"b")]) != Err(Failure::Stopping) {}
    let query = OutcomeQuery { id: TxnId::default(), snapshot: Tid::ZERO, epoch: 1 };
    assert_eq!(other.call(Call::Outcome(query)), Err(Failure::Stopping));
    assert_eq!(other.call(Call::NewOids(1)), Err(Failure::Stopping));
    storage.set(|faults| faults.index_steps = 3);
    assert!(matches!(writer.answer(commit), Ok((Reply::Finished(_), _))));
    assert!(server.wait(Duration::from_secs(10)));
    storage.wait_until(|faults| faults.closed);
}

/// A storage was closed while it was still read.
#[test]
fn nothing_is_asked_of_a_storage_that_is_closed() {
    let storage = Faulty::new();
    let server = storage.serve(Limits::default());
    let mut reader = Peer::connect(&server);
    storage.set(|faults| faults.held_load = Some(Oid::new(3)));
    reader.ask(Call::LoadMany(Tid::MAX, (3..100).map(Oid::new).collect()));
    storage.wait_until(|faults| faults.load_waited);
    server.stopper().begin_stop();
    assert_eq!(reader.notice(), ServerMessage::Goodbye(Goodbye::Stopping));
    storage.set(|faults| faults.held_load = None);
    assert!(server.wait(Duration::from_secs(10)));
    storage.wait_until(|faults| faults.closed && !faults.used_when_closed);
}

/// Whether the group is durable is not known, and nobody was told of it: a later commit would be
/// published over one that others have never heard of.
#[test]
fn after_a_panic_in_the_commit_stage_nothing_more_is_committed() {
    let storage = Faulty::new();
    let server = storage.serve(Limits::default());
    let (mut writer, mut reader) = (Peer::connect(&server), Peer::connect(&server));
    let first = writer.commit(&Txn::new(1, 0, Tid::ZERO), &[(1, None, b"a")]).unwrap();
    storage.set(|faults| faults.panic_after_apply = true);
    let lost = writer.commit(&Txn::new(2, 0, first), &[(1, Some(first), b"b")]);
    assert!(matches!(lost, Err(Failure::OutcomeUnknown(_))), "{lost:?}");
    let next = writer.commit(&Txn::new(3, 0, first), &[(2, None, b"c")]);
    assert!(matches!(next, Err(Failure::StorageFailed(_))), "{next:?}");
    assert_eq!(reader.call(Call::LastTid).unwrap().0, Reply::LastTid(first));
    assert_eq!(reader.load(1, Tid::MAX).1, "a", "what was published can be read");
}
