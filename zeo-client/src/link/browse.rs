//! Browsing: pages of history, of transactions and of objects.
//!
//! A page says where the next one begins, so nothing is kept between two of them, and one that was
//! lost with its connection is asked for again. A server answers one such call of a connection at a
//! time; the others wait here.

use std::collections::VecDeque;

use bytes::Bytes;
use zeo_proto::{
    Call, Cursor, Failure, HistoryEntry, HistoryItem, HistoryRecord, MAX_BATCH, ObjectsPage, Oid,
    Reply, Tid, TransactionsPage,
};
use zeo_reactor::{DeferredSender, TimerId};

use crate::error::CallError;
use crate::history::{CommittedTransaction, Record};

use super::calls::Asked;
use super::load_many::unpinned;
use super::{Cx, State, call_error};

/// The pages that somebody waits for.
#[derive(Debug, Default)]
pub(super) struct Browsing {
    queue: VecDeque<Wanted>,
    /// The one in flight, until whoever waits for it has been told.
    asked: Option<Wanted>,
    /// Whether an answer is expected.
    asking: bool,
    last: u64,
}

#[derive(Debug)]
struct Wanted {
    number: u64,
    page: PageSender,
    timer: Option<TimerId>,
}

/// Which page, and where it goes.
#[derive(Debug)]
pub(crate) enum PageSender {
    History(Oid, Tid, DeferredSender<Result<Vec<HistoryEntry>, CallError>>),
    Transactions(Cursor, Tid, DeferredSender<Result<Found, CallError>>),
    Objects(Oid, Tid, DeferredSender<Result<ObjectsPage, CallError>>),
}

/// A page of transactions.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// The records of the transaction that the page began within.
    pub(crate) records: Vec<Record>,
    pub(crate) transactions: Vec<CommittedTransaction>,
    pub(crate) next: Option<Cursor>,
}

impl PageSender {
    fn call(&self) -> Call {
        match self {
            Self::History(oid, before, _) => Call::History(*oid, *before, PAGE),
            Self::Transactions(cursor, through, _) => Call::Transactions(*cursor, *through),
            Self::Objects(from, before, _) => Call::Objects(*from, *before, PAGE),
        }
    }

    /// Passes the page on. `Err` when it is no page of that kind, or does not go on.
    fn answer(self, reply: Reply, tail: Bytes) -> Result<(), Self> {
        match (self, reply) {
            (Self::History(_, before, sender), Reply::History(entries))
                if entries.iter().all(|entry| entry.tid < before) =>
            {
                sender.send(Ok(entries));
            }
            (Self::Transactions(cursor, _, sender), Reply::Transactions(page))
                if page.next.is_none_or(|next| next > cursor) =>
            {
                sender.send(Ok(Found::new(*page, tail)));
            }
            (Self::Objects(from, _, sender), Reply::Objects(page))
                if page.next.is_none_or(|next| next > from) =>
            {
                sender.send(Ok(*page));
            }
            (page, _) => return Err(page),
        }
        Ok(())
    }

    fn fail(self, why: CallError) {
        match self {
            Self::History(.., sender) => sender.send(Err(why)),
            Self::Transactions(.., sender) => sender.send(Err(why)),
            Self::Objects(.., sender) => sender.send(Err(why)),
        }
    }
}

impl Found {
    fn new(page: TransactionsPage, mut tail: Bytes) -> Self {
        let (bytes, next) = (tail.len(), page.next);
        let mut found = Self { next, ..Self::default() };
        for item in page.items {
            let data = unpinned(tail.split_to(item.data_len().min(tail.len())), bytes);
            found.add(item, data);
        }
        if let Some(last) = found.transactions.last_mut() {
            last.rest = next.filter(|next| next.record > 0);
        }
        found
    }

    fn add(&mut self, item: HistoryItem, data: Bytes) {
        match (item, self.transactions.last_mut()) {
            (HistoryItem::Transaction(head), _) => {
                let (records, rest) = (Vec::new(), None);
                self.transactions.push(CommittedTransaction { head, records, rest });
            }
            (HistoryItem::Record(it), Some(last)) => last.records.push(record(it, data)),
            (HistoryItem::Record(it), None) => self.records.push(record(it, data)),
        }
    }
}

fn record(record: HistoryRecord, data: Bytes) -> Record {
    let HistoryRecord { oid, previous, data_len, refs } = record;
    Record { oid, previous, data: data_len.map(|_| data), refs }
}

#[cfg(feature = "sim")]
impl Browsing {
    pub(super) fn len(&self) -> usize {
        self.queue.len() + usize::from(self.asked.is_some())
    }
}

impl State {
    /// Fetches a page for a caller, whose place may be in a history that was replaced since.
    pub(crate) fn browse(&mut self, cx: &mut Cx, generation: u64, page: PageSender) {
        if generation != self.shared.generation() {
            return page.fail(CallError::HistoryChanged);
        }
        let full = self.browsing.queue.len() >= PAGES_MAX;
        if let Some(refusal) = self.refusal_or_full(full) {
            return page.fail(refusal);
        }
        self.browsing.last += 1;
        let number = self.browsing.last;
        let late = move |state: &mut Self, cx: &mut Cx| state.browse_is_late(cx, number);
        let timer = self.call_timeout.map(|limit| cx.call_later(limit, late));
        self.browsing.queue.push_back(Wanted { number, page, timer });
        self.go_on_browsing(cx);
    }

    fn go_on_browsing(&mut self, cx: &mut Cx) {
        if self.browsing.asking || self.ready_conn().is_none() {
            return;
        }
        let Some(wanted) = self.browsing.queue.pop_front() else { return };
        let call = wanted.page.call();
        self.browsing.asking = true;
        self.browsing.asked = Some(wanted);
        self.call(cx, Asked::Browse, call);
    }

    pub(super) fn browsed(&mut self, cx: &mut Cx, reply: Reply, tail: Bytes) {
        if let Some(page) = self.take_asked(cx)
            && let Err(page) = page.answer(reply, tail)
        {
            page.fail(CallError::Failed("the server's page fits nothing".to_owned()));
        }
        self.go_on_browsing(cx);
    }

    pub(super) fn browse_failed(&mut self, cx: &mut Cx, failure: &Failure) {
        if let Some(page) = self.take_asked(cx) {
            page.fail(call_error(failure));
        }
        self.go_on_browsing(cx);
    }

    /// The page whose answer has come, if somebody still waits for it.
    fn take_asked(&mut self, cx: &mut Cx) -> Option<PageSender> {
        self.browsing.asking = false;
        self.browsing.asked.take().map(|wanted| wanted.take(cx))
    }

    fn browse_is_late(&mut self, cx: &mut Cx, number: u64) {
        let is_late = |wanted: &mut Wanted| wanted.number == number;
        let Browsing { queue, asked, .. } = &mut self.browsing;
        let at = queue.iter().position(|wanted| wanted.number == number);
        let late = asked.take_if(is_late).or_else(|| at.and_then(|at| queue.remove(at)));
        if let Some(late) = late {
            late.take(cx).fail(CallError::Timeout);
        }
    }

    /// On a new connection, what was asked on the old one comes first.
    pub(super) fn resend_browsing(&mut self, cx: &mut Cx) {
        self.browsing.asking = false;
        if let Some(asked) = self.browsing.asked.take() {
            self.browsing.queue.push_front(asked);
        }
        self.go_on_browsing(cx);
    }

    /// An answer that is on its way still keeps the next question back.
    pub(super) fn fail_browsing(&mut self, cx: &mut Cx, why: &CallError) {
        let Browsing { queue, asked, .. } = &mut self.browsing;
        for wanted in asked.take().into_iter().chain(std::mem::take(queue)) {
            wanted.take(cx).fail(why.clone());
        }
    }
}

impl Wanted {
    fn take(self, cx: &mut Cx) -> PageSender {
        if let Some(timer) = self.timer {
            cx.cancel(timer);
        }
        self.page
    }
}

/// Objects or transactions of one page, at most; it may have fewer.
const PAGE: u32 = 1_024;
const _: () = assert!(PAGE as usize <= MAX_BATCH, "a server refuses more");
/// Pages that may be waited for; more are [`CallError::Busy`].
const PAGES_MAX: usize = 1_024;
