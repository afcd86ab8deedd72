//! The ways in which a transaction is committed, each until its answer is there.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use zeo_client::{
    Client, CommitError, Deferred, NotCommitted, ResolvableConflict, Transaction, Voted,
};
use zeo_proto::{Oid, Tid};
use zeo_reactor::Time;
use zeo_server::storage::disk::Random;

use crate::record::{Attempt, Hold, Record};
use crate::workload::Workload;

type Answer = Result<Tid, CommitError>;

/// A commit that is under way.
pub(crate) enum Committing {
    /// In one round trip.
    Once(Deferred<Answer>),
    /// In two: the vote, and what comes of it.
    Voting(Deferred<Result<Voted, CommitError>>, Intent),
    Holding(Voted, Vigil),
    Finishing(Deferred<Answer>, Vigil),
    /// Conflicts are resolved.
    Resolving(Pin<Box<dyn Future<Output = Answer>>>, Resolutions),
}

/// What is done with a vote.
#[derive(Clone, Copy)]
pub(crate) struct Intent {
    /// How long it is held.
    holds: Duration,
    finishes: bool,
}

/// A vote that is held.
pub(crate) struct Vigil {
    intent: Intent,
    until: Time,
    /// How often its client had connected again.
    reconnects: u64,
}

/// What conflicts were resolved to: the serial that is replaced, and the data.
type Resolutions = Arc<Mutex<BTreeMap<Oid, (Tid, Bytes)>>>;

impl Committing {
    /// Begins one, in whatever way.
    pub(crate) fn begin(
        client: &Client,
        (txn, attempt): (Transaction, &Attempt),
        workload: &'static dyn Workload,
        (random, lock_hold): (&mut Random, Duration),
    ) -> Self {
        match random.below(8) {
            0..3 => Self::Voting(client.nb().vote(txn), Intent::any(random, lock_hold)),
            3..5 => {
                let resolutions = Resolutions::default();
                let resolve = resolver(workload, &attempt.name, &resolutions);
                let commit = client.nb().commit_resolving(txn, resolve);
                Self::Resolving(Box::pin(commit), resolutions)
            }
            _ => Self::Once(client.nb().commit(txn)),
        }
    }

    /// Goes on as far as it can without waiting: the answer, or the commit again.
    pub(crate) fn go_on(
        self,
        client: &Client,
        now: Time,
        attempt: &mut Attempt,
        record: &mut Record,
    ) -> Result<Answer, Self> {
        match self {
            Self::Once(mut commit) => match commit.try_take() {
                Some(answer) => Ok(answer.unwrap()),
                None => Err(Self::Once(commit)),
            },
            Self::Voting(mut vote, intent) => match vote.try_take() {
                None => Err(Self::Voting(vote, intent)),
                Some(answer) => match answer.unwrap() {
                    Ok(voted) => Err(Self::Holding(voted, Vigil::new(intent, client, now))),
                    Err(error) => Ok(Err(error)),
                },
            },
            Self::Holding(voted, vigil) if now < vigil.until => Err(Self::Holding(voted, vigil)),
            Self::Holding(voted, vigil) => vigil.end(voted, client, (attempt, record)),
            Self::Finishing(mut finish, vigil) => match finish.try_take() {
                None => Err(Self::Finishing(finish, vigil)),
                Some(answer) => Ok(vigil.checked(answer.unwrap(), client, attempt)),
            },
            Self::Resolving(mut commit, resolutions) => {
                match commit.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Pending => Err(Self::Resolving(commit, resolutions)),
                    Poll::Ready(answer) => {
                        attempt.resolve(&resolutions.lock().unwrap());
                        Ok(answer)
                    }
                }
            }
        }
    }

    /// Its client died: whether anything may come of it.
    pub(crate) fn died(self, attempt: &mut Attempt) -> bool {
        if let Self::Resolving(_, resolutions) = &self {
            attempt.resolve(&resolutions.lock().unwrap());
        }
        !matches!(self, Self::Voting(..) | Self::Holding(..))
    }
}

impl Intent {
    /// Mostly it finishes soon; now and then nobody does, and the server loses its patience.
    fn any(random: &mut Random, lock_hold: Duration) -> Self {
        let holds = match random.below(32) {
            0 => lock_hold + Duration::from_millis(random.below(2_000)),
            1..10 => Duration::from_millis(random.below(300)),
            _ => Duration::ZERO,
        };
        Self { holds, finishes: random.below(4) > 0 }
    }
}

impl Vigil {
    fn new(intent: Intent, client: &Client, now: Time) -> Self {
        let reconnects = client.statistics().reconnects;
        Self { intent, until: now + intent.holds, reconnects }
    }

    /// Whether the vote has the connection that it was made on.
    fn is_unbroken(&self, client: &Client) -> bool {
        client.is_connected() && client.statistics().reconnects == self.reconnects
    }

    /// Finishes, or aborts. Until then nobody has changed what is locked.
    fn end(
        self,
        voted: Voted,
        client: &Client,
        (attempt, record): (&Attempt, &mut Record),
    ) -> Result<Answer, Committing> {
        if self.is_unbroken(client) && self.intent.holds < SHORT {
            record.held(attempt);
        }
        if self.intent.finishes {
            return Err(Committing::Finishing(client.nb().finish(voted), self));
        }
        drop(voted);
        Ok(Err(NotCommitted::Aborted.into()))
    }

    /// What was voted on conflicts with nothing, unless its locks were lost with its connection.
    fn checked(&self, answer: Answer, client: &Client, attempt: &Attempt) -> Answer {
        if let Err(CommitError::Conflict(conflict)) = &answer {
            assert!(
                !self.is_unbroken(client),
                "{} was voted on, and met a conflict: {conflict:?}",
                attempt.name
            );
        }
        answer
    }
}

/// Puts two changes together as the workload says, and remembers what became of them.
fn resolver(
    workload: &'static dyn Workload,
    name: &str,
    resolutions: &Resolutions,
) -> impl FnMut(&ResolvableConflict) -> Option<Bytes> + use<> {
    let (name, resolutions) = (name.to_owned(), Arc::clone(resolutions));
    move |conflict| {
        let data = Bytes::from(format!("{} {name}", workload.resolve(conflict)?));
        resolutions.lock().unwrap().insert(conflict.oid, (conflict.theirs.tid, data.clone()));
        Some(data)
    }
}

impl Attempt {
    fn resolve(&mut self, resolutions: &BTreeMap<Oid, (Tid, Bytes)>) {
        for (&oid, (serial, data)) in resolutions {
            self.stores.insert(oid, data.clone());
            self.bases.insert(oid, Some(*serial));
        }
    }
}

impl Record {
    /// An attempt's objects are locked now, if it writes any.
    fn held(&mut self, attempt: &Attempt) {
        let to = self.acknowledged.last().copied().unwrap_or_default();
        if !self.anything_fails && !attempt.stores.is_empty() {
            let bases = attempt.bases.clone();
            self.holds.push(Hold { bases, snapshot: attempt.snapshot, to });
        }
    }
}

/// Who holds locks for longer may have lost them: the server has less patience.
const SHORT: Duration = Duration::from_millis(500);
