//! The loads of one session on their way: no more at once than its peer takes in.
//!
//! A session may ask for more data than fits into memory: 256 batches of 1,024 objects of 63 MiB
//! each are within the protocol. So its loads wait in a lane, in the order asked, while its output
//! is not taken in, and few enough are in the stage at once that their results have a place. How
//! large objects are is not known before they are loaded; the lane goes by the largest that it has
//! seen lately.

use std::collections::{BTreeMap, VecDeque};

use zeo_proto::{Failure, Loaded, Oid, Tid};

use crate::session::Caller;
use crate::storage::Found;

/// What an answered load says.
pub(crate) type Answer = Result<Found, Failure>;

/// Loads of one session that are not answered yet.
#[derive(Debug)]
pub(crate) struct Lane {
    waiting: VecDeque<Wanted>,
    /// Loads of this session in the stage, or in the queue before it.
    in_stage: usize,
    /// The largest object seen lately, in bytes; it shrinks slowly.
    largest: usize,
    batches: BTreeMap<BatchId, Batch>,
    next_batch: BatchId,
    /// What can be sent as soon as the peer takes it in.
    outgoing: VecDeque<Outgoing>,
}

/// One object that somebody waits for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) oid: Oid,
    pub(crate) before: Tid,
    pub(crate) target: Target,
}

/// Where a loaded object goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// It is the answer to this call.
    Call(Caller),
    /// It is one of many, at this place in the batch.
    Batch(Caller, BatchId, usize),
}

impl Target {
    /// Who asked.
    pub(crate) fn caller(self) -> Caller {
        match self {
            Self::Call(caller) | Self::Batch(caller, ..) => caller,
        }
    }
}

/// Something to be sent for a lane's loads.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// What was found, for a call; its last word.
    Found(Caller, Found),
    /// A page of a batch; `true` says that more follow.
    Page(Caller, Page, bool),
    /// A call failed.
    Failed(Caller, Failure),
}

/// Names a batch within its lane.
pub(crate) type BatchId = u64;

/// A `LoadMany` on its way: answered in the order asked, a page whenever one is full.
#[derive(Debug, Default)]
struct Batch {
    /// Answers whose turn it is not yet, by their place.
    early: BTreeMap<usize, Found>,
    /// How many answers are in pages already.
    placed: usize,
    total: usize,
    page: Page,
}

/// One page of an answer to `LoadMany`.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// What was found, in the order asked.
    pub(crate) loaded: Vec<Loaded>,
    /// The data of all of them, one after the other.
    pub(crate) data: Vec<u8>,
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            in_stage: 0,
            // Nothing is known yet, so a few at a time.
            largest: WINDOW_BYTES / 4,
            batches: BTreeMap::new(),
            next_batch: 0,
            outgoing: VecDeque::new(),
        }
    }
}

impl Lane {
    /// Puts a load at the end.
    pub(crate) fn push(&mut self, wanted: Wanted) {
        self.waiting.push_back(wanted);
    }

    /// Puts all loads of a batch at the end; there must be at least one.
    pub(crate) fn push_batch(&mut self, caller: Caller, before: Tid, oids: Vec<Oid>) {
        let id = self.next_batch;
        self.next_batch += 1;
        self.batches.insert(id, Batch { total: oids.len(), ..Batch::default() });
        self.waiting.extend((0..).zip(oids).map(|(place, oid)| Wanted {
            oid,
            before,
            target: Target::Batch(caller, id, place),
        }));
    }

    /// The next load to be answered or given to the stage, if there is room for its result.
    pub(crate) fn next(&mut self) -> Option<Wanted> {
        if self.has_room() { self.waiting.pop_front() } else { None }
    }

    fn has_room(&self) -> bool {
        self.in_stage < (WINDOW_BYTES / self.largest.max(1)).clamp(1, WINDOW_LOADS)
    }

    /// A load of this lane went to the stage.
    pub(crate) fn sent(&mut self) {
        self.in_stage += 1;
    }

    /// A load came back from the stage undone: it is the next to go there again.
    pub(crate) fn undone(&mut self, wanted: Wanted) {
        self.in_stage = self.in_stage.saturating_sub(1);
        self.waiting.push_front(wanted);
    }

    /// A load came back from the stage with an answer.
    pub(crate) fn returned(&mut self, target: Target, answer: Answer) {
        self.in_stage = self.in_stage.saturating_sub(1);
        let size = match &answer {
            Ok(Found::Revision(_, data)) => data.len(),
            Ok(Found::Absent | Found::Deleted(_)) | Err(_) => 0,
        };
        self.largest = size.max(self.largest - self.largest / 64);
        self.answered(target, answer);
    }

    /// There is an answer, which goes out when it is its turn.
    pub(crate) fn answered(&mut self, target: Target, answer: Answer) {
        match (target, answer) {
            (Target::Call(caller), Ok(found)) => {
                self.outgoing.push_back(Outgoing::Found(caller, found));
            }
            (Target::Call(caller), Err(failure)) => {
                self.outgoing.push_back(Outgoing::Failed(caller, failure));
            }
            (Target::Batch(caller, id, place), Ok(found)) => {
                let Some(batch) = self.batches.get_mut(&id) else { return };
                batch.early.insert(place, found);
                if batch.advance(caller, &mut self.outgoing) {
                    self.batches.remove(&id);
                }
            }
            // One failure fails the batch; answers that still come find nothing.
            (Target::Batch(caller, id, _), Err(failure)) => {
                if self.batches.remove(&id).is_some() {
                    self.outgoing.push_back(Outgoing::Failed(caller, failure));
                }
            }
        }
    }

    /// What is to be sent next.
    pub(crate) fn pop_outgoing(&mut self) -> Option<Outgoing> {
        self.outgoing.pop_front()
    }
}

impl Batch {
    /// Moves the answers whose turn it is into pages, and the full ones to `outgoing`; whether the
    /// last went there.
    fn advance(&mut self, caller: Caller, outgoing: &mut VecDeque<Outgoing>) -> bool {
        while let Some(found) = self.early.remove(&self.placed) {
            self.placed += 1;
            if let Some(full) = self.page.add(found) {
                outgoing.push_back(Outgoing::Page(caller, full, true));
            }
        }
        let is_complete = self.placed == self.total;
        if is_complete {
            let last = core::mem::take(&mut self.page);
            outgoing.push_back(Outgoing::Page(caller, last, false));
        }
        is_complete
    }
}

impl Page {
    /// Adds what was found; the page as it was comes back if that would make it too large.
    fn add(&mut self, found: Found) -> Option<Self> {
        let (loaded, data) = found.into_outgoing();
        let is_full = self.data.len() + data.len() > PAGE_BYTES && !self.loaded.is_empty();
        let full = is_full.then(|| core::mem::take(self));
        self.loaded.push(loaded);
        self.data.extend_from_slice(&data);
        full
    }
}

/// Bytes of results that may be on their way from the stage to one session: 16 MiB.
const WINDOW_BYTES: usize = 16 << 20;
/// Loads that may be in the stage for one session.
const WINDOW_LOADS: usize = 256;
/// A page of a batch ends at about this many bytes; one object may be larger.
const PAGE_BYTES: usize = 1 << 20;
const _: () = assert!(PAGE_BYTES < zeo_proto::MAX_FRAME);

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use zeo_proto::Validity;

    use super::*;

    #[test]
    fn a_full_page_comes_back() {
        let mut page = Page::default();
        assert!(page.add(revision(PAGE_BYTES)).is_none(), "one object may fill a page");
        assert_eq!(page.add(revision(1)).unwrap().data.len(), PAGE_BYTES);
        assert_eq!(page.data.len(), 1);
    }

    fn revision(size: usize) -> Found {
        let validity = Validity { serial: Tid::new(1), end: None };
        Found::Revision(validity, Bytes::from(vec![7; size]))
    }
}
