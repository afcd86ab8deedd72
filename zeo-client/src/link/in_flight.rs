//! One transaction on its way: how far it is, and who waits for it.

use zeo_proto::{Oid, Tid, TxnId, TxnMeta, TxnNumber};

use crate::error::{CommitError, InDoubt};
use crate::shared::Snapshot;

use super::Cx;
use super::answer::{Attempt, CommitSender, Waiting};
use super::feed::Step;

/// A transaction as its client wants it committed.
#[derive(Debug)]
pub(crate) struct CommitRequest {
    pub(crate) snapshot: Snapshot,
    /// The name of what was committed elsewhere and is restored here; others get a random one.
    pub(crate) restored: Option<TxnId>,
    pub(crate) meta: TxnMeta,
    pub(crate) steps: Vec<Step>,
}

/// One transaction on its way.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) request: CommitRequest,
    pub(super) id: TxnId,
    pub(super) progress: Progress,
    /// The epoch in which a vote that finishes, or a finish, was handed over; `None` while it is
    /// certain that nothing was committed.
    handed_over: Option<u64>,
    /// How many connections were lost while it was on them.
    losses: u32,
    /// `None` once whoever waits has been told.
    pub(super) waiting: Option<Waiting>,
}

/// How far a commit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing was sent on the present connection.
    Waiting,
    /// So many of its steps were sent, and no vote.
    Feeding(TxnNumber, usize),
    /// A vote was handed over that does not finish.
    Voting(TxnNumber),
    /// The server keeps its object locks, and waits for its next step.
    Undecided(TxnNumber),
    /// A vote that finishes, or a finish, was handed over; its answer has not come.
    Finishing(TxnNumber),
    /// The same, on a connection that was lost or that gave no clear answer.
    InDoubt,
}

impl Commit {
    pub(super) fn new(cx: &mut Cx, request: CommitRequest, waiting: Waiting) -> Self {
        let id = request.restored.unwrap_or_else(|| txn_id(cx));
        let (progress, waiting) = (Progress::Waiting, Some(waiting));
        Self { request, id, progress, handed_over: None, losses: 0, waiting }
    }

    /// Whether it may have been committed before it was sent again.
    pub(super) fn is_repeated(&self) -> bool {
        self.is_restored() && self.losses > 0
    }

    /// Whether it writes what only the server knows.
    pub(super) fn undoes(&self) -> bool {
        self.request.steps.iter().any(|step| matches!(step, Step::Undo(_)))
    }

    /// What is needed to find out, if it may have been committed.
    pub(super) fn doubt(&self) -> Option<InDoubt> {
        self.handed_over.map(|epoch| InDoubt::new(self.id, self.request.snapshot.tid, epoch))
    }

    /// From now on it may be committed.
    pub(super) fn hand_over(&mut self, txn: TxnNumber, epoch: u64) {
        self.progress = Progress::Finishing(txn);
        self.handed_over = Some(epoch);
    }

    /// Nothing was committed, and its client decides what comes next.
    pub(super) fn undecided(&mut self, txn: TxnNumber) {
        self.progress = Progress::Undecided(txn);
        self.handed_over = None;
    }

    /// It is to be sent from its beginning, under a name that nothing was committed under.
    pub(super) fn begin_again(&mut self, id: TxnId) {
        self.id = id;
        self.progress = Progress::Waiting;
        self.handed_over = None;
    }

    /// The error to end with when no answer comes, and `why` one is not waited for.
    pub(super) fn given_up(&self, why: CommitError) -> CommitError {
        self.doubt().map_or(why, CommitError::Unknown)
    }

    /// Who waits, until told.
    pub(super) fn sender(&self) -> Option<&CommitSender> {
        self.waiting.as_ref().map(|waiting| &waiting.sender)
    }

    /// Tells whoever waits that it was committed; who only votes never hears of that.
    pub(super) fn succeed(&mut self, cx: &mut Cx, tid: Tid) {
        match self.waiting.take().map(|waiting| waiting.take(cx)) {
            Some(CommitSender::Finish(sender)) => sender.send(Ok(tid)),
            Some(CommitSender::Attempt(sender)) => sender.send(Ok(Attempt::Finished(tid))),
            Some(CommitSender::Vote(_)) | None => {}
        }
    }

    pub(super) fn fail(&mut self, cx: &mut Cx, error: CommitError) {
        if let Some(waiting) = self.waiting.take() {
            waiting.take(cx).fail(error);
        }
    }

    /// The history that it began in.
    pub(super) fn generation(&self) -> u64 {
        self.request.snapshot.generation
    }

    /// Whether it has cost so many connections that it may well be why they were lost.
    pub(super) fn is_hopeless(&self) -> bool {
        self.losses >= LOSSES_MAX
    }

    /// Whether it is sent again as often as need be, and never asked about: a restored transaction
    /// has its own name and place in history, so it cannot happen twice, and must not be fenced.
    fn is_restored(&self) -> bool {
        self.request.restored.is_some()
    }

    /// Its number on the present connection, if it may still be ended there.
    pub(super) fn open_txn(&self) -> Option<TxnNumber> {
        match self.progress {
            Progress::Feeding(txn, _) | Progress::Voting(txn) | Progress::Undecided(txn) => {
                Some(txn)
            }
            Progress::Waiting | Progress::Finishing(_) | Progress::InDoubt => None,
        }
    }

    /// Whether it takes a place among the transactions that a server keeps open between votes.
    pub(super) fn is_two_phase(&self) -> bool {
        matches!(self.progress, Progress::Undecided(_))
            || matches!(self.sender(), Some(CommitSender::Vote(_) | CommitSender::Attempt(_)))
    }

    /// Its connection is lost: what may have been committed is in doubt, the rest is sent again.
    pub(super) fn lost(&mut self) {
        let was_on_it = !matches!(self.progress, Progress::Waiting | Progress::InDoubt);
        self.losses += u32::from(was_on_it);
        let finishing = matches!(self.progress, Progress::Finishing(_) | Progress::InDoubt);
        let in_doubt = finishing && !self.is_restored();
        self.progress = if in_doubt { Progress::InDoubt } else { Progress::Waiting };
    }

    pub(super) fn oids(&self) -> impl Iterator<Item = Oid> {
        self.request.steps.iter().filter_map(Step::written)
    }
}

/// However a reactor ends, nobody is told that nothing was sent when something was.
impl Drop for Commit {
    fn drop(&mut self) {
        let doubt = self.doubt();
        if let Some((waiting, doubt)) = self.waiting.take().zip(doubt) {
            waiting.sender.fail(CommitError::Unknown(doubt));
        }
    }
}

/// A random name. The simulation's come from its seed.
pub(super) fn txn_id(cx: &mut Cx) -> TxnId {
    let number = u128::from(cx.random()) << 64 | u128::from(cx.random());
    TxnId::from_bytes(number.to_be_bytes())
}

/// Connections that a transaction may cost; then it is [`Lost`](crate::NotCommitted::Lost).
const LOSSES_MAX: u32 = 5;
