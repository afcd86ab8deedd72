//! Storages that are only read.

use std::sync::Arc;

use zeo_proto::{Call, ClientEvent, Failure, Hello, Identity, Loaded, Outcome, RefusalReason, Tid};
use zeo_server::storage::{MemoryStorage, Storage};
use zeo_server::{RunningServer, Server, ServerBuilder, StorageOptions};

use crate::peer::{Peer, Txn};

#[test]
fn who_would_write_to_a_read_only_storage_is_refused() {
    let server = start(archive(StorageOptions::default().read_only()));
    let hello = Hello::new("archive").unwrap();
    let Err(ClientEvent::Refused(refusal)) = Peer::introduce(&server, hello) else {
        panic!("it was not refused")
    };
    assert_eq!(refusal.reason, RefusalReason::ReadOnly);
    assert!(refusal.text.contains("\"archive\" is read-only"), "{}", refusal.text);
}

#[test]
fn a_read_only_storage_is_read_and_takes_nothing() {
    let server = start(archive(StorageOptions::default().read_only()));
    let mut peer = read_only_peer(&server, "archive");
    assert_eq!(peer.load(1, Tid::MAX).0, Loaded::Absent);
    let txn = Txn::new(1, 0, Tid::ZERO);
    assert_eq!(peer.commit(&txn, &[(1, None, b"a")]), Err(Failure::ReadOnly));
    assert_eq!(peer.call(Call::NewOids(1)), Err(Failure::ReadOnly));
    assert_eq!(peer.outcome(&txn), Outcome::NotCommitted);
    assert_eq!(peer.load(1, Tid::MAX).0, Loaded::Absent);
}

#[test]
fn the_storage_beside_it_is_written() {
    let server = start(archive(StorageOptions::default().read_only()));
    let mut peer = Peer::connect(&server);
    peer.commit(&Txn::new(1, 0, Tid::ZERO), &[(1, None, b"a")]).unwrap();
}

#[test]
fn a_read_only_server_takes_nothing_in_any_storage() {
    let server = start(archive(StorageOptions::default()).read_only());
    for name in ["main", "archive"] {
        let mut peer = read_only_peer(&server, name);
        let refused = peer.commit(&Txn::new(1, 0, Tid::ZERO), &[(1, None, b"a")]);
        assert_eq!(refused, Err(Failure::ReadOnly), "{name}");
        assert!(Peer::introduce(&server, Hello::new(name).unwrap()).is_err(), "{name}");
    }
}

fn archive(options: StorageOptions) -> ServerBuilder {
    let storage = Arc::new(MemoryStorage::new(Identity { uuid: [7; 16], epoch: 1 }));
    let storage = storage as Arc<dyn Storage>;
    Server::builder().memory_storage("main").storage_with("archive", storage, options)
}

fn start(builder: ServerBuilder) -> RunningServer {
    builder.listen("127.0.0.1:0".parse().unwrap()).start().unwrap()
}

fn read_only_peer(server: &RunningServer, storage: &str) -> Peer {
    let mut hello = Hello::new(storage).unwrap();
    hello.read_only = true;
    Peer::introduce(server, hello).unwrap()
}
