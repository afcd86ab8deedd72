//! Two-phase commits: a vote that holds its object locks, and then its finish.

use std::fmt;

use zeo_proto::Tid;
use zeo_reactor::Deferred;

use crate::blocking::{may_block, wait};
use crate::client::Client;
use crate::error::CommitError;
use crate::link::CommitSender;
use crate::nb::{NonBlocking, began_elsewhere};
use crate::transaction::Transaction;

/// A transaction that was voted on: it can be committed, and nobody else changes its objects until
/// it is, or is aborted.
///
/// The server keeps its object locks for 30 s; then it aborts the transaction and ends the
/// connection. When the connection is lost before [`finish`](Self::finish), the transaction is gone.
/// Dropping it aborts. Made by [`Transaction::vote`].
#[must_use = "a vote that is dropped is aborted"]
pub struct Voted {
    claim: Claim,
    snapshot: Tid,
}

impl Transaction {
    /// Asks whether this transaction could be committed, and has its objects locked until it is:
    /// the first half of a commit that depends on something else, for example on another database
    /// (see [`commit_together`](crate::commit_together)).
    ///
    /// Waits while others hold the locks, for 30 s at most. 512 transactions of a client may be
    /// between their vote and their finish; more are [`Busy`](crate::NotCommitted::Busy). One that
    /// writes nothing is not sent.
    ///
    /// ```
    /// # let server = zeo_server::Server::in_memory()?;
    /// # let db = zeo_client::Client::connect(&server.url("main"))?;
    /// let mut txn = db.begin()?;
    /// let oid = txn.create("paid")?;
    /// let voted = txn.vote()?;
    /// // It can be committed: now pay.
    /// voted.finish()?;
    /// assert_eq!(db.load(oid)?.data, "paid");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn vote(self) -> Result<Voted, CommitError> {
        may_block()?;
        let client = self.client().clone();
        wait(client.nb().vote(self))
    }
}

impl Voted {
    /// Commits, and returns the transaction's tid.
    ///
    /// [`Lost`](crate::NotCommitted::Lost) says that the connection was lost since the vote, and
    /// nothing was committed. When it is lost after that, the server is asked what became of the
    /// commit; if nothing did, it is sent again without locks, and may meet a conflict.
    pub fn finish(self) -> Result<Tid, CommitError> {
        may_block()?;
        let client = self.claim.client.clone();
        wait(client.nb().finish(self))
    }

    /// Ends the transaction without a trace, as dropping it does.
    pub fn abort(self) {
        drop(self);
    }

    /// Finds out whether the connection was lost since the vote.
    pub(crate) fn check(&self) -> Deferred<Result<(), CommitError>> {
        let client = &self.claim.client;
        match self.claim.number {
            Some(number) => client.send(move |state, _, sender| state.is_voted(number, sender)),
            None => client.ready(Ok(())),
        }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.claim.client
    }
}

impl NonBlocking<'_> {
    /// See [`Transaction::vote`].
    pub fn vote(self, txn: Transaction) -> Deferred<Result<Voted, CommitError>> {
        if !self.client().is_same(txn.client()) {
            return self.client().ready(Err(began_elsewhere()));
        }
        let (weak, snapshot) = (self.client().downgrade(), txn.snapshot());
        let Some(request) = txn.into_request().1 else {
            let claim = Claim { client: self.client().clone(), number: None };
            return self.client().ready(Ok(Voted { claim, snapshot }));
        };
        self.client().send_then(
            move |state, cx, sender| state.commit(cx, request, CommitSender::Vote(sender)),
            move |number| Ok(Voted { claim: Claim::new(weak.upgrade()?, number?), snapshot }),
        )
    }

    /// See [`Voted::finish`].
    pub fn finish(self, voted: Voted) -> Deferred<Result<Tid, CommitError>> {
        if !self.client().is_same(voted.client()) {
            return self.client().ready(Err(began_elsewhere()));
        }
        let snapshot = voted.snapshot;
        match voted.claim.release() {
            None => self.client().ready(Ok(snapshot)),
            Some(number) => self.client().send(move |state, cx, sender| {
                state.finish(cx, number, sender);
            }),
        }
    }
}

impl fmt::Debug for Voted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Voted").field("snapshot", &self.snapshot).finish_non_exhaustive()
    }
}

/// The right to say what becomes of a transaction that the server keeps locks for. Whoever lets go
/// of it without a word aborts the transaction.
pub(crate) struct Claim {
    client: Client,
    /// None where nothing was sent, or once the word was given.
    number: Option<u64>,
}

impl Claim {
    pub(crate) fn new(client: Client, number: u64) -> Self {
        Self { client, number: Some(number) }
    }

    /// Gives the right up, to whoever is told the number.
    pub(crate) fn release(mut self) -> Option<u64> {
        self.number.take()
    }
}

/// On any thread, also the reactor's own: nothing is waited for.
impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(number) = self.number.take() {
            self.client.abandon(number);
        }
    }
}
