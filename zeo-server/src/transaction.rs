//! A transaction while it gathers, and what of it is in memory.

use zeo_proto::{Begin, Failure, Oid, Tid, TxnMeta};

use crate::limits::Limits;
use crate::locks::{LockId, Wants};
use crate::spill::SpillKey;
use crate::storage::{Check, Commit, Record, SpillFile};

/// A transaction between `tpc_begin` and the commit stage.
#[derive(Debug)]
pub(crate) struct OpenTransaction {
    begin: Begin,
    /// What it writes and has been spilled, in the order in which it arrived.
    spilled: Vec<Record>,
    /// What it writes and arrived after that.
    records: Vec<Record>,
    /// What it read and depends on.
    read_current: Vec<(Oid, Tid)>,
    /// The transactions that it undoes.
    undoes: Vec<Tid>,
    /// What it writes by that is among its records.
    has_undone: bool,
    /// It is a copy, and gets this tid.
    restore: Option<Tid>,
    /// The object locks that it holds, while its client resolves its conflicts.
    lock: Option<LockId>,
    /// How often it has been voted on and had conflicts.
    rounds: u32,
    /// Bytes that it has been sent.
    bytes: u64,
    /// Bytes that it holds in memory.
    memory: u64,
    /// Those of them that spilling frees.
    spillable: u64,
    /// Where its data goes, if it has begun to and is not doing so now.
    file: Option<SpillFile>,
    /// It waits for the spill stage, or is in it, under that name.
    spilling: Option<SpillKey>,
    /// There is no place for a file: all of it stays in memory.
    has_nowhere: bool,
    /// Why its vote will fail; nothing more is kept of it then.
    failed: Option<Failure>,
}

/// What goes to the spill stage, and comes back.
#[derive(Debug)]
pub(crate) struct SpillLoad {
    pub(crate) file: Option<SpillFile>,
    pub(crate) records: Vec<Record>,
    /// Bytes of memory that its way into the file has freed.
    pub(crate) freed: u64,
}

impl OpenTransaction {
    /// A transaction that has nothing yet.
    pub(crate) fn new(begin: Begin) -> Self {
        Self {
            begin,
            spilled: Vec::new(),
            records: Vec::new(),
            read_current: Vec::new(),
            undoes: Vec::new(),
            has_undone: false,
            restore: None,
            lock: None,
            rounds: 0,
            bytes: 0,
            memory: 0,
            spillable: 0,
            file: None,
            spilling: None,
            has_nowhere: false,
            failed: None,
        }
    }

    /// Bytes that it takes from its beginning on.
    pub(crate) fn begin_bytes(&self) -> u64 {
        TRANSACTION_BYTES + self.begin.meta.size() as u64
    }

    /// The last tid that its reads saw.
    pub(crate) fn snapshot(&self) -> Tid {
        self.begin.snapshot
    }

    /// Why its vote will fail, if so.
    pub(crate) fn failure(&self) -> Option<&Failure> {
        self.failed.as_ref()
    }

    /// Bytes that it holds in memory.
    pub(crate) fn memory(&self) -> u64 {
        self.memory
    }

    /// Bytes that it has been sent.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds an object that it writes; returns the bytes that it takes.
    pub(crate) fn write(&mut self, record: Record) -> u64 {
        let bytes = record.memory();
        self.spillable += bytes - size_of::<Record>() as u64;
        self.records.push(record);
        bytes
    }

    /// Adds an object that it depends on; returns the bytes that it takes.
    pub(crate) fn depend(&mut self, oid: Oid, serial: Tid) -> u64 {
        self.read_current.push((oid, serial));
        size_of::<(Oid, Tid)>() as u64
    }

    /// Adds a transaction that it undoes; returns the bytes that it takes.
    pub(crate) fn undo(&mut self, tid: Tid) -> u64 {
        self.undoes.push(tid);
        self.has_undone = false;
        size_of::<Tid>() as u64
    }

    /// It gets this tid, and nothing of it is checked.
    pub(crate) fn restore(&mut self, tid: Tid) -> u64 {
        self.restore = Some(tid);
        0
    }

    /// Whether it is a copy of a transaction from elsewhere.
    pub(crate) fn is_restored(&self) -> bool {
        self.restore.is_some()
    }

    /// The transactions that it undoes.
    pub(crate) fn undoes(&self) -> &[Tid] {
        &self.undoes
    }

    /// Whether it has to be found out what it writes by what it undoes.
    pub(crate) fn is_to_undo(&self) -> bool {
        !self.undoes.is_empty() && !self.has_undone
    }

    /// What it writes by what it undoes is being added.
    pub(crate) fn has_undone(&mut self) {
        self.has_undone = true;
    }

    /// Counts more bytes, here and among those of all transactions. One that outgrew a bound keeps
    /// nothing more; its vote says why.
    pub(crate) fn grow(&mut self, bytes: u64, buffered: &mut u64, limits: &Limits) {
        self.bytes += bytes;
        self.memory += bytes;
        *buffered += bytes;
        let objects = self.objects() + self.undoes.len();
        if self.bytes > limits.transaction_bytes || objects > limits.transaction_objects {
            self.fail(Failure::TransactionTooLarge(limits.transaction_bytes), buffered);
        } else if *buffered > limits.buffered_bytes {
            self.fail(Failure::Busy, buffered);
        }
    }

    /// Lets go of what it holds; its vote will fail.
    pub(crate) fn fail(&mut self, failure: Failure, buffered: &mut u64) {
        self.failed.get_or_insert(failure);
        self.begin.meta = TxnMeta::default();
        (self.spilled, self.records, self.read_current) = Default::default();
        self.undoes = Vec::new();
        *buffered -= core::mem::take(&mut self.memory);
        self.spillable = 0;
    }

    /// How many objects it writes or depends on; one that comes twice counts twice.
    fn objects(&self) -> usize {
        self.spilled.len() + self.records.len() + self.read_current.len()
    }

    /// The objects that it locks while it is voted on.
    pub(crate) fn wants(&self) -> Wants {
        let writes = self.spilled.iter().chain(&self.records).map(|record| record.oid);
        let reads = self.read_current.iter().map(|&(oid, _)| oid);
        Wants::new(writes, reads, self.objects())
    }

    /// What has to be known of it to tell whether it conflicts.
    pub(crate) fn check(&self) -> Check {
        let records = self.spilled.iter().chain(&self.records);
        let data: u64 = records.clone().map(|record| record.body.size()).sum();
        Check {
            snapshot: self.snapshot(),
            writes: records.map(|record| (record.oid, record.serial)).collect(),
            read_current: self.read_current.clone(),
            bytes: data + self.begin.meta.size() as u64,
        }
    }

    /// It had conflicts, and keeps its locks until it is voted on again.
    pub(crate) fn keep_lock(&mut self, lock: LockId) {
        self.lock = Some(lock);
        self.rounds += 1;
    }

    /// Takes its object locks away, which are let go of or used for its next vote.
    pub(crate) fn take_lock(&mut self) -> Option<LockId> {
        self.lock.take()
    }

    /// How often it has been voted on and had conflicts.
    pub(crate) fn rounds(&self) -> u32 {
        self.rounds
    }

    /// Whether so much of it is in memory that it should be put into a file.
    pub(crate) fn should_spill(&self, limits: &Limits) -> bool {
        self.spilling.is_none() && !self.has_nowhere && self.spillable >= limits.spill_bytes
    }

    /// Whether as much again has come while it waits for that.
    pub(crate) fn outruns_spilling(&self, limits: &Limits) -> bool {
        self.spilling.is_some() && self.spillable >= limits.spill_bytes
    }

    /// The name under which it waits for the spill stage, or is in it.
    pub(crate) fn spill_key(&self) -> Option<SpillKey> {
        self.spilling
    }

    /// It waits for its turn in the spill stage.
    pub(crate) fn await_spill(&mut self, key: SpillKey) {
        self.spilling = Some(key);
    }

    /// What is put into its file now; it comes back with [`OpenTransaction::spilled`].
    pub(crate) fn spill(&mut self) -> SpillLoad {
        self.spillable = 0;
        SpillLoad { file: self.file.take(), records: core::mem::take(&mut self.records), freed: 0 }
    }

    /// What was put into its file comes back. Without a file it never will be.
    pub(crate) fn spilled(&mut self, load: SpillLoad, buffered: &mut u64) {
        let SpillLoad { file, records, freed } = load;
        self.spilling = None;
        self.has_nowhere = file.is_none();
        self.file = file;
        if self.failed.is_some() {
            return;
        }
        self.spilled.extend(records);
        self.memory -= freed;
        *buffered -= freed;
    }

    /// It could not be put into its file.
    pub(crate) fn not_spilled(&mut self, failure: Failure, buffered: &mut u64) {
        self.spilling = None;
        self.fail(failure, buffered);
    }

    /// Ready for the commit stage.
    pub(crate) fn into_commit(self) -> Commit {
        let Self { begin, spilled: mut records, records: last, read_current, restore, .. } = self;
        if records.is_empty() {
            // Very many are not copied in a turn.
            records = last;
        } else {
            records.extend(last);
        }
        let Begin { id, snapshot, meta } = begin;
        Commit { id, snapshot, meta, records, read_current, restore }
    }
}

/// What a transaction costs in memory beside its records.
const TRANSACTION_BYTES: u64 = 256;
