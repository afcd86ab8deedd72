//! A transaction over two daemons, one of which is killed between its vote and its finish.

use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use zeo_client::{
    Client, CommitError, Conflict, Identity, LoadError, Oid, Revision, Tid, TogetherError,
    commit_together,
};
use zeo_proto::{Call, ClientMessage, decode};

use crate::daemon::Daemon;
use crate::lost_answers::frames;
use crate::proxy::Proxy;

/// A vote is not durable: the daemon that was killed has lost it when the other one has committed.
/// If somebody else comes in between, that must be said, with the names of both, and neither may
/// be left with locks.
#[test]
fn when_the_second_daemon_loses_its_vote_to_somebody_else_the_error_says_who_has_what() {
    let mut sites = Site::pair();
    let (result, others) = commit_while_killing(&mut sites, 1, Site::write);
    let [first, second] = &sites;
    let revision = first.load().expect("the first has committed");
    assert_eq!(revision.data, "both");
    let partly = TogetherError::PartlyCommitted {
        committed: vec![(first.identity, revision.tid)],
        not_committed: vec![(second.identity, conflict(others))],
        unknown: vec![],
    };
    assert_eq!(result, Err(partly));
    assert_eq!(second.load().map(|revision| revision.tid), Ok(others), "nothing of it is there");
    expect_no_locks(&sites);
}

/// If nobody does, the client commits it there once more, and both have it after all.
#[test]
fn when_the_second_daemon_loses_its_vote_to_nobody_both_have_it_in_the_end() {
    let mut sites = Site::pair();
    let (result, ()) = commit_while_killing(&mut sites, 1, |_| ());
    let found = sites.each_ref().map(|site| site.load().expect("it has committed"));
    assert!(found.iter().all(|revision| revision.data == "both"), "{found:?}");
    assert_eq!(result, Ok(found.map(|revision| revision.tid).to_vec()));
    expect_no_locks(&sites);
}

#[test]
fn when_the_first_daemon_loses_its_vote_nothing_is_committed() {
    let mut sites = Site::pair();
    let (result, others) = commit_while_killing(&mut sites, 0, Site::write);
    let [first, second] = &sites;
    let refused = TogetherError::NotCommitted { identity: first.identity, why: conflict(others) };
    assert_eq!(result, Err(refused));
    assert_eq!(first.load().map(|revision| revision.tid), Ok(others));
    assert_eq!(second.load(), Err(LoadError::NotFound(OID)));
    expect_no_locks(&sites);
}

/// A daemon, and a client that is connected to it through a proxy.
struct Site {
    dir: TempDir,
    daemon: Daemon,
    proxy: Proxy,
    client: Client,
    identity: Identity,
}

impl Site {
    /// Two, in the order in which they are voted on.
    fn pair() -> [Self; 2] {
        let mut sites = [Self::start(), Self::start()];
        sites.sort_by_key(|site| site.identity.uuid);
        sites
    }

    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let daemon = Daemon::start(dir.path(), "127.0.0.1:0");
        let proxy = Proxy::start(&daemon.address);
        let client = Client::connect(&proxy.url()).unwrap();
        let identity = client.identity();
        Self { dir, daemon, proxy, client, identity }
    }

    /// Kills the daemon, and starts another in its place.
    fn kill(&mut self) {
        self.daemon.kill();
        self.daemon = Daemon::start(self.dir.path(), &self.daemon.address);
    }

    /// What somebody else finds here.
    fn load(&self) -> Result<Revision, LoadError> {
        self.connect().load(OID)
    }

    /// Somebody else writes the object.
    fn write(&self) -> Tid {
        let client = self.connect();
        let mut txn = client.begin().unwrap();
        txn.store(OID, "somebody else's").unwrap();
        txn.commit().unwrap()
    }

    fn connect(&self) -> Client {
        let options = Client::options().call_timeout(LOCKS_LAST / 2);
        options.connect(&self.daemon.url()).unwrap()
    }
}

/// Commits in both. One of the daemons is killed when its finish is on its way, which never arrives;
/// after its restart something happens before the client hears of that.
fn commit_while_killing<R>(
    sites: &mut [Site; 2],
    killed: usize,
    meanwhile: impl FnOnce(&Site) -> R,
) -> (Result<Vec<Tid>, TogetherError>, R) {
    sites[killed].proxy.hold_from(has_a_finish);
    let txns = sites.each_ref().map(|site| {
        let mut txn = site.client.begin().unwrap();
        txn.store(OID, "both").unwrap();
        txn
    });
    thread::scope(|scope| {
        let committing = scope.spawn(|| commit_together(txns));
        sites[killed].proxy.wait_until_held();
        sites[killed].kill();
        let others = meanwhile(&sites[killed]);
        drop(sites[killed].proxy.cut_when(has_a_finish));
        (committing.join().unwrap(), others)
    })
}

/// Whoever writes the object waits for nobody's locks, which last longer than his patience.
fn expect_no_locks(sites: &[Site; 2]) {
    for site in sites {
        site.write();
    }
}

/// What is said of a transaction that knew of no such object.
fn conflict(committed: Tid) -> CommitError {
    CommitError::Conflict(Conflict { oid: OID, committed, read: Tid::ZERO })
}

/// Whether a client's bytes have the finish of a transaction that was voted on.
fn has_a_finish(bytes: &[u8]) -> bool {
    frames(bytes).into_iter().any(|frame| {
        let message = decode::<ClientMessage>(frame).map(|(message, _)| message);
        matches!(message, Ok(ClientMessage::Call(_, Call::TpcFinish(_))))
    })
}

const OID: Oid = Oid::ROOT;
/// How long a daemon lets somebody hold locks.
const LOCKS_LAST: Duration = Duration::from_secs(30);
