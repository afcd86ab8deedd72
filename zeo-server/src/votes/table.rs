//! The votes of one database, and how far each is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use zeo_proto::TxnNumber;
use zeo_reactor::{ConnId, Time, TimerId};

use crate::database::DatabaseId;
use crate::locks::{LockId, Locks};
use crate::server::Server;
use crate::session::Caller;
use crate::transaction::OpenTransaction;

/// A transaction that is voted on, and how.
#[derive(Debug)]
pub(crate) struct Ballot {
    /// Who waits for the answer.
    pub(crate) caller: Caller,
    /// The transaction's number on that connection.
    pub(crate) number: TxnNumber,
    pub(crate) mode: VoteMode,
    pub(crate) transaction: OpenTransaction,
}

/// How a vote goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VoteMode {
    /// If there are no conflicts, it finishes at once.
    pub(crate) then_finish: bool,
    /// If there are any, its client resolves them.
    pub(crate) resolving: bool,
}

impl VoteMode {
    /// It needs no locks beyond the commit stage.
    pub(super) fn is_one_trip(self) -> bool {
        self.then_finish && !self.resolving
    }
}

/// The votes of one database that hold object locks or wait for them.
///
/// Those that wait are bounded by [`waiting_votes`](crate::Limits::waiting_votes), those that hold
/// by the transactions that sessions may have open.
#[derive(Debug, Default)]
pub(crate) struct Votes {
    pub(super) locks: Locks,
    pub(super) table: BTreeMap<LockId, Vote>,
    /// Those that wait, in the order in which they came.
    pub(super) waiting: BTreeSet<LockId>,
    /// Those that have got their locks and are gone on with in this turn.
    pub(super) granted: VecDeque<LockId>,
    pub(super) is_granting: bool,
    /// Bytes that those will write that have been told that they may, or are about to be.
    pub(super) promised: u64,
}

/// A vote that holds object locks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Holder {
    /// Whose it is. The connection may be gone while it finishes.
    pub(crate) conn: ConnId,
    /// Since when it holds them.
    pub(crate) since: Time,
    /// How many objects it has locked; `None` if it is all there are.
    pub(crate) objects: Option<usize>,
}

#[derive(Debug)]
pub(super) struct Vote {
    pub(super) conn: ConnId,
    pub(super) number: TxnNumber,
    /// Since when it waits, or holds its locks.
    pub(super) since: Time,
    pub(super) state: State,
    /// Ends the waiting, or the holding.
    pub(super) timer: Option<TimerId>,
}

#[derive(Debug)]
pub(super) enum State {
    /// It waits for locks.
    Waiting(Ballot),
    /// It is being compared with what is committed, or what it conflicts with is being loaded.
    Checking(Ballot),
    /// Its client has it again, with the conflicts.
    Resolving,
    /// It was found to be without conflicts, and keeps them away.
    Voted(Ballot),
    /// It is before the commit stage, or in it. Its connection may be gone.
    Finishing,
}

impl State {
    /// Bytes that nobody else should be promised.
    pub(super) fn promised(&self) -> u64 {
        match self {
            Self::Checking(ballot) | Self::Voted(ballot) => ballot.transaction.bytes(),
            Self::Waiting(_) | Self::Resolving | Self::Finishing => 0,
        }
    }
}

impl Vote {
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting(_))
    }
}

impl Votes {
    /// Nobody holds a lock or waits for one.
    pub(crate) fn is_idle(&self) -> bool {
        self.table.is_empty()
    }

    /// How many hold locks or wait for them.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// How many wait for locks.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Since when the one that came first waits for locks.
    pub(crate) fn oldest_wait(&self) -> Option<Time> {
        let first = self.waiting.first()?;
        self.table.get(first).map(|vote| vote.since)
    }

    /// Who holds locks, in the order in which they asked for them.
    pub(crate) fn holders(&self) -> impl Iterator<Item = Holder> {
        let holding = self.table.iter().filter(|(_, vote)| !vote.is_waiting());
        holding.map(|(&lock, vote)| Holder {
            conn: vote.conn,
            since: vote.since,
            objects: self.locks.objects_of(lock),
        })
    }

    /// Whether a vote waits for its locks.
    pub(crate) fn waits(&self, lock: LockId) -> bool {
        self.table.get(&lock).is_some_and(Vote::is_waiting)
    }

    /// How many objects are locked or waited for.
    pub(crate) fn locked_objects(&self) -> usize {
        self.locks.len()
    }

    /// Who waits for the answer of a vote, if somebody does.
    pub(crate) fn caller(&self, lock: LockId) -> Option<Caller> {
        match &self.table.get(&lock)?.state {
            State::Waiting(ballot) | State::Checking(ballot) => Some(ballot.caller),
            State::Resolving | State::Voted(_) | State::Finishing => None,
        }
    }

    /// The locks of all votes that have not come to their finish.
    pub(super) fn unfinished(&self) -> Vec<LockId> {
        let unfinished = |vote: &Vote| !matches!(vote.state, State::Finishing);
        self.table.iter().filter(|(_, vote)| unfinished(vote)).map(|(&lock, _)| lock).collect()
    }
}

impl Server {
    pub(super) fn set_state(&mut self, id: DatabaseId, lock: LockId, state: State) {
        let votes = &mut self.databases.at_mut(id).votes;
        if let Some(vote) = votes.table.get_mut(&lock) {
            votes.promised += state.promised();
            vote.state = state;
        }
    }

    /// Takes the ballot of a vote, unless its client or the commit stage has it.
    pub(super) fn take_ballot(&mut self, id: DatabaseId, lock: LockId) -> Option<Ballot> {
        let votes = &mut self.databases.at_mut(id).votes;
        votes.waiting.remove(&lock);
        let vote = votes.table.get_mut(&lock)?;
        votes.promised -= vote.state.promised();
        match core::mem::replace(&mut vote.state, State::Resolving) {
            State::Waiting(ballot) | State::Checking(ballot) | State::Voted(ballot) => Some(ballot),
            State::Resolving => None,
            State::Finishing => {
                vote.state = State::Finishing;
                None
            }
        }
    }
}
