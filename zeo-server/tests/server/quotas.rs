//! Storages that may become only so long.

use std::path::Path;
use std::sync::Arc;

use zeo_proto::{Call, ClientMessage, Failure, Reply, Tid};
use zeo_server::storage::{self, OpenOptions, Settings};
use zeo_server::{RunningServer, Server};

use crate::peer::{Peer, Txn, store};

#[test]
fn a_quota_refuses_commits_and_votes_until_it_is_raised() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(dir.path(), 100_000);
    let mut peer = Peer::connect(&server);
    let tid = peer.commit(&Txn::new(1, 0, Tid::ZERO), &[(1, None, b"a")]).unwrap();
    let refused = peer.commit(&Txn::new(2, 0, tid), &[(2, None, &vec![7; 100_000])]);
    assert_eq!(refused, Err(Failure::QuotaExceeded(100_000)));
    let refused = vote(&mut peer, 3, 100_000);
    assert_eq!(refused, Err(Failure::QuotaExceeded(100_000)), "not at its finish");
    assert_eq!(vote(&mut peer, 4, 1), Ok(()));
    assert_eq!(&*peer.load(1, Tid::MAX).1, b"a");
    let said = status(&mut peer)["main"]["trouble"].to_string();
    assert!(said.contains("quota of 100000 bytes"), "{said}");
    drop(peer);
    server.stop();
    let server = serve(dir.path(), 300_000);
    let mut peer = Peer::connect(&server);
    peer.commit(&Txn::new(1, 1, tid), &[(2, None, &vec![7; 100_000])]).unwrap();
}

/// Each has room alone; the second would fail at its finish, when it is too late.
#[test]
fn a_vote_is_not_promised_what_another_has_been_promised() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(dir.path(), 100_000);
    let mut peer = Peer::connect(&server);
    assert_eq!(vote(&mut peer, 1, 60_000), Ok(()));
    assert_eq!(vote(&mut peer, 2, 60_000), Err(Failure::QuotaExceeded(100_000)));
    peer.say(&ClientMessage::TpcAbort(1));
    assert_eq!(vote(&mut peer, 3, 60_000), Ok(()), "what was promised is given back");
    assert!(matches!(peer.call(Call::TpcFinish(3)), Ok((Reply::Finished(_), _))));
}

fn serve(dir: &Path, quota: u64) -> RunningServer {
    let settings = Settings { quota_bytes: Some(quota), ..Settings::small() };
    let options = OpenOptions { settings, ..OpenOptions::new([7; 16]) };
    let storage = Arc::new(storage::open(dir, options).unwrap());
    let builder = Server::builder().storage("main", storage);
    builder.listen("127.0.0.1:0".parse().unwrap()).start().unwrap()
}

/// Votes on a transaction that stores an object of its own, of that many bytes.
fn vote(peer: &mut Peer, number: u32, size: usize) -> Result<(), Failure> {
    peer.write(&Txn::new(number, 0, Tid::ZERO).begin());
    peer.write(&store(number, number.into(), None, &vec![7; size]));
    peer.call(Call::TpcVote(number, false)).map(|_| ())
}

fn status(peer: &mut Peer) -> serde_json::Value {
    serde_json::from_slice(&peer.call(Call::Status).unwrap().1).unwrap()
}
