//! The loads of one session on their way: no more at once than its peer takes in.
//!
//! A session may ask for more data than fits into memory: 256 batches of 1,024 objects of 63 MiB
//! each are within the protocol. So its loads wait in a lane, in the order asked, while its output
//! is not taken in, and few enough are begun that their results have a place. How large objects are
//! is not known before they are loaded; the lane goes by the largest that it has seen lately.
//!
//! An answer may wait here too, and what it says may be out of date by the time it is sent. So
//! nothing leaves a lane that is not sealed as of that moment ([`Lane::pop_outgoing`]).

use std::collections::{BTreeMap, VecDeque};

use zeo_proto::{Failure, Oid, Tid};

use crate::batch::{Batch, Page};
use crate::memory::Told;
use crate::session::Caller;
use crate::storage::Found;

/// Loads of one session that are not answered yet.
#[derive(Debug)]
pub(crate) struct Lane {
    /// In the order asked.
    waiting: VecDeque<Wanted>,
    /// Loads of this session in the stage, or in the queue before it.
    in_stage: usize,
    /// The largest object seen lately, in bytes; it shrinks slowly.
    largest: usize,
    /// Bytes of data in answers that are not sent yet.
    held: usize,
    batches: BTreeMap<Order, Batch>,
    /// What can be sent as soon as the peer takes it in.
    ready: VecDeque<Ready>,
    next_order: Order,
    /// It has had its share of this turn, and goes on in the next.
    pub(crate) advances_later: bool,
    /// What was last told of its memory.
    told: Told,
}

/// Numbers a lane's loads in the order asked.
pub(crate) type Order = u64;

/// One object that somebody waits for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) oid: Oid,
    pub(crate) before: Tid,
    pub(crate) target: Target,
    order: Order,
}

/// Where a loaded object goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// It is the answer to this call.
    Call(Caller),
    /// It is one of many; the batch is named by the order of its first.
    Batch(Caller, Order),
}

impl Target {
    /// Who asked.
    pub(crate) fn caller(self) -> Caller {
        match self {
            Self::Call(caller) | Self::Batch(caller, _) => caller,
        }
    }
}

/// What was found of an object.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) wanted: Wanted,
    pub(crate) found: Found,
    /// The last commit that was published when it was looked for; later ones are not in it.
    pub(crate) as_of: Tid,
}

impl Answer {
    /// Bytes of data in it.
    pub(crate) fn size(&self) -> usize {
        match &self.found {
            Found::Revision(_, data) => data.len(),
            Found::Absent | Found::Deleted(_) => 0,
        }
    }
}

/// Something that can be sent.
#[derive(Debug)]
enum Ready {
    Found(Answer),
    /// A page of that batch.
    Page(Order),
    Failed(Caller, Failure),
}

/// Something to be sent at once: it holds as of now.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// What was found, for a call; its last word.
    Found(Caller, Found),
    /// A page of a batch; `true` says that more follow.
    Page(Caller, Page, bool),
    /// A call failed.
    Failed(Caller, Failure),
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            in_stage: 0,
            // Nothing is known yet, so a few at a time.
            largest: WINDOW_BYTES / 4,
            held: 0,
            batches: BTreeMap::new(),
            ready: VecDeque::new(),
            next_order: 0,
            advances_later: false,
            told: Told::default(),
        }
    }
}

impl Lane {
    /// Puts a load at the end.
    pub(crate) fn push(&mut self, caller: Caller, oid: Oid, before: Tid) {
        self.push_one(Target::Call(caller), oid, before);
    }

    /// Puts all loads of a batch at the end; there must be at least one.
    pub(crate) fn push_batch(&mut self, caller: Caller, before: Tid, oids: Vec<Oid>) {
        let first = self.next_order;
        self.batches.insert(first, Batch::new(caller, oids.len() as u64));
        for oid in oids {
            self.push_one(Target::Batch(caller, first), oid, before);
        }
    }

    fn push_one(&mut self, target: Target, oid: Oid, before: Tid) {
        let order = self.next_order;
        self.next_order += 1;
        self.waiting.push_back(Wanted { oid, before, target, order });
    }

    /// Bytes of memory that it takes: loads that wait, and answers that are not sent yet.
    pub(crate) fn memory(&self) -> usize {
        self.held + self.waiting.len() * size_of::<Wanted>()
    }

    /// What is to be told of its memory, if that is worth telling.
    pub(crate) fn memory_anew(&mut self) -> Option<usize> {
        let memory = self.memory();
        self.told.anew(memory)
    }

    /// Whether so many loads wait that no more should be asked for.
    pub(crate) fn is_long(&self) -> bool {
        self.waiting.len() >= WAITING_LOADS
    }

    /// The next load to be answered or given to the stage, if there is room for its result.
    pub(crate) fn next(&mut self) -> Option<Wanted> {
        while self.has_room() {
            let wanted = self.waiting.pop_front()?;
            if self.is_wanted(&wanted) {
                return Some(wanted);
            }
        }
        None
    }

    /// One load may always be in the stage: it is the oldest, and others wait for it.
    fn has_room(&self) -> bool {
        let expected = self.held.saturating_add(self.largest.saturating_mul(self.in_stage + 1));
        self.in_stage == 0 || (expected <= WINDOW_BYTES && self.in_stage < WINDOW_LOADS)
    }

    /// Not if its batch has failed.
    fn is_wanted(&self, wanted: &Wanted) -> bool {
        match wanted.target {
            Target::Call(_) => true,
            Target::Batch(_, first) => self.batches.contains_key(&first),
        }
    }

    /// A load of this lane went to the stage.
    pub(crate) fn sent(&mut self) {
        self.in_stage += 1;
    }

    /// A load came back from the stage undone.
    pub(crate) fn undone(&mut self, wanted: Wanted) {
        self.in_stage = self.in_stage.saturating_sub(1);
        self.put_back(wanted);
    }

    /// A load came back from the stage with an answer.
    pub(crate) fn returned(&mut self, answer: Answer) {
        self.in_stage = self.in_stage.saturating_sub(1);
        self.largest = answer.size().max(self.largest - self.largest / 64);
        self.answered(answer);
    }

    /// A load came back from the stage with a failure. One failure fails a batch; answers that
    /// still come find nothing.
    pub(crate) fn failed(&mut self, target: Target, failure: Failure) {
        self.in_stage = self.in_stage.saturating_sub(1);
        if let Target::Batch(_, first) = target {
            let Some(batch) = self.batches.remove(&first) else { return };
            self.held -= batch.held();
        }
        self.ready.push_back(Ready::Failed(target.caller(), failure));
    }

    /// There is an answer, which goes out when it is its turn.
    pub(crate) fn answered(&mut self, answer: Answer) {
        let size = answer.size();
        match answer.wanted.target {
            Target::Call(_) => self.ready.push_back(Ready::Found(answer)),
            Target::Batch(_, first) => {
                let Some(batch) = self.batches.get_mut(&first) else { return };
                batch.insert(answer.wanted.order - first, answer);
                self.queue_page(first);
            }
        }
        self.held += size;
    }

    /// Puts a batch that has something to send among what can be sent, once.
    fn queue_page(&mut self, first: Order) {
        let Some(batch) = self.batches.get_mut(&first) else { return };
        if batch.has_page() && !core::mem::replace(&mut batch.queued, true) {
            self.ready.push_back(Ready::Page(first));
        }
    }

    /// A load has to be done again, or still; those that were asked earlier come first.
    fn put_back(&mut self, wanted: Wanted) {
        let place = self.waiting.partition_point(|other| other.order < wanted.order);
        self.waiting.insert(place, wanted);
    }

    /// What is to be sent next, which has to happen at once.
    ///
    /// `seal` brings an answer up to date; its error is a load that has to be done again.
    pub(crate) fn pop_outgoing(
        &mut self,
        mut seal: impl FnMut(Answer) -> Result<Answer, Wanted>,
    ) -> Option<Outgoing> {
        while let Some(ready) = self.ready.pop_front() {
            let outgoing = match ready {
                Ready::Found(answer) => self.seal_found(answer, &mut seal),
                Ready::Page(first) => self.seal_page(first, &mut seal),
                Ready::Failed(caller, failure) => Some(Outgoing::Failed(caller, failure)),
            };
            if outgoing.is_some() {
                return outgoing;
            }
        }
        None
    }

    fn seal_found(
        &mut self,
        answer: Answer,
        seal: impl FnOnce(Answer) -> Result<Answer, Wanted>,
    ) -> Option<Outgoing> {
        self.held -= answer.size();
        match seal(answer) {
            Ok(answer) => Some(Outgoing::Found(answer.wanted.target.caller(), answer.found)),
            Err(wanted) => {
                self.put_back(wanted);
                None
            }
        }
    }

    fn seal_page(
        &mut self,
        first: Order,
        seal: impl FnMut(Answer) -> Result<Answer, Wanted>,
    ) -> Option<Outgoing> {
        let batch = self.batches.get_mut(&first)?;
        batch.queued = false;
        let held = batch.held();
        let (page, again) = batch.take_page(seal);
        self.held -= held - batch.held();
        let (caller, more) = (batch.caller, !batch.is_complete());
        if let Some(wanted) = again {
            self.put_back(wanted);
        } else if more {
            self.queue_page(first);
        } else {
            self.batches.remove(&first);
        }
        (!page.loaded.is_empty()).then_some(Outgoing::Page(caller, page, more))
    }
}

/// Waiting loads at which a session is not read: 16 Ki.
const WAITING_LOADS: usize = 16 << 10;
/// Bytes of results that may be on their way from the stage to one session: 16 MiB.
const WINDOW_BYTES: usize = 16 << 20;
/// Loads that may be in the stage for one session.
const WINDOW_LOADS: usize = 256;
