//! Committing in several databases: all of it, or, unless a database fails in the last moment,
//! nothing.

use std::fmt;

use zeo_proto::{Identity, Tid};
use zeo_reactor::{Deferred, is_blocking_forbidden};

use crate::blocking::{answer, block_on};
use crate::error::{CommitError, InDoubt, NotCommitted};
use crate::transaction::Transaction;
use crate::voted::Voted;

/// Commits transactions of several clients, each of another database, together; their tids come in
/// the order given.
///
/// Each is voted on, in the order of the databases' identities, so that two who do this do not wait
/// for each other in a circle; then each is finished. When a vote fails, all are aborted. A
/// transaction that writes nothing takes no part, and its "tid" is its snapshot.
///
/// A vote is not durable. A server that dies between its vote and its finish leaves a commit that
/// others have made: [`TogetherError::PartlyCommitted`] then says who has what.
///
/// ```
/// # let (server, other) = (zeo_server::Server::in_memory()?, zeo_server::Server::in_memory()?);
/// # let (url, other_url) = (server.url("main"), other.url("main"));
/// use zeo_client::{Client, commit_together};
///
/// let (here, there) = (Client::connect(&url)?, Client::connect(&other_url)?);
/// let (mut debit, mut credit) = (here.begin()?, there.begin()?);
/// let from = debit.create("-10")?;
/// let to = credit.create("+10")?;
/// let tids = commit_together([debit, credit])?;
///
/// assert_eq!(here.load(from)?.tid, tids[0]);
/// assert_eq!(there.load(to)?.tid, tids[1]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn commit_together(
    txns: impl IntoIterator<Item = Transaction>,
) -> Result<Vec<Tid>, TogetherError> {
    if is_blocking_forbidden() {
        return Err(TogetherError::WouldDeadlock);
    }
    block_on(commit_together_async(txns))
}

/// Like [`commit_together`], for any async runtime. Nothing is sent before the future is polled.
/// Dropping it aborts; once it has begun to finish, it may leave the transactions partly committed.
pub async fn commit_together_async(
    txns: impl IntoIterator<Item = Transaction>,
) -> Result<Vec<Tid>, TogetherError> {
    let (mut tids, mut writers) = (Vec::new(), Vec::new());
    for (place, txn) in txns.into_iter().enumerate() {
        tids.push(txn.snapshot());
        if txn.writes() {
            writers.push(Part { place, identity: txn.client().identity(), state: txn });
        }
    }
    writers.sort_by_key(|part| part.identity.uuid);
    refuse_twins(&writers)?;
    for (place, tid) in finish(vote(writers).await?).await? {
        if let Some(at) = tids.get_mut(place) {
            *at = tid;
        }
    }
    Ok(tids)
}

/// Why transactions were not committed together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TogetherError {
    /// Nothing was committed, because this database would not.
    NotCommitted {
        /// The database.
        identity: Identity,
        /// Its reason.
        why: CommitError,
    },
    /// Nothing was committed: two of the transactions are of this database. What belongs together
    /// in one database is one transaction.
    SameDatabase(Identity),
    /// Some databases have committed and others have not, or do not say.
    PartlyCommitted {
        /// Those that have.
        committed: Vec<(Identity, Tid)>,
        /// Those that have not, and why.
        not_committed: Vec<(Identity, CommitError)>,
        /// Those of which it is not known; [`Client::outcome`](crate::Client::outcome) tells.
        unknown: Vec<(Identity, InDoubt)>,
    },
    /// This thread must not wait: it runs a private reactor, or forbade it to itself. Nothing was
    /// committed.
    WouldDeadlock,
}

impl fmt::Display for TogetherError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotCommitted { identity, why } => write!(f, "database {identity}: {why}"),
            Self::SameDatabase(identity) => {
                write!(f, "two of the transactions are of database {identity}")
            }
            Self::PartlyCommitted { committed, not_committed, unknown } => {
                f.write_str("partly committed")?;
                for (identity, tid) in committed {
                    write!(f, "; database {identity}: committed at {tid}")?;
                }
                for (identity, why) in not_committed {
                    write!(f, "; database {identity}: {why}")?;
                }
                for (identity, doubt) in unknown {
                    write!(f, "; database {identity}: {}", CommitError::Unknown(*doubt))?;
                }
                Ok(())
            }
            Self::WouldDeadlock => CommitError::WouldDeadlock.fmt(f),
        }
    }
}

impl std::error::Error for TogetherError {}

/// What belongs to one database.
struct Part<S> {
    /// Where the caller has it.
    place: usize,
    identity: Identity,
    state: S,
}

impl<S> Part<S> {
    fn with<T>(self, next: impl FnOnce(S) -> T) -> Part<T> {
        Part { place: self.place, identity: self.identity, state: next(self.state) }
    }
}

fn refuse_twins(writers: &[Part<Transaction>]) -> Result<(), TogetherError> {
    let mut pairs = writers.iter().zip(writers.iter().skip(1));
    match pairs.find(|(one, two)| one.identity.uuid == two.identity.uuid) {
        Some((twin, _)) => Err(TogetherError::SameDatabase(twin.identity)),
        None => Ok(()),
    }
}

/// Votes on each in turn, and looks at the end whether all are still good.
async fn vote(writers: Vec<Part<Transaction>>) -> Result<Vec<Part<Voted>>, TogetherError> {
    let mut voted: Vec<Part<Voted>> = Vec::with_capacity(writers.len());
    for Part { place, identity, state: txn } in writers {
        let client = txn.client().clone();
        let refused = |why| TogetherError::NotCommitted { identity, why };
        let state = answer(client.nb().vote(txn)).await.map_err(refused)?;
        voted.push(Part { place, identity, state });
    }
    for Part { identity, state, .. } in &voted {
        let lost = |why| TogetherError::NotCommitted { identity: *identity, why };
        answer(state.check()).await.map_err(lost)?;
    }
    Ok(voted)
}

/// Finishes the first, on which the others depend; and then those at once.
async fn finish(voted: Vec<Part<Voted>>) -> Result<Vec<(usize, Tid)>, TogetherError> {
    let (mut parts, mut ends) = (voted.into_iter(), Ends::default());
    let Some(first) = parts.next().map(|part| part.with(begin_to_finish)) else {
        return Ok(Vec::new());
    };
    ends.add(first).await;
    if ends.committed.is_empty() {
        ends.aborted(parts);
        return ends.result();
    }
    let finishing: Vec<_> = parts.map(|part| part.with(begin_to_finish)).collect();
    for part in finishing {
        ends.add(part).await;
    }
    ends.result()
}

fn begin_to_finish(voted: Voted) -> Deferred<Result<Tid, CommitError>> {
    let client = voted.client().clone();
    client.nb().finish(voted)
}

/// What became of each.
#[derive(Default)]
struct Ends {
    committed: Vec<(usize, Identity, Tid)>,
    not_committed: Vec<(Identity, CommitError)>,
    unknown: Vec<(Identity, InDoubt)>,
}

impl Ends {
    async fn add(&mut self, part: Part<Deferred<Result<Tid, CommitError>>>) {
        let Part { place, identity, state } = part;
        match answer(state).await {
            Ok(tid) => self.committed.push((place, identity, tid)),
            Err(CommitError::Unknown(doubt)) => self.unknown.push((identity, doubt)),
            Err(why) => self.not_committed.push((identity, why)),
        }
    }

    fn aborted(&mut self, rest: impl Iterator<Item = Part<Voted>>) {
        let aborted = || NotCommitted::Aborted.into();
        self.not_committed.extend(rest.map(|part| (part.identity, aborted())));
    }

    fn result(self) -> Result<Vec<(usize, Tid)>, TogetherError> {
        let Self { committed, mut not_committed, unknown } = self;
        if not_committed.is_empty() && unknown.is_empty() {
            return Ok(committed.into_iter().map(|(place, _, tid)| (place, tid)).collect());
        }
        if committed.is_empty() && unknown.is_empty() {
            let (identity, why) = not_committed.swap_remove(0);
            return Err(TogetherError::NotCommitted { identity, why });
        }
        let committed = committed.into_iter().map(|(_, identity, tid)| (identity, tid)).collect();
        Err(TogetherError::PartlyCommitted { committed, not_committed, unknown })
    }
}
