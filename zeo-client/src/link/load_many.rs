//! Batches: many objects as of one `before`, some pages of them in flight at a time.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use zeo_proto::{Call, CallId, Failure, Loaded, MAX_BATCH, Oid, PINNED_MAX, Tid};
use zeo_reactor::DeferredSender;

use crate::error::{CallError, LoadError};
use crate::revision::Revision;

use super::calls::Asked;
use super::load::load_error;
use super::{Cx, State, Waiter};

/// What a batch finds: a place for each object, empty where there is none.
pub(crate) type Found = Vec<Option<Revision>>;
type BatchResult = Result<Found, LoadError>;

/// A request for many objects.
#[derive(Debug)]
pub(crate) struct BatchRequest {
    /// The tid before which all are to be valid.
    pub(crate) before: Tid,
    /// The history that it is a tid of.
    pub(crate) generation: u64,
    /// What was in the cache, in its place.
    pub(crate) found: Found,
    /// The others, and their places.
    pub(crate) missing: VecDeque<(usize, Oid)>,
}

/// The batches that somebody waits for.
#[derive(Debug, Default)]
pub(super) struct Batches {
    batches: BTreeMap<u64, Batch>,
    last: u64,
}

#[derive(Debug)]
struct Batch {
    request: BatchRequest,
    /// Objects that were asked for and have not come.
    in_flight: usize,
    waiter: Waiter<BatchResult>,
}

/// The objects of one call, in order, whose answers have not come.
#[derive(Debug)]
pub(super) struct Page {
    before: Tid,
    oids: VecDeque<Oid>,
}

impl Page {
    pub(super) fn new(before: Tid, oids: &[Oid]) -> Self {
        Self { before, oids: oids.iter().copied().collect() }
    }
}

#[cfg(feature = "sim")]
impl Batches {
    pub(super) fn len(&self) -> usize {
        self.batches.len()
    }
}

impl State {
    pub(crate) fn load_many(
        &mut self,
        cx: &mut Cx,
        request: BatchRequest,
        sender: DeferredSender<BatchResult>,
    ) {
        let full = self.batches.batches.len() >= BATCHES_MAX;
        let refusal = self.load_refusal(request.generation);
        if let Some(refusal) = refusal.or_else(|| full.then(|| CallError::Busy.into())) {
            return sender.send(Err(refusal));
        }
        self.batches.last += 1;
        let number = self.batches.last;
        let late = move |state: &mut Self, cx: &mut Cx| {
            state.batch_ended(cx, number, Err(LoadError::Timeout));
        };
        let waiter = Waiter::new(cx, sender, self.call_timeout, late);
        self.batches.batches.insert(number, Batch { request, in_flight: 0, waiter });
        self.go_on_loading(cx, number);
    }

    /// Asks for as much of a batch as may be in flight.
    fn go_on_loading(&mut self, cx: &mut Cx, number: u64) {
        loop {
            let Some(batch) = self.batches.batches.get_mut(&number) else { return };
            let room = IN_FLIGHT_MAX.saturating_sub(batch.in_flight);
            if batch.request.missing.is_empty() || room < MAX_BATCH {
                break;
            }
            let count = batch.request.missing.len().min(MAX_BATCH);
            batch.in_flight += count;
            let before = batch.request.before;
            let wanted: Vec<_> = batch.request.missing.drain(..count).collect();
            self.load_page(cx, number, before, wanted);
        }
        self.end_if_complete(cx, number);
    }

    fn load_page(&mut self, cx: &mut Cx, batch: u64, before: Tid, wanted: Vec<(usize, Oid)>) {
        let mut oids = Vec::with_capacity(wanted.len());
        for (place, oid) in wanted {
            if self.loads.join((oid, before), batch, place) {
                oids.push(oid);
            }
        }
        if self.ready_conn().is_some() && !oids.is_empty() {
            self.send_page(cx, Page::new(before, &oids));
        }
    }

    /// Sends one call for all objects of a page.
    pub(super) fn send_page(&mut self, cx: &mut Cx, page: Page) {
        if let (1, Some(oid)) = (page.oids.len(), page.oids.front()) {
            return self.send_load(cx, (*oid, page.before));
        }
        let call = Call::LoadMany(page.before, page.oids.iter().copied().collect());
        self.call(cx, Asked::LoadMany(page), call);
    }

    /// Some of a page's objects came; `more` is the call when others follow.
    pub(super) fn loaded_many(
        &mut self,
        cx: &mut Cx,
        mut page: Page,
        objects: impl Iterator<Item = (Loaded, Bytes)>,
        more: Option<CallId>,
    ) {
        for (found, data) in objects {
            let Some(oid) = page.oids.pop_front() else {
                return self.confused(cx, "more objects than were asked for");
            };
            self.loaded(cx, (oid, page.before), found, data);
        }
        match more {
            Some(call) => self.unanswered(cx, call, Asked::LoadMany(page)),
            None if page.oids.is_empty() => {}
            None => self.confused(cx, "fewer objects than were asked for"),
        }
    }

    pub(super) fn load_many_failed(&mut self, cx: &mut Cx, page: &Page, failure: &Failure) {
        let error = Err(load_error(failure));
        for oid in &page.oids {
            self.settle(cx, (*oid, page.before), &error);
        }
    }

    /// One object of a batch came.
    pub(super) fn loaded_one_of(
        &mut self,
        cx: &mut Cx,
        number: u64,
        place: usize,
        result: &Result<Revision, LoadError>,
    ) {
        let Some(batch) = self.batches.batches.get_mut(&number) else { return };
        batch.in_flight -= 1;
        let revision = match result {
            Ok(revision) => Some(revision.clone()),
            Err(LoadError::NotFound(_) | LoadError::Deleted { .. }) => None,
            Err(error) => {
                let error = Err(error.clone());
                return self.batch_ended(cx, number, error);
            }
        };
        if let Some(found) = batch.request.found.get_mut(place) {
            *found = revision;
        }
        let room = IN_FLIGHT_MAX - batch.in_flight >= MAX_BATCH;
        if batch.in_flight == 0 || (room && !batch.request.missing.is_empty()) {
            self.go_on_loading(cx, number);
        }
    }

    fn end_if_complete(&mut self, cx: &mut Cx, number: u64) {
        let Some(batch) = self.batches.batches.get_mut(&number) else { return };
        if batch.in_flight == 0 && batch.request.missing.is_empty() {
            let found = std::mem::take(&mut batch.request.found);
            self.batch_ended(cx, number, Ok(found));
        }
    }

    fn batch_ended(&mut self, cx: &mut Cx, number: u64, result: BatchResult) {
        if let Some(batch) = self.batches.batches.remove(&number) {
            batch.waiter.send(cx, result);
        }
    }

    pub(super) fn fail_batches(&mut self, cx: &mut Cx, why: &LoadError) {
        for batch in std::mem::take(&mut self.batches.batches).into_values() {
            batch.waiter.send(cx, Err(why.clone()));
        }
    }
}

/// The objects of a page, each with its data.
pub(super) fn objects(
    found: Vec<Loaded>,
    mut tail: Bytes,
) -> impl Iterator<Item = (Loaded, Bytes)> {
    let page = tail.len();
    found.into_iter().map(move |found| {
        let data = tail.split_to(found.data_len().min(tail.len()));
        (found, unpinned(data, page))
    })
}

/// A small object must not keep a large page alive.
pub(super) fn unpinned(data: Bytes, page: usize) -> Bytes {
    if data.len() < page / PINNED_MAX { Bytes::copy_from_slice(&data) } else { data }
}

/// Batches that may be waited for; more are [`LoadError::Busy`].
const BATCHES_MAX: usize = 1_024;
/// Objects of one batch in flight.
const IN_FLIGHT_MAX: usize = 8 * MAX_BATCH;
