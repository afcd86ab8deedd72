//! One storage as the server serves it: what is published of it, and what waits for it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use zeo_proto::Tid;
use zeo_reactor::{ConnId, Context, JobPanicked, StageId};

use crate::catch_up::CatchUps;
use crate::chores::ChoreStates;
use crate::commit_queue::CommitQueue;
use crate::histogram::Histogram;
use crate::hot::Hot;
use crate::limits::Limits;
use crate::load::LoadQueue;
use crate::oids::OidPool;
use crate::readings::Readings;
use crate::recent::Recent;
use crate::server::Server;
use crate::spill::Spills;
use crate::storage::Storage;
use crate::under_way::UnderWay;
use crate::undo::Undos;
use crate::votes::Votes;

/// Names a database within its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DatabaseId(usize);

/// One storage and all that the reactor thread knows of it.
#[derive(Debug)]
pub(crate) struct Database {
    /// The name clients ask for.
    pub(crate) name: String,
    /// What holds the revisions.
    pub(crate) storage: Arc<dyn Storage>,
    /// It takes no commits, and hands out no names for new objects.
    pub(crate) read_only: bool,
    /// There may be no room for a commit that has no conflicts.
    pub(crate) has_quota: bool,
    /// The last tid that clients were told of; the storage itself may be further.
    pub(crate) published: Tid,
    /// What was published lately.
    pub(crate) recent: Recent,
    /// Current records answered without asking the storage.
    pub(crate) hot: Hot,
    /// The sessions that hear of commits.
    pub(crate) audience: BTreeSet<ConnId>,
    /// Transactions that are open in all its sessions.
    pub(crate) open_transactions: usize,
    /// Loads that wait for the load stage.
    pub(crate) loads: LoadQueue,
    /// Look-ups in the history that wait for the catch-up stage.
    pub(crate) catch_ups: CatchUps,
    /// Operations that wait for the commit stage.
    pub(crate) commits: CommitQueue,
    /// What those of them write that have not locked it.
    pub(crate) under_way: UnderWay,
    /// Votes that hold object locks, or wait for them.
    pub(crate) votes: Votes,
    /// Large transactions that are put into files.
    pub(crate) spills: Spills,
    /// Votes that wait for what they undo.
    pub(crate) undos: Undos,
    /// Reading that waits for the history stage.
    pub(crate) readings: Readings,
    /// Names for new objects.
    pub(crate) oids: OidPool,
    /// Which chores are being done.
    pub(crate) chores: ChoreStates,
    /// Why its commits are refused, if they are; until the next one that is made.
    pub(crate) trouble: Option<String>,
    /// What was done, for the status.
    pub(crate) counters: Counters,
    /// How the commit stage does.
    pub(crate) groups: Groups,
    /// Where its work that may block is done.
    pub(crate) stages: Stages,
}

/// The stages of one database.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stages {
    /// Reads; several threads.
    pub(crate) load: StageId,
    /// Commits; one thread, one group at a time.
    pub(crate) commit: StageId,
    /// Putting large transactions into files; one thread.
    pub(crate) spill: StageId,
    /// Indexing; one thread.
    pub(crate) index: StageId,
    /// Preparing space, and closing; one thread.
    pub(crate) prepare: StageId,
    /// Reading what returning clients have missed; one thread.
    pub(crate) catch_up: StageId,
    /// Reading history, what is undone, and what is in conflict; one thread.
    pub(crate) history: StageId,
}

/// Gives a job to a stage that has room for it, by the account of whoever calls this.
///
/// A reactor that is stopping takes none. Then its sessions end too, and nobody waits for it.
pub(crate) fn begin_job<R: Send + 'static>(
    cx: &mut Context<Server>,
    stage: StageId,
    work: impl FnOnce() -> R + Send + 'static,
    then: impl FnOnce(&mut Server, &mut Context<Server>, Result<R, JobPanicked>) + Send + 'static,
) {
    if cx.defer_to_stage(stage, work, then).is_err() {
        tracing::debug!("a job was not begun, because the reactor is stopping");
    }
}

/// How often things happened since the server started.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counters {
    /// Objects asked for.
    pub(crate) loads: u64,
    /// Of these, answered from memory.
    pub(crate) hot_loads: u64,
    /// Objects stored in transactions, committed or not.
    pub(crate) stores: u64,
    /// Transactions committed.
    pub(crate) commits: u64,
    /// Transactions aborted by their client, or lost with their session.
    pub(crate) aborts: u64,
    /// Transactions refused, or given back to be resolved, for a conflict.
    pub(crate) conflicts: u64,
    /// Transactions whose conflicts were resolved by their client.
    pub(crate) conflicts_resolved: u64,
}

/// What the commit stage has done so far.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    /// Operations that went to it at once.
    pub(crate) sizes: Histogram,
    /// Microseconds that it has worked for a group, most of which is the sync.
    pub(crate) micros: Histogram,
    /// What it has worked for all of them.
    worked: Duration,
}

impl Groups {
    /// Takes note that it has worked that long for all groups up to this one.
    pub(crate) fn worked(&mut self, all: Duration) {
        let this = all.saturating_sub(self.worked);
        self.micros.add(u64::try_from(this.as_micros()).unwrap_or(u64::MAX));
        self.worked = all;
    }
}

impl Database {
    /// Serves `storage` under that name.
    pub(crate) fn new(
        name: String,
        storage: Arc<dyn Storage>,
        stages: Stages,
        limits: &Limits,
        seed: u64,
    ) -> Self {
        let published = storage.last_tid();
        let has_quota = storage.usage().quota_bytes.is_some();
        Self {
            name,
            storage,
            read_only: false,
            has_quota,
            published,
            recent: Recent::new(published, limits.remembered_oids),
            hot: Hot::new(limits.hot_bytes, seed),
            audience: BTreeSet::new(),
            open_transactions: 0,
            loads: LoadQueue::default(),
            catch_ups: CatchUps::default(),
            commits: CommitQueue::default(),
            under_way: UnderWay::default(),
            votes: Votes::default(),
            spills: Spills::default(),
            undos: Undos::default(),
            readings: Readings::default(),
            oids: OidPool::default(),
            chores: ChoreStates::default(),
            trouble: None,
            counters: Counters::default(),
            groups: Groups::default(),
            stages,
        }
    }

    /// Whether a commit that has no conflicts would be made, as far as is known.
    pub(crate) fn takes_what_is_voted(&self) -> bool {
        let is_well = self.trouble.is_none() && self.commits.index_failure.is_none();
        is_well && !self.commits.broken && !self.has_quota
    }
}

/// All databases of a server.
#[derive(Debug, Default)]
pub(crate) struct Databases(Vec<Database>);

impl Databases {
    /// Adds one.
    pub(crate) fn push(&mut self, database: Database) {
        self.0.push(database);
    }

    /// Finds the one with that name.
    pub(crate) fn named(&self, name: &str) -> Option<DatabaseId> {
        self.0.iter().position(|database| database.name == name).map(DatabaseId)
    }

    /// Lends one.
    pub(crate) fn at(&self, id: DatabaseId) -> &Database {
        self.0.get(id.0).expect("a DatabaseId comes from this collection, which never shrinks")
    }

    /// Lends one.
    pub(crate) fn at_mut(&mut self, id: DatabaseId) -> &mut Database {
        self.0.get_mut(id.0).expect("a DatabaseId comes from this collection, which never shrinks")
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Database> {
        self.0.iter()
    }

    /// The ids of all of them.
    pub(crate) fn ids(&self) -> impl Iterator<Item = DatabaseId> + use<> {
        (0..self.0.len()).map(DatabaseId)
    }
}
