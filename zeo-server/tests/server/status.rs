//! What the status says.

use zeo_proto::{Call, Failure, Tid};
use zeo_server::Limits;

use crate::faulty::Faulty;
use crate::peer::{Peer, Txn};

/// Each refusal was a line in the log, on a disk that was full.
#[test]
fn it_says_why_commits_are_refused_until_one_is_made() {
    let storage = Faulty::new();
    let server = storage.serve(Limits::default());
    let mut peer = Peer::connect(&server);
    assert_eq!(trouble(&mut peer), serde_json::Value::Null);
    storage.set(|faults| faults.disk_full = true);
    let refused = peer.commit(&Txn::new(1, 0, Tid::ZERO), &[(1, None, b"a")]);
    assert_eq!(refused, Err(Failure::DiskFull));
    assert_eq!(trouble(&mut peer), "no space left on the disk");
    storage.set(|faults| faults.disk_full = false);
    peer.commit(&Txn::new(2, 1, Tid::ZERO), &[(1, None, b"a")]).unwrap();
    assert_eq!(trouble(&mut peer), serde_json::Value::Null);
}

fn trouble(peer: &mut Peer) -> serde_json::Value {
    let (_, status) = peer.call(Call::Status).unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
    status["main"]["trouble"].clone()
}
