//! A transaction over two daemons, one of which is killed between its vote and its finish.

use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use zeo_client::{
    Client, Identity, LoadError, NotCommitted, Oid, Tid, TogetherError, commit_together,
};
use zeo_proto::{Call, ClientMessage, decode};

use crate::daemon::Daemon;
use crate::lost_answers::frames;
use crate::proxy::Proxy;

/// A vote is not durable: the daemon that was killed has nothing of what the other has committed
/// by then. That must be said, with the names of both, and neither may be left with locks.
#[test]
fn when_the_second_daemon_is_killed_before_its_finish_the_error_says_who_has_what() {
    let mut sites = [Site::start(), Site::start()];
    sites.sort_by_key(|site| site.identity.uuid);
    let error = commit_while_killing(&mut sites, 1);
    let [first, second] = &sites;
    let tid = first.load().expect("the first has committed");
    let lost = NotCommitted::Lost.into();
    let partly = TogetherError::PartlyCommitted {
        committed: vec![(first.identity, tid)],
        not_committed: vec![(second.identity, lost)],
        unknown: vec![],
    };
    assert_eq!(error, partly);
    assert_eq!(second.load(), Err(LoadError::NotFound(OID)));
    sites.iter().for_each(Site::expect_no_locks);
}

#[test]
fn when_the_first_daemon_is_killed_before_its_finish_nothing_is_committed() {
    let mut sites = [Site::start(), Site::start()];
    sites.sort_by_key(|site| site.identity.uuid);
    let error = commit_while_killing(&mut sites, 0);
    let why = NotCommitted::Lost.into();
    assert_eq!(error, TogetherError::NotCommitted { identity: sites[0].identity, why });
    for site in &sites {
        assert_eq!(site.load(), Err(LoadError::NotFound(OID)));
        site.expect_no_locks();
    }
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
    fn load(&self) -> Result<Tid, LoadError> {
        self.connect().load(OID).map(|revision| revision.tid)
    }

    /// Nobody who writes the object has to wait until somebody else's locks are taken away.
    fn expect_no_locks(&self) {
        let client = self.connect();
        let mut txn = client.begin().unwrap();
        txn.store(OID, "later").unwrap();
        txn.commit().unwrap();
    }

    fn connect(&self) -> Client {
        let options = Client::options().call_timeout(LOCKS_LAST / 2);
        options.connect(&self.daemon.url()).unwrap()
    }
}

/// Commits in both; one of the daemons is killed when the other end has sent its finish.
fn commit_while_killing(sites: &mut [Site; 2], killed: usize) -> TogetherError {
    sites[killed].proxy.hold_from(has_a_finish);
    let txns = [&sites[0], &sites[1]].map(|site| {
        let mut txn = site.client.begin().unwrap();
        txn.store(OID, "both").unwrap();
        txn
    });
    thread::scope(|scope| {
        let committing = scope.spawn(|| commit_together(txns));
        sites[killed].proxy.wait_until_held();
        sites[killed].kill();
        drop(sites[killed].proxy.cut_when(has_a_finish));
        committing.join().unwrap().unwrap_err()
    })
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
