//! A group in the making: each operation is checked against what is durable and what the group
//! already holds, and what it writes is put into the group.

use std::collections::{BTreeMap, BTreeSet};

use zeo_proto::{Conflict, MAX_META, MAX_OBJECT, MAX_PAGE, Oid, Outcome, OutcomeQuery, Tid, TxnId};

use super::current::Missing;
use super::quota::{self, Quota};
use super::{Answers, Committer, JournalStorage, Oids};
use crate::storage::check::{self, Writes};
use crate::storage::disk::Disk;
use crate::storage::fences::Fences;
use crate::storage::index::{Entry, Index, IndexError, Place};
use crate::storage::journal::{GroupBuilder, Position, Replaced, Span};
use crate::storage::{Applied, Check, Commit, Operation, Record, Refused};

/// Bytes of data in one transaction: 1 GiB.
const MAX_TRANSACTION: usize = 1 << 30;
/// How many oids are reserved in advance, so that not every reservation waits for the disk.
const RESERVED_AHEAD: u64 = 1_024;

/// A group in the making.
#[derive(Debug)]
pub(super) struct Draft<'a, D: Disk, I: Index> {
    storage: &'a JournalStorage<D, I>,
    fences: &'a mut Fences,
    unix_micros: u64,
    poison: Option<String>,
    quota: Quota,
    /// What the group writes, for the checks of what comes after in it.
    written: BTreeMap<Oid, Replaced>,
    committed: BTreeMap<TxnId, Tid>,
    missing: Missing,
    drafted: Drafted,
}

/// A group ready for the journal.
#[derive(Debug)]
pub(super) struct Drafted {
    pub(super) group: GroupBuilder,
    pub(super) revisions: Vec<Revision>,
    pub(super) outcomes: Vec<Entry>,
    pub(super) oids: Oids,
    pub(super) last_tid: Tid,
    /// How many objects there are then.
    pub(super) objects: u64,
    pub(super) answers: Answers,
}

/// A revision in a group whose place is not known yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Revision {
    oid: Oid,
    tid: Tid,
    span: Span,
    deleted: bool,
}

impl<'a, D: Disk, I: Index> Draft<'a, D, I> {
    pub(super) fn new(
        storage: &'a JournalStorage<D, I>,
        committer: &'a mut Committer,
        unix_micros: u64,
    ) -> Self {
        Self {
            storage,
            fences: &mut committer.fences,
            unix_micros,
            poison: storage.journal.poison(),
            quota: Quota::new(storage.settings.quota_bytes, storage.journal.used()),
            written: BTreeMap::new(),
            committed: BTreeMap::new(),
            missing: Missing::default(),
            drafted: Drafted {
                group: GroupBuilder::new(),
                revisions: Vec::new(),
                outcomes: Vec::new(),
                oids: committer.oids,
                last_tid: committer.latest.tid,
                objects: committer.latest.objects,
                answers: Vec::new(),
            },
        }
    }

    /// Bytes of the group so far.
    pub(super) fn len(&self) -> usize {
        self.drafted.group.len()
    }

    /// Does what the operation asks for, and keeps the answer until the group is durable.
    pub(super) fn carry_out(&mut self, operation: &Operation) {
        let answer = match operation {
            Operation::Commit(commit) => self.commit(commit).map(Applied::Committed),
            Operation::Check(check) => self.check(check).map(Applied::Checked),
            &Operation::ReserveOids(count) => self.reserve(count).map(Applied::Reserved),
            &Operation::Outcome(query) => self.outcome(query).map(Applied::Outcome),
        };
        self.drafted.answers.push(answer);
    }

    pub(super) fn end(self) -> Drafted {
        self.drafted
    }

    fn commit(&mut self, commit: &Commit) -> Result<Tid, Refused> {
        if let Some(tid) = self.committed_at(commit.id, commit.snapshot)? {
            return Ok(tid);
        }
        if self.fences.is_fenced(commit.id, commit.snapshot) {
            return Err(Refused::Fenced);
        }
        self.check_writable()?;
        check_size(commit)?;
        let mut deleted = BTreeSet::new();
        let current = |oid| {
            let current = self.current(oid)?;
            if current.deleted {
                deleted.insert(oid);
            }
            Ok::<_, IndexError>(current.serial)
        };
        let writes = check::writes(commit, current)?.map_err(Refused::Conflict)?;
        let tid = check::tid_of(commit, self.drafted.last_tid, self.unix_micros)?;
        self.check_quota(bytes_of(commit, &writes), writes.len())?;
        self.write(commit, tid, writes, &deleted);
        Ok(tid)
    }

    fn check(&self, check: &Check) -> Result<Vec<Conflict>, Refused> {
        self.check_writable()?;
        let current = |oid| Ok::<_, IndexError>(self.current(oid)?.serial);
        let conflicts = check::conflicts(check, current)?;
        if conflicts.is_empty() {
            self.check_quota(check.bytes, check.writes.len())?;
        }
        Ok(conflicts)
    }

    fn write(&mut self, commit: &Commit, tid: Tid, writes: Writes<'_>, deleted: &BTreeSet<Oid>) {
        self.drafted.group.transaction(commit, tid, writes.len());
        for (record, serial) in writes {
            let deleted = deleted.contains(&record.oid);
            self.write_record(record, tid, Replaced { serial, deleted });
        }
        self.committed.insert(commit.id, tid);
        self.drafted.outcomes.push(Entry::Outcome(commit.id, tid));
        self.drafted.last_tid = tid;
    }

    fn write_record(&mut self, record: &Record, tid: Tid, replaced: Replaced) {
        let (oid, deleted) = (record.oid, record.body.is_deleted());
        let span = self.drafted.group.record(record, tid, replaced);
        self.drafted.objects = counted(self.drafted.objects, replaced.is_object(), !deleted);
        self.drafted.revisions.push(Revision { oid, tid, span, deleted });
        self.drafted.oids.take(oid);
        self.written.insert(oid, Replaced { serial: tid, deleted });
    }

    fn reserve(&mut self, count: u32) -> Result<Oid, Refused> {
        self.check_writable()?;
        let mut oids = self.drafted.oids;
        let first = oids.next;
        oids.next = check::oids_after(first, count)?;
        if oids.next > oids.reserved {
            self.quota.check(self.len(), quota::RESERVATION)?;
            oids.reserved = Oid::new(oids.next.number().saturating_add(RESERVED_AHEAD));
            self.drafted.group.reserved(oids.reserved);
        }
        self.drafted.oids = oids;
        Ok(first)
    }

    fn outcome(&mut self, query: OutcomeQuery) -> Result<Outcome, Refused> {
        if query.epoch != self.storage.identity.epoch {
            return Ok(Outcome::TooOldToKnow);
        }
        if let Some(tid) = self.committed_at(query.id, query.snapshot)? {
            return Ok(Outcome::Committed(tid));
        }
        // A commit whose sync failed may turn out to be durable: nobody can say "not committed".
        self.check_writable()?;
        Ok(self.fences.answer(query, self.drafted.last_tid))
    }

    fn check_writable(&self) -> Result<(), Refused> {
        self.poison.clone().map_or(Ok(()), |poison| Err(Refused::Failed(poison)))
    }

    fn check_quota(&self, bytes: u64, records: usize) -> Result<(), Refused> {
        self.quota.check(self.len(), quota::transaction_len(bytes, records))
    }

    /// When a transaction that began at `snapshot` was committed, if it was: after its snapshot, so
    /// the index need not be asked about one that is young.
    fn committed_at(&self, id: TxnId, snapshot: Tid) -> Result<Option<Tid>, IndexError> {
        if let Some(&tid) = self.committed.get(&id) {
            return Ok(Some(tid));
        }
        let overlay = self.storage.overlay();
        let (known, complete) = (overlay.outcome(id), overlay.has_outcomes_after(snapshot));
        drop(overlay);
        if known.is_some() || complete { Ok(known) } else { self.storage.index.outcome(id) }
    }

    fn current(&self, oid: Oid) -> Result<Replaced, IndexError> {
        let written = self.written.get(&oid).copied();
        written.map_or_else(|| self.storage.current(oid, &self.missing), Ok)
    }
}

/// How many objects there are after a record, where there were so many before it: whether it
/// replaces one, and makes one.
pub(super) fn counted(objects: u64, replaces: bool, makes: bool) -> u64 {
    match (replaces, makes) {
        (false, true) => objects.saturating_add(1),
        (true, false) => objects.saturating_sub(1),
        (true, true) | (false, false) => objects,
    }
}

impl Revision {
    /// Where the revision is in a group that is at that place.
    pub(super) fn entry(&self, group: Position) -> Entry {
        Entry::Revision(self.oid, self.tid, self.span.in_group(group, self.deleted))
    }
}

impl Span {
    /// The place that it is in a group that is there.
    pub(in crate::storage) fn in_group(self, group: Position, deleted: bool) -> Place {
        let offset = group.offset.saturating_add(self.offset);
        Place { at: Position { offset, ..group }, len: self.len, deleted }
    }
}

impl Oids {
    /// Takes an oid that a client chose itself.
    pub(super) fn take(&mut self, oid: Oid) {
        self.next = self.next.max(Oid::new(oid.number().saturating_add(1)));
        self.reserved = self.reserved.max(self.next);
    }

    /// Takes all that an earlier process had reserved: it may have handed them out.
    pub(super) fn reserved_to(&mut self, end: Oid) {
        self.reserved = self.reserved.max(end);
        self.next = self.reserved;
    }
}

/// The answers to a group that did not become durable, because of `refusal`; `durable` is the
/// last commit that did.
///
/// What does not depend on the group stays as it is. An operation that lost against a commit of
/// the group was surely not carried out, even where that commit's own outcome is unknown.
pub(super) fn withdraw(answers: Answers, durable: Tid, refusal: &Refused) -> Answers {
    let withdraw = |answer| match answer {
        Ok(Applied::Committed(tid) | Applied::Outcome(Outcome::Committed(tid)))
            if tid > durable =>
        {
            Err(refusal.clone())
        }
        Ok(Applied::Reserved(_)) => Err(refusal.clone()),
        // It was held against what is not durable now; nothing of it was to be written.
        Ok(Applied::Checked(_)) => Err(surely_not_done(refusal)),
        Err(Refused::Conflict(conflict)) if conflict.committed > durable => {
            Err(surely_not_done(refusal))
        }
        answer => answer,
    };
    answers.into_iter().map(withdraw).collect()
}

fn surely_not_done(refusal: &Refused) -> Refused {
    if let Refused::Unknown(reason) = refusal {
        return Refused::Failed(reason.clone());
    }
    refusal.clone()
}

fn check_size(commit: &Commit) -> Result<(), Refused> {
    let data = |record: &Record| record.body.data_len();
    let refs = |record: &Record| record.body.refs_count().unwrap_or(0);
    let fits = |record: &Record| data(record) <= MAX_OBJECT && refs(record) <= MAX_PAGE;
    let meta = &commit.meta;
    let meta = meta.user.len() + meta.description.len() + meta.extension.len();
    let all: usize = commit.records.iter().map(|record| data(record) + 8 * refs(record) + 40).sum();
    if meta <= MAX_META && commit.records.iter().all(fits) && all <= MAX_TRANSACTION {
        return Ok(());
    }
    Err(Refused::Failed("the transaction or one of its objects is too large".to_owned()))
}

/// Bytes of data, references and texts that a commit writes.
fn bytes_of(commit: &Commit, writes: &Writes<'_>) -> u64 {
    let data = writes.iter().map(|(record, _)| record.body.size());
    data.fold(commit.meta.size() as u64, u64::saturating_add)
}

impl From<IndexError> for Refused {
    fn from(error: IndexError) -> Self {
        Self::Failed(format!("index: {error}"))
    }
}
