//! A server with objects in it.

use std::path::Path;
use std::sync::Arc;

use zeo_client::Client;
use zeo_proto::Oid;
use zeo_server::storage::{self, OpenOptions};
use zeo_server::{Limits, RunningServer, Server};

use crate::plan::Plan;

/// A server and the objects that it was given.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) server: RunningServer,
    pub(crate) oids: Vec<Oid>,
    /// Its files; they go when it has stopped.
    _dir: Option<tempfile::TempDir>,
}

impl Store {
    /// In memory, all of it hot.
    pub(crate) fn in_memory(objects: usize) -> Self {
        Self::filled(Server::in_memory().unwrap(), None, objects)
    }

    /// On disk.
    pub(crate) fn on_disk(plan: &Plan, objects: usize) -> Self {
        let dir = plan.scratch();
        Self::filled(serve(dir.path(), Limits::default()), Some(dir), objects)
    }

    /// On disk, with no memory of hot records: every load goes to the load stage.
    pub(crate) fn never_hot(plan: &Plan, objects: usize) -> Self {
        let dir = plan.scratch();
        let limits = Limits { hot_bytes: 0, ..Limits::default() };
        Self::filled(serve(dir.path(), limits), Some(dir), objects)
    }

    fn filled(server: RunningServer, dir: Option<tempfile::TempDir>, objects: usize) -> Self {
        let oids = fill(&Client::connect(&server.url("main")).unwrap(), objects);
        Self { server, oids, _dir: dir }
    }

    /// A client whose cache is empty.
    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.server.url("main")).unwrap()
    }

    /// A client whose cache stays empty.
    pub(crate) fn forgetful_client(&self) -> Client {
        Client::options().cache_bytes(0).connect(&self.server.url("main")).unwrap()
    }
}

/// Serves the storage in a directory.
pub(crate) fn serve(dir: &Path, limits: Limits) -> RunningServer {
    let storage = storage::open(&dir.join("main"), OpenOptions::new([1; 16])).unwrap();
    let address = "127.0.0.1:0".parse().unwrap();
    let builder = Server::builder().storage("main", Arc::new(storage)).listen(address);
    builder.limits(limits).start().unwrap()
}

/// Commits that many objects.
pub(crate) fn fill(db: &Client, count: usize) -> Vec<Oid> {
    let mut oids = Vec::with_capacity(count);
    while oids.len() < count {
        let mut txn = db.begin().unwrap();
        for _ in 0..(count - oids.len()).min(1_000) {
            oids.push(txn.create(object()).unwrap());
        }
        txn.commit().unwrap();
    }
    oids
}

/// The data of an object.
pub(crate) fn object() -> Vec<u8> {
    vec![7; OBJECT]
}

/// Bytes of every object here.
pub(crate) const OBJECT: usize = 1024;
