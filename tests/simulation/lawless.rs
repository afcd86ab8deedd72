//! A storage that breaks its promises: it stands before the product's own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use zeo_proto::{Identity, Oid, Outcome, OutcomeQuery, Tid, TxnId};
use zeo_server::storage::{
    Applied, Changes, Chores, Commit, Cursor, Found, HistoryEntry, HistoryLimit, HistoryRecord,
    ObjectsPage, Operation, Refused, Size, SpillFile, Storage, StorageError, TransactionsPage,
};

/// Which rules of a storage hold.
#[expect(clippy::struct_excessive_bools, reason = "each rule is left out alone")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    /// A load sees nothing that is not published.
    pub(crate) published_only: bool,
    /// A transaction whose name is committed is not committed again.
    pub(crate) once: bool,
    /// A transaction that was said to be not committed never will be.
    pub(crate) fence: bool,
    /// One that undoes others conflicts with what came in between.
    pub(crate) undo_conflicts: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self { published_only: true, once: true, fence: true, undo_conflicts: true }
    }
}

/// The names under which transactions were really committed. They outlive the storage, so that
/// nothing else is broken than what is to be.
#[derive(Debug, Clone, Default)]
pub(crate) struct Aliases(Arc<Mutex<Names>>);

#[derive(Debug, Default)]
struct Names {
    aliases: BTreeMap<TxnId, TxnId>,
    /// These were said to be not committed.
    fenced: BTreeSet<TxnId>,
    last: u128,
}

/// A storage without some of its rules.
#[derive(Debug)]
pub(crate) struct Lawless {
    inner: Arc<dyn Storage>,
    rules: Rules,
    aliases: Aliases,
}

impl Lawless {
    /// The storage itself, if it keeps all rules.
    pub(crate) fn over(
        inner: Arc<dyn Storage>,
        rules: Rules,
        aliases: &Aliases,
    ) -> Arc<dyn Storage> {
        if rules == Rules::default() {
            return inner;
        }
        Arc::new(Self { inner, rules, aliases: aliases.clone() })
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.aliases.0.lock().unwrap()
    }

    fn renamed(&self, operation: Operation) -> Operation {
        match operation {
            Operation::Commit(commit) => {
                let commit = self.names().commit(commit, self.rules);
                Operation::Commit(self.forced(commit))
            }
            Operation::Outcome(query) => Operation::Outcome(self.names().query(query)),
            Operation::Check(_) | Operation::ReserveOids(_) => operation,
        }
    }
}

impl Lawless {
    /// One that undoes others, as if it had seen everything.
    fn forced(&self, mut commit: Commit) -> Commit {
        if !self.rules.undo_conflicts && commit.meta.description.contains("undoes") {
            for record in &mut commit.records {
                record.serial = Some(self.current(record.oid));
            }
        }
        commit
    }

    fn current(&self, oid: Oid) -> Tid {
        match self.inner.load_before(oid, Tid::MAX, Tid::MAX).unwrap() {
            Found::Revision(validity, _) | Found::Deleted(validity) => validity.serial,
            Found::Absent => Tid::ZERO,
        }
    }
}

impl Names {
    /// Whoever breaks a rule commits under a name that nobody has heard of.
    fn commit(&mut self, commit: Commit, rules: Rules) -> Commit {
        let is_fenced = self.fenced.contains(&commit.id);
        let keeps_its_name = if is_fenced { rules.fence } else { rules.once };
        if keeps_its_name {
            return commit;
        }
        self.last += 1;
        let alias = TxnId::from_bytes(self.last.to_be_bytes());
        self.aliases.entry(commit.id).or_insert(alias);
        Commit { id: alias, ..commit }
    }

    fn query(&self, query: OutcomeQuery) -> OutcomeQuery {
        let id = self.aliases.get(&query.id).copied().unwrap_or(query.id);
        OutcomeQuery { id, ..query }
    }
}

impl Storage for Lawless {
    fn identity(&self) -> Identity {
        self.inner.identity()
    }

    fn last_tid(&self) -> Tid {
        self.inner.last_tid()
    }

    fn load_before(&self, oid: Oid, before: Tid, as_of: Tid) -> Result<Found, StorageError> {
        let as_of = if self.rules.published_only { as_of } else { self.inner.last_tid() };
        self.inner.load_before(oid, before, as_of)
    }

    fn apply(&self, group: &[Operation], unix_micros: u64) -> Vec<Result<Applied, Refused>> {
        let asked: Vec<_> = group.iter().map(asked_about).collect();
        let group: Vec<_> = group.iter().cloned().map(|one| self.renamed(one)).collect();
        let results = self.inner.apply(&group, unix_micros);
        for (id, result) in asked.into_iter().zip(&results) {
            if *result == Ok(Applied::Outcome(Outcome::NotCommitted)) {
                self.names().fenced.extend(id);
            }
        }
        results
    }

    fn spill_file(&self) -> Result<Option<SpillFile>, StorageError> {
        self.inner.spill_file()
    }

    fn changes_since(
        &self,
        since: Tid,
        through: Tid,
        limit: usize,
    ) -> Result<Changes, StorageError> {
        self.inner.changes_since(since, through, limit)
    }

    fn history(
        &self,
        oid: Oid,
        before: Tid,
        as_of: Tid,
        limit: HistoryLimit,
    ) -> Result<Vec<HistoryEntry>, StorageError> {
        self.inner.history(oid, before, as_of, limit)
    }

    fn load_record(&self, oid: Oid, tid: Tid) -> Result<Option<HistoryRecord>, StorageError> {
        self.inner.load_record(oid, tid)
    }

    fn transactions(
        &self,
        from: &Cursor,
        through: Tid,
        bytes: usize,
    ) -> Result<TransactionsPage, StorageError> {
        self.inner.transactions(from, through, bytes)
    }

    fn objects(&self, from: Oid, before: Tid, max: usize) -> Result<ObjectsPage, StorageError> {
        self.inner.objects(from, before, max)
    }

    fn size(&self) -> Size {
        self.inner.size()
    }

    fn chores(&self) -> Chores {
        self.inner.chores()
    }

    fn index_some(&self) -> Result<(), StorageError> {
        self.inner.index_some()
    }

    fn prepare(&self) -> Result<(), StorageError> {
        self.inner.prepare()
    }

    fn close(&self) -> Result<(), StorageError> {
        self.inner.close()
    }
}

fn asked_about(operation: &Operation) -> Option<TxnId> {
    match operation {
        Operation::Outcome(query) => Some(query.id),
        Operation::Commit(_) | Operation::Check(_) | Operation::ReserveOids(_) => None,
    }
}
