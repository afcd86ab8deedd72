//! Reading history: who changed an object, what each transaction did, and which objects there are.
//!
//! All of it comes in pages that the client fetches as they are wanted, so memory stays constant
//! however long the history is, and a lost connection costs at most one page. An iterator ends with
//! its first error; a new one goes on where it was.

use std::ops::{Bound, RangeBounds};
use std::vec;

use bytes::Bytes;
use zeo_proto::{Cursor, HistoryEntry, ObjectsPage, Oid, Size, Tid, TransactionHead};
use zeo_reactor::Deferred;

use crate::blocking::{may_block, wait};
use crate::client::Client;
use crate::error::CallError;
use crate::link::{Found, PageSender, State};
use crate::nb::NonBlocking;

impl Client {
    /// The transactions that wrote an object, newest first.
    ///
    /// ```
    /// # let server = zeo_server::Server::in_memory()?;
    /// # let db = zeo_client::Client::connect(&server.url("main"))?;
    /// let mut txn = db.begin()?;
    /// txn.set_user("Ada")?;
    /// let oid = txn.create("first")?;
    /// txn.commit()?;
    ///
    /// for entry in db.history(oid) {
    ///     let entry = entry?;
    ///     assert_eq!((entry.meta.user.as_str(), entry.data_len), ("Ada", 5));
    ///     assert_eq!(db.load_serial(oid, entry.tid)?.data, "first");
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn history(&self, oid: Oid) -> History {
        History { oid, pages: Pages::new(self, self.shared().generation(), Some(Tid::MAX)) }
    }

    /// All transactions with a tid in a range, in order; [`records`](Self::records) tells what each
    /// has done.
    ///
    /// ```
    /// # let server = zeo_server::Server::in_memory()?;
    /// # let db = zeo_client::Client::connect(&server.url("main"))?;
    /// # let oid = db.run(|txn| txn.create("first"))?;
    /// let mut bytes = 0;
    /// for txn in db.transactions(..) {
    ///     for record in db.records(&txn?) {
    ///         bytes += record?.data.map_or(0, |data| data.len());
    ///     }
    /// }
    /// assert_eq!(bytes, 5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn transactions(&self, tids: impl RangeBounds<Tid>) -> Transactions {
        let (from, through) = bounds(&tids);
        let next = (from <= through).then_some(from);
        let pages = Pages::new(self, self.shared().generation(), next);
        Transactions { through, position: from, pages }
    }

    /// What a transaction did to each object that it wrote: what came with it, and then the rest,
    /// page by page.
    pub fn records(&self, txn: &CommittedTransaction) -> Records {
        let mut pages = Pages::new(self, self.shared().generation(), txn.rest);
        pages.page = txn.records.clone().into_iter();
        Records { pages }
    }

    /// The objects that exist, from one on, in the order of their oids, each with its serial: as of
    /// [`last_tid`](Self::last_tid), whatever is committed meanwhile.
    ///
    /// ```
    /// # let server = zeo_server::Server::in_memory()?;
    /// # let db = zeo_client::Client::connect(&server.url("main"))?;
    /// use zeo_client::Oid;
    ///
    /// let mut txn = db.begin()?;
    /// txn.store(Oid::ROOT, "root")?;
    /// let tid = txn.commit()?;
    /// let objects: Vec<_> = db.objects(Oid::ROOT).collect::<Result<_, _>>()?;
    /// assert_eq!(objects, [(Oid::ROOT, tid)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn objects(&self, from: Oid) -> Objects {
        let snapshot = self.snapshot();
        let pages = Pages::new(self, snapshot.generation, Some(from));
        Objects { before: snapshot.tid.next(), pages }
    }

    /// How many objects there are, and how many bytes they take on the server's disk.
    pub fn size(&self) -> Result<Size, CallError> {
        may_block()?;
        wait(self.nb().size())
    }
}

impl NonBlocking<'_> {
    /// A page of [`Client::history`]: transactions that wrote an object before a tid, newest first,
    /// 1,024 at most. The next page is before the last of them; an empty one is the end.
    pub fn history_page(
        self,
        oid: Oid,
        before: Tid,
    ) -> Deferred<Result<Vec<HistoryEntry>, CallError>> {
        self.history_of(oid, before, self.client().shared().generation())
    }

    /// A page of [`Client::transactions`], as many as the server puts into one.
    pub fn transactions_page(
        self,
        tids: impl RangeBounds<Tid>,
    ) -> Deferred<Result<TransactionsPage, CallError>> {
        let (from, through) = bounds(&tids);
        if from > through {
            return self.client().ready(Ok(TransactionsPage::default()));
        }
        self.transactions_of(from, through, self.client().shared().generation())
    }

    /// A page of [`Client::records`]: those from a place on, for example
    /// [`CommittedTransaction::rest`].
    pub fn records_page(self, from: Cursor) -> Deferred<Result<RecordsPage, CallError>> {
        self.records_of(from, self.client().shared().generation())
    }

    /// A page of [`Client::objects`]: those that a reader with that `before` sees, from one on. A
    /// page may be empty and not the last.
    pub fn objects_page(self, from: Oid, before: Tid) -> Deferred<Result<ObjectsPage, CallError>> {
        self.objects_of(from, before, self.client().shared().generation())
    }

    /// See [`Client::size`].
    pub fn size(self) -> Deferred<Result<Size, CallError>> {
        self.client().send(State::size)
    }

    fn history_of(
        self,
        oid: Oid,
        before: Tid,
        generation: u64,
    ) -> Deferred<Result<Vec<HistoryEntry>, CallError>> {
        self.client().send(move |state, cx, sender| {
            state.browse(cx, generation, PageSender::History(oid, before, sender));
        })
    }

    fn transactions_of(
        self,
        from: Tid,
        through: Tid,
        generation: u64,
    ) -> Deferred<Result<TransactionsPage, CallError>> {
        let from = Cursor::from_tid(from);
        self.found(from, through, generation, TransactionsPage::new)
    }

    fn records_of(self, from: Cursor, generation: u64) -> Deferred<Result<RecordsPage, CallError>> {
        self.found(from, from.tid, generation, RecordsPage::new)
    }

    fn found<P: Send + 'static>(
        self,
        from: Cursor,
        through: Tid,
        generation: u64,
        page: impl FnOnce(Found) -> P + Send + 'static,
    ) -> Deferred<Result<P, CallError>> {
        self.client().send_then(
            move |state, cx, sender| {
                state.browse(cx, generation, PageSender::Transactions(from, through, sender));
            },
            |found| found.map(page),
        )
    }

    fn objects_of(
        self,
        from: Oid,
        before: Tid,
        generation: u64,
    ) -> Deferred<Result<ObjectsPage, CallError>> {
        self.client().send(move |state, cx, sender| {
            state.browse(cx, generation, PageSender::Objects(from, before, sender));
        })
    }
}

/// A transaction as history tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommittedTransaction {
    /// Its tid, who made it, what it says of itself, and how many records it has.
    pub head: TransactionHead,
    /// The first of its records: all of them, or what fitted into a page.
    pub records: Vec<Record>,
    /// Where the others begin, if there are any.
    pub rest: Option<Cursor>,
}

/// What a transaction did to one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The object.
    pub oid: Oid,
    /// The serial of what it replaced; [`Tid::ZERO`] where the object was new.
    pub previous: Tid,
    /// What it stored; `None` where it deleted the object.
    pub data: Option<Bytes>,
    /// The oids that the data refers to, where they are known.
    pub refs: Option<Vec<Oid>>,
}

/// Some transactions, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransactionsPage {
    /// The transactions.
    pub transactions: Vec<CommittedTransaction>,
    /// The tid from which to go on, if there may be more.
    pub next: Option<Tid>,
}

/// Some of a transaction's records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordsPage {
    /// The records.
    pub records: Vec<Record>,
    /// Where the next page begins, if there is one.
    pub next: Option<Cursor>,
}

impl TransactionsPage {
    /// Of a transaction that goes on in the next page, the rest is read apart from it.
    fn new(found: Found) -> Self {
        let after = |next: Cursor| if next.record > 0 { next.tid.next() } else { next.tid };
        Self { transactions: found.transactions, next: found.next.map(after) }
    }
}

impl RecordsPage {
    /// What follows the records is of other transactions.
    fn new(found: Found) -> Self {
        let next = found.next.filter(|next| next.record > 0 && found.transactions.is_empty());
        Self { records: found.records, next }
    }
}

/// Items that come in pages, of which one is here.
#[derive(Debug)]
struct Pages<C, T> {
    client: Client,
    generation: u64,
    /// Where the next page begins; none after the last, and after an error.
    next: Option<C>,
    page: vec::IntoIter<T>,
}

impl<C, T> Pages<C, T> {
    fn new(client: &Client, generation: u64, next: Option<C>) -> Self {
        Self { client: client.clone(), generation, next, page: Vec::new().into_iter() }
    }

    /// The next item, from the next page that has one if this has none.
    fn next_item<P>(
        &mut self,
        fetch: impl Fn(&Client, C, u64) -> Deferred<Result<P, CallError>>,
        split: impl Fn(P) -> (Vec<T>, Option<C>),
    ) -> Option<Result<T, CallError>> {
        loop {
            if let Some(item) = self.page.next() {
                return Some(Ok(item));
            }
            let next = self.next.take()?;
            match may_block().and_then(|()| wait(fetch(&self.client, next, self.generation))) {
                Err(error) => return Some(Err(error)),
                Ok(page) => {
                    let (items, next) = split(page);
                    (self.page, self.next) = (items.into_iter(), next);
                }
            }
        }
    }
}

/// The transactions that wrote an object, newest first; made by [`Client::history`].
#[derive(Debug)]
pub struct History {
    oid: Oid,
    pages: Pages<Tid, HistoryEntry>,
}

impl Iterator for History {
    type Item = Result<HistoryEntry, CallError>;

    fn next(&mut self) -> Option<Self::Item> {
        let oid = self.oid;
        self.pages.next_item(
            |client, before, generation| client.nb().history_of(oid, before, generation),
            |page| {
                let last = page.last().map(|entry| entry.tid);
                (page, last)
            },
        )
    }
}

/// Transactions in order; made by [`Client::transactions`].
#[derive(Debug)]
pub struct Transactions {
    through: Tid,
    position: Tid,
    pages: Pages<Tid, CommittedTransaction>,
}

impl Transactions {
    /// The tid behind all that came out of here: [`Client::transactions`] goes on from it, now or
    /// in another run of the program.
    pub fn position(&self) -> Tid {
        self.position
    }
}

impl Iterator for Transactions {
    type Item = Result<CommittedTransaction, CallError>;

    fn next(&mut self) -> Option<Self::Item> {
        let through = self.through;
        let item = self.pages.next_item(
            |client, from, generation| client.nb().transactions_of(from, through, generation),
            |page| (page.transactions, page.next.filter(|next| *next <= through)),
        );
        if let Some(Ok(txn)) = &item {
            self.position = txn.head.tid.next();
        }
        item
    }
}

/// The records of a transaction; made by [`Client::records`].
#[derive(Debug)]
pub struct Records {
    pages: Pages<Cursor, Record>,
}

impl Iterator for Records {
    type Item = Result<Record, CallError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.pages.next_item(
            |client, from, generation| client.nb().records_of(from, generation),
            |page| (page.records, page.next),
        )
    }
}

/// Objects in the order of their oids, with their serials; made by [`Client::objects`].
#[derive(Debug)]
pub struct Objects {
    before: Tid,
    pages: Pages<Oid, (Oid, Tid)>,
}

impl Iterator for Objects {
    type Item = Result<(Oid, Tid), CallError>;

    fn next(&mut self) -> Option<Self::Item> {
        let before = self.before;
        self.pages.next_item(
            |client, from, generation| client.nb().objects_of(from, before, generation),
            |page| (page.objects, page.next),
        )
    }
}

/// The first and the last tid of a range.
fn bounds(tids: &impl RangeBounds<Tid>) -> (Tid, Tid) {
    let from = match tids.start_bound() {
        Bound::Included(tid) => *tid,
        Bound::Excluded(tid) => tid.next(),
        Bound::Unbounded => Tid::ZERO,
    };
    let through = match tids.end_bound() {
        Bound::Included(tid) => *tid,
        Bound::Excluded(tid) => tid.previous(),
        Bound::Unbounded => Tid::MAX,
    };
    (from, through)
}
