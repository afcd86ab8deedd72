//! Resolving conflicts: what two transactions made of an object is put together, while it is locked.

use bytes::Bytes;
use zeo_proto::{Conflict, MAX_OBJECT, Oid, Tid};
use zeo_reactor::Deferred;

use crate::blocking::{answer, block_on, may_block};
use crate::client::Client;
use crate::error::{CommitError, LoadError, NotCommitted};
use crate::link::{Attempt, Clash, CommitSender, Resolved};
use crate::nb::{NonBlocking, began_elsewhere};
use crate::revision::Revision;
use crate::transaction::Transaction;
use crate::voted::Claim;

/// An object that a transaction stores, and that somebody else has changed since it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResolvableConflict {
    /// The object.
    pub oid: Oid,
    /// What both began with: what this transaction read, or what was there at its snapshot. `None`
    /// where there was no such object.
    pub base: Option<Revision>,
    /// What the other has made of it, and what is committed.
    pub theirs: Revision,
    /// What this transaction makes of it.
    pub mine: Bytes,
}

impl Transaction {
    /// Commits like [`commit`](Self::commit), but where somebody else has changed an object that
    /// this transaction stores, stores what `resolve` makes of both.
    ///
    /// `resolve` runs on this thread. The objects stay locked meanwhile, for 30 s at most, so what
    /// it returns is not overtaken by another conflict; other conflicts may follow, in 10 rounds at
    /// most. When it returns `None`, and where one of both deletes the object or only read it, the
    /// commit ends with [`CommitError::Conflict`]. The references of what it returns are not known.
    ///
    /// ```
    /// # let server = zeo_server::Server::in_memory()?;
    /// # let db = zeo_client::Client::connect(&server.url("main"))?;
    /// fn number(data: &[u8]) -> Option<u64> {
    ///     std::str::from_utf8(data).ok()?.parse().ok()
    /// }
    ///
    /// let counter = db.run(|txn| txn.create("0"))?;
    /// let (mut one, mut two) = (db.begin()?, db.begin()?);
    /// for txn in [&mut one, &mut two] {
    ///     let count = number(&txn.load(counter)?.data).unwrap() + 1;
    ///     txn.store(counter, count.to_string())?;
    /// }
    /// one.commit()?;
    /// two.commit_resolving(|conflict| {
    ///     let base = number(&conflict.base.as_ref()?.data)?;
    ///     let sum = number(&conflict.theirs.data)? + number(&conflict.mine)? - base;
    ///     Some(sum.to_string().into())
    /// })?;
    /// assert_eq!(db.load(counter)?.data, "2");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn commit_resolving(
        self,
        resolve: impl FnMut(&ResolvableConflict) -> Option<Bytes>,
    ) -> Result<Tid, CommitError> {
        may_block()?;
        block_on(commit_resolving(self.client().clone(), self, resolve))
    }
}

impl NonBlocking<'_> {
    /// See [`Transaction::commit_resolving`]. Nothing is sent before the future is polled;
    /// `resolve` runs where it is, and dropping it aborts the transaction, unless that is being
    /// committed already.
    pub fn commit_resolving<R>(
        self,
        txn: Transaction,
        resolve: R,
    ) -> impl Future<Output = Result<Tid, CommitError>> + use<R>
    where
        R: FnMut(&ResolvableConflict) -> Option<Bytes>,
    {
        commit_resolving(self.client().clone(), txn, resolve)
    }

    fn attempt(self, txn: Transaction) -> Deferred<Result<Tried, CommitError>> {
        if !self.client().is_same(txn.client()) {
            return self.client().ready(Err(began_elsewhere()));
        }
        let weak = self.client().downgrade();
        match txn.into_request() {
            (snapshot, None) => self.client().ready(Ok(Tried::Finished(snapshot.tid))),
            (_, Some(request)) => self.client().send_then(
                move |state, cx, sender| state.commit(cx, request, CommitSender::Attempt(sender)),
                move |attempt| Ok(Tried::new(weak.upgrade()?, attempt?)),
            ),
        }
    }

    fn attempt_again(
        self,
        claim: Claim,
        resolved: Vec<Resolved>,
    ) -> Deferred<Result<Tried, CommitError>> {
        let Some(number) = claim.release() else {
            return self.client().ready(Err(NotCommitted::Lost.into()));
        };
        let weak = self.client().downgrade();
        self.client().send_then(
            move |state, cx, sender| state.vote_again(cx, number, resolved, sender),
            move |attempt| Ok(Tried::new(weak.upgrade()?, attempt?)),
        )
    }
}

/// What came of an attempt to commit.
enum Tried {
    Finished(Tid),
    /// The objects are locked as long as there is the claim.
    Conflicts(Claim, Vec<Clash>),
}

impl Tried {
    fn new(client: Client, attempt: Attempt) -> Self {
        match attempt {
            Attempt::Finished(tid) => Self::Finished(tid),
            Attempt::Conflicts(number, clashes) => {
                Self::Conflicts(Claim::new(client, number), clashes)
            }
        }
    }
}

async fn commit_resolving(
    client: Client,
    txn: Transaction,
    mut resolve: impl FnMut(&ResolvableConflict) -> Option<Bytes>,
) -> Result<Tid, CommitError> {
    let mut tried = answer(client.nb().attempt(txn)).await?;
    let mut rounds = 0;
    loop {
        let (claim, clashes) = match tried {
            Tried::Finished(tid) => return Ok(tid),
            Tried::Conflicts(claim, clashes) => (claim, clashes),
        };
        let mut resolved = Vec::with_capacity(clashes.len());
        for clash in clashes {
            let conflict = clash.conflict;
            let found = resolvable(&client, clash).await.filter(|_| rounds < ROUNDS_MAX);
            let data = found.and_then(|it| resolve(&it)).ok_or(conflict)?;
            resolved.push(checked(conflict, data)?);
        }
        rounds += 1;
        tried = answer(client.nb().attempt_again(claim, resolved)).await?;
    }
}

/// The conflict with all that is needed to resolve it, if it can be.
async fn resolvable(client: &Client, clash: Clash) -> Option<ResolvableConflict> {
    let Clash { conflict: Conflict { oid, committed, read }, mine, theirs } = clash;
    let mine = mine?;
    let theirs = match theirs {
        Some(theirs) => theirs,
        None => answer(client.nb().load_serial(oid, committed)).await.ok()?,
    };
    let base = match read {
        Tid::ZERO => None,
        read => base(client, oid, read).await.ok()?,
    };
    Some(ResolvableConflict { oid, base, theirs, mine })
}

/// What was there, if anything was.
async fn base(client: &Client, oid: Oid, read: Tid) -> Result<Option<Revision>, LoadError> {
    match answer(client.nb().load_before(oid, read.next())).await {
        Ok(base) => Ok(Some(base)),
        Err(LoadError::NotFound(_) | LoadError::Deleted { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn checked(conflict: Conflict, data: Bytes) -> Result<Resolved, CommitError> {
    if data.len() > MAX_OBJECT {
        return Err(NotCommitted::TooLarge(MAX_OBJECT as u64).into());
    }
    Ok(Resolved { oid: conflict.oid, serial: conflict.committed, data })
}

/// Rounds after which a server that still finds conflicts is not believed; it allows 10 itself.
const ROUNDS_MAX: u32 = 16;
