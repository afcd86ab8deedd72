//! Hostile peers of every kind, each beside a well-behaved client that must not notice.

pub(crate) mod field;
pub(crate) mod kinds;
pub(crate) mod wire;

use std::thread;

use zeo_client::Client;
use zeo_proto::Oid;

use crate::daemon::Daemon;
use field::Field;
use kinds::{KINDS, Kind};

#[test]
fn no_hostile_peer_is_noticed_by_another() {
    let dir = tempfile::tempdir().unwrap();
    let options = ["--listen", "127.0.0.1:0", "--hot-size", "1MiB"];
    let daemon = Daemon::start_with(dir.path(), &options);
    let good = Good::connect(&daemon);
    let large = created(&good.writer, 8, 1 << 20);
    for kind in &KINDS {
        let field = Field::new(&daemon.address, &good.oids, &large);
        let fate = beside(&good, kind, &field);
        assert!(fate.contains(kind.fate), "who {}: {fate}", kind.name);
    }
    // What they held is given back, whatever became of them.
    while daemon_holds(&daemon) {}
}

/// The well-behaved: one who writes, one who reads.
struct Good {
    writer: Client,
    reader: Client,
    oids: Vec<Oid>,
}

impl Good {
    fn connect(daemon: &Daemon) -> Self {
        let [writer, reader] = [(); 2].map(|()| Client::connect(&daemon.url()).unwrap());
        let oids = created(&writer, 3_000, 1_000);
        Self { writer, reader, oids }
    }

    /// Commits, and reads what was committed; loads what is in nobody's cache.
    fn work(&self, daemon: &str, round: usize) {
        let (oid, data) = (self.oids[round % self.oids.len()], format!("round {round}"));
        let mut txn = self.writer.begin().unwrap();
        txn.store(oid, data.clone()).unwrap();
        let tid = txn.commit().unwrap();
        assert!(self.reader.sync().unwrap() >= tid);
        assert_eq!(self.reader.load(oid).unwrap().data, data);
        let stranger = Client::connect(&format!("zeo://{daemon}/main")).unwrap();
        assert_eq!(stranger.load(oid).unwrap().data, data);
        let unchanged = stranger.load(self.oids[self.oids.len() - 1]).unwrap();
        assert_eq!(unchanged.data, created_data(1_000));
    }
}

/// Does the work beside such a peer until it has shown what it can; what became of that peer.
fn beside(good: &Good, kind: &Kind, field: &Field<'_>) -> String {
    thread::scope(|scope| {
        let attack = scope.spawn(|| (kind.attack)(field));
        let mut rounds = 0;
        while rounds < 6 || (field.strikes() < 2 && !attack.is_finished()) {
            good.work(&field.address, rounds);
            rounds += 1;
        }
        field.end();
        attack.join().unwrap()
    })
}

fn created(db: &Client, count: usize, size: usize) -> Vec<Oid> {
    let mut txn = db.begin().unwrap();
    let oids = (0..count).map(|_| txn.create(created_data(size)).unwrap()).collect();
    txn.commit().unwrap();
    oids
}

fn created_data(size: usize) -> Vec<u8> {
    vec![7; size]
}

/// Whether anything is held for anybody.
fn daemon_holds(daemon: &Daemon) -> bool {
    let status = wire::status(&daemon.address);
    ["buffered_bytes", "session_bytes", "active_txns"]
        .iter()
        .any(|name| !status.contains(&format!("\"{name}\":0")))
}
