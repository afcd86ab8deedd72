//! Storages that may become only so long.

use std::path::Path;
use std::sync::Arc;

use zeo_proto::{Call, Failure, Tid};
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
    let mut vote = |number, data: &[u8]| {
        peer.write(&Txn::new(number, 0, tid).begin());
        peer.write(&store(number, 2, None, data));
        peer.call(Call::TpcVote(number, false)).map(|_| ())
    };
    assert_eq!(
        vote(3, &vec![7; 100_000]),
        Err(Failure::QuotaExceeded(100_000)),
        "not at its finish"
    );
    assert_eq!(vote(4, b"b"), Ok(()));
    assert_eq!(&*peer.load(1, Tid::MAX).1, b"a");
    let said = status(&mut peer)["main"]["trouble"].to_string();
    assert!(said.contains("quota of 100000 bytes"), "{said}");
    drop(peer);
    server.stop();
    let server = serve(dir.path(), 300_000);
    let mut peer = Peer::connect(&server);
    peer.commit(&Txn::new(1, 1, tid), &[(2, None, &vec![7; 100_000])]).unwrap();
}

fn serve(dir: &Path, quota: u64) -> RunningServer {
    let settings = Settings { quota_bytes: Some(quota), ..Settings::small() };
    let options = OpenOptions { settings, ..OpenOptions::new([7; 16]) };
    let storage = Arc::new(storage::open(dir, options).unwrap());
    let builder = Server::builder().storage("main", storage);
    builder.listen("127.0.0.1:0".parse().unwrap()).start().unwrap()
}

fn status(peer: &mut Peer) -> serde_json::Value {
    serde_json::from_slice(&peer.call(Call::Status).unwrap().1).unwrap()
}
