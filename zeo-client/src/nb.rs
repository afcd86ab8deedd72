//! The calls that wait for nothing: each returns at once, with a result that is on its way.

use std::collections::VecDeque;

use zeo_proto::{Oid, Outcome, Tid};
use zeo_reactor::Deferred;

use crate::client::Client;
use crate::error::{CallError, CommitError, InDoubt, LoadError, NotCommitted};
use crate::link::{BatchRequest, CommitSender, State};
use crate::revision::Revision;
use crate::transaction::Transaction;

/// The calls of a [`Client`] as results on their way.
///
/// A [`Deferred`] can be waited for, awaited in any async runtime, looked at, or given a callback,
/// which then runs on the client's dispatcher thread. Calls are sent in the order in which they are
/// made. Made by [`Client::nb`].
///
/// ```
/// # let server = zeo_server::Server::in_memory()?;
/// # let db = zeo_client::Client::connect(&server.url("main"))?;
/// # let mut txn = db.begin()?;
/// # let oids = [txn.create("one")?, txn.create("two")?];
/// # txn.commit()?;
/// // Both are on their way at the same time.
/// let (one, two) = (db.nb().load(oids[0]), db.nb().load(oids[1]));
/// assert_eq!(one.wait()??.data, "one");
/// assert_eq!(two.wait()??.data, "two");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct NonBlocking<'a> {
    client: &'a Client,
}

impl<'a> NonBlocking<'a> {
    pub(crate) fn new(client: &'a Client) -> Self {
        Self { client }
    }

    pub(crate) fn client(self) -> &'a Client {
        self.client
    }

    /// See [`Client::load`].
    pub fn load(self, oid: Oid) -> Deferred<Result<Revision, LoadError>> {
        let snapshot = self.client.snapshot();
        self.load_key(oid, snapshot.tid.next(), snapshot.generation)
    }

    /// See [`Client::load_before`].
    pub fn load_before(self, oid: Oid, before: Tid) -> Deferred<Result<Revision, LoadError>> {
        self.load_key(oid, before, self.client.shared().generation())
    }

    fn load_key(
        self,
        oid: Oid,
        before: Tid,
        generation: u64,
    ) -> Deferred<Result<Revision, LoadError>> {
        match self.client.cached(oid, before, generation).transpose() {
            Some(result) => self.client.ready(result),
            None => self.client.fetch(oid, before, generation),
        }
    }

    /// See [`Client::load_serial`].
    pub fn load_serial(self, oid: Oid, serial: Tid) -> Deferred<Result<Revision, LoadError>> {
        let (before, generation) = (serial.next(), self.client.shared().generation());
        match self.client.cached(oid, before, generation).transpose() {
            Some(result) => self.client.ready(exactly(oid, serial, result)),
            None => self.client.send_then(
                move |state, cx, sender| state.load(cx, (oid, before), generation, sender),
                move |result| exactly(oid, serial, result),
            ),
        }
    }

    /// See [`Client::load_many`].
    pub fn load_many(self, oids: &[Oid]) -> Deferred<Result<Vec<Option<Revision>>, LoadError>> {
        match self.batch(oids) {
            Err(error) => self.client.ready(Err(error)),
            Ok(batch) if batch.missing.is_empty() => self.client.ready(Ok(batch.found)),
            Ok(batch) => self.client.send(|state, cx, sender| state.load_many(cx, batch, sender)),
        }
    }

    /// What is in memory of some objects, and which are missing.
    fn batch(self, oids: &[Oid]) -> Result<BatchRequest, LoadError> {
        let snapshot = self.client.snapshot();
        let (before, generation) = (snapshot.tid.next(), snapshot.generation);
        let mut found = Vec::with_capacity(oids.len());
        let mut missing = VecDeque::new();
        for (place, oid) in oids.iter().enumerate() {
            let revision = self.client.cached(*oid, before, generation)?;
            if revision.is_none() {
                missing.push_back((place, *oid));
            }
            found.push(revision);
        }
        Ok(BatchRequest { before, generation, found, missing })
    }

    /// See [`Client::new_oid`].
    pub fn new_oid(self) -> Deferred<Result<Oid, CallError>> {
        if let Some(why) = self.client.refusal() {
            return self.client.ready(Err(why));
        }
        let mut pool = self.client.shared().oids();
        let (oid, low) = (pool.take(), pool.is_low());
        drop(pool);
        if low {
            // Nobody waits for this: when it fails, the next one who does will hear of it.
            drop(self.client.send(|state, cx, sender| {
                state.fetch_oids(cx);
                sender.send(Ok::<_, CallError>(()));
            }));
        }
        match oid {
            Some(oid) => self.client.ready(Ok(oid)),
            None => self.client.send(State::new_oid),
        }
    }

    /// See [`Transaction::commit`].
    pub fn commit(self, txn: Transaction) -> Deferred<Result<Tid, CommitError>> {
        if !self.client.is_same(txn.client()) {
            return self.client.ready(Err(began_elsewhere()));
        }
        match txn.into_request() {
            (snapshot, None) => self.client.ready(Ok(snapshot.tid)),
            (_, Some(request)) => self.client.send(|state, cx, sender| {
                state.commit(cx, request, CommitSender::Finish(sender));
            }),
        }
    }

    /// See [`Client::outcome`].
    pub fn outcome(self, in_doubt: &InDoubt) -> Deferred<Result<Outcome, CallError>> {
        let in_doubt = *in_doubt;
        self.client.send(move |state, cx, sender| state.outcome(cx, in_doubt, sender))
    }

    /// See [`Client::sync`].
    pub fn sync(self) -> Deferred<Result<Tid, CallError>> {
        self.client.send(State::sync)
    }

    /// See [`Client::ping`].
    pub fn ping(self) -> Deferred<Result<(), CallError>> {
        self.client.send(State::ping)
    }

    /// The pause that [`Client::run`] makes before it tries again.
    pub(crate) fn pause(self, attempt: u32) -> Deferred<Result<(), CallError>> {
        self.client.send(move |_, cx, sender| State::pause(cx, attempt, sender))
    }
}

/// What was loaded, if it was written by that transaction.
fn exactly(
    oid: Oid,
    serial: Tid,
    result: Result<Revision, LoadError>,
) -> Result<Revision, LoadError> {
    match result {
        Ok(revision) if revision.tid != serial => Err(LoadError::NotFound(oid)),
        Err(LoadError::Deleted { tid, .. }) if tid != serial => Err(LoadError::NotFound(oid)),
        other => other,
    }
}

pub(crate) fn began_elsewhere() -> CommitError {
    NotCommitted::Refused("another client began this transaction".to_owned()).into()
}
