//! Where the answer to a step of a transaction goes: to a vote, to a finish, or to both in one.

use bytes::Bytes;
use zeo_proto::{Conflict, Tid};
use zeo_reactor::{DeferredSender, TimerId};

use crate::error::CommitError;
use crate::revision::Revision;

use super::Cx;

/// Who waits, and so what the vote asks of the server.
#[derive(Debug)]
pub(crate) enum CommitSender {
    /// For a commit in one round trip, or for the finish of what was voted on.
    Finish(DeferredSender<Result<Tid, CommitError>>),
    /// For a vote that keeps its object locks: its number, for the next step.
    Vote(DeferredSender<Result<u64, CommitError>>),
    /// For a commit in one round trip, unless there are conflicts.
    Attempt(DeferredSender<Result<Attempt, CommitError>>),
}

/// What came of a commit whose conflicts may be resolved.
#[derive(Debug)]
pub(crate) enum Attempt {
    Finished(Tid),
    /// Nothing is committed, and the object locks are kept for another vote of this number.
    Conflicts(u64, Vec<Clash>),
}

/// A conflict, with what is at hand to resolve it.
#[derive(Debug)]
pub(crate) struct Clash {
    pub(crate) conflict: Conflict,
    /// What the transaction stores; `None` where there is nothing to be resolved: one of both
    /// deletes the object, or it was only read.
    pub(crate) mine: Option<Bytes>,
    /// What is committed; `None` where it has to be loaded.
    pub(crate) theirs: Option<Revision>,
}

impl CommitSender {
    pub(super) fn fail(self, error: CommitError) {
        match self {
            Self::Finish(sender) => sender.send(Err(error)),
            Self::Vote(sender) => sender.send(Err(error)),
            Self::Attempt(sender) => sender.send(Err(error)),
        }
    }
}

/// Someone who waits, and the timer that ends it.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) sender: CommitSender,
    pub(super) timer: Option<TimerId>,
    /// Ends the wait for an answer that nobody may be able to give.
    pub(super) doubt: Option<TimerId>,
}

impl Waiting {
    /// Whoever is to be told, now that nothing is late any more.
    pub(super) fn take(self, cx: &mut Cx) -> CommitSender {
        for timer in [self.timer, self.doubt].into_iter().flatten() {
            cx.cancel(timer);
        }
        self.sender
    }
}
