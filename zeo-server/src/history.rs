//! Questions about the past: the history of an object, all transactions, all objects.
//!
//! Each answer is one page, which is read and put together in the history stage, and a session has
//! one under way at a time: so no more than a page of it is in memory, here and at the client.
//! Nothing is told that is not published.

use bytes::Bytes;
use zeo_proto::{
    Cursor, Failure, HistoryEntry, HistoryItem, HistoryRecord, ObjectsPage, Oid, Reply, Size, Tid,
    TransactionHead, TransactionsPage,
};
use zeo_reactor::{ConnId, Context, JobPanicked, give_way};

use crate::server::Server;
use crate::session::Caller;
use crate::storage::{self, HistoryLimit, Storage, StorageError};

/// An answer: what is said, its data, and where the next page of transactions is.
struct Page {
    reply: Reply,
    data: Bytes,
    next: Option<storage::Cursor>,
}

impl Page {
    fn without_data(reply: Reply) -> Self {
        Self { reply, data: Bytes::new(), next: None }
    }
}

impl Server {
    pub(crate) fn history(
        &mut self,
        cx: &mut Context<Self>,
        caller: Caller,
        (oid, before): (Oid, Tid),
        count: u32,
    ) {
        self.read_page(cx, caller, move |storage, as_of| {
            let entries = usize::try_from(count).unwrap_or(usize::MAX);
            let limit = HistoryLimit { entries, bytes: HISTORY_BYTES };
            let history = storage.history(oid, before, as_of, limit)?;
            let entries = history.into_iter().map(told_entry).collect();
            Ok(Page::without_data(Reply::History(entries)))
        });
    }

    pub(crate) fn transactions(
        &mut self,
        cx: &mut Context<Self>,
        caller: Caller,
        from: Cursor,
        through: Tid,
    ) {
        let place = self.sessions.get(&caller.conn).and_then(|session| session.history_place);
        // Whoever goes on where his last page ended need not search.
        let known = place.filter(|place| (place.tid, place.record) == (from.tid, from.record));
        let from = storage::Cursor {
            tid: from.tid,
            record: from.record,
            place: known.and_then(|place| place.place),
        };
        self.read_page(cx, caller, move |storage, as_of| {
            let page = storage.transactions(&from, through.min(as_of), PAGE_BYTES)?;
            Ok(told_transactions(page))
        });
    }

    pub(crate) fn objects(
        &mut self,
        cx: &mut Context<Self>,
        caller: Caller,
        (from, before): (Oid, Tid),
        count: u32,
    ) {
        self.read_page(cx, caller, move |storage, as_of| {
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            let storage::ObjectsPage { objects, next } =
                storage.objects(from, before.min(as_of.next()), count)?;
            Ok(Page::without_data(Reply::Objects(Box::new(ObjectsPage { objects, next }))))
        });
    }

    pub(crate) fn size(&mut self, cx: &mut Context<Self>, caller: Caller) {
        let Some(id) = self.database_of(caller.conn) else { return };
        let storage::Size { objects, bytes } = self.databases.at(id).storage.size();
        self.reply(cx, caller, Reply::Size(Size { objects, bytes }));
    }

    /// Has a page read as of what is published, unless the session has one under way.
    fn read_page(
        &mut self,
        cx: &mut Context<Self>,
        caller: Caller,
        read: impl FnOnce(&dyn Storage, Tid) -> Result<Page, StorageError> + Send + 'static,
    ) {
        let Some(session) = self.sessions.get_mut(&caller.conn) else { return };
        let id = session.database;
        if core::mem::replace(&mut session.is_reading_history, true) {
            return self.fail(cx, caller, Failure::Busy);
        }
        let as_of = self.databases.at(id).published;
        let work = move |storage: &dyn Storage| read(storage, as_of);
        self.read(cx, id, work, move |server, cx, result| server.page_read(cx, caller, result));
    }

    fn page_read(
        &mut self,
        cx: &mut Context<Self>,
        caller: Caller,
        result: Result<Result<Page, StorageError>, JobPanicked>,
    ) {
        if let Some(session) = self.sessions.get_mut(&caller.conn) {
            session.is_reading_history = false;
        }
        match result {
            Ok(Ok(page)) => self.tell_page(cx, caller, page),
            Ok(Err(error)) => self.fail(cx, caller, failure(caller.conn, &error)),
            Err(panicked) => {
                tracing::error!("reading history panicked: {panicked}");
                self.fail(cx, caller, Failure::StorageFailed(panicked.to_string()));
            }
        }
    }

    fn tell_page(&mut self, cx: &mut Context<Self>, caller: Caller, page: Page) {
        if let Some(session) = self.sessions.get_mut(&caller.conn) {
            session.history_place = page.next.or(session.history_place);
        }
        self.reply_with(cx, caller, page.reply, &page.data);
        if let Some(transport) = cx.transport(caller.conn) {
            transport.yield_turn();
        }
    }
}

fn failure(conn: ConnId, error: &StorageError) -> Failure {
    tracing::error!(%conn, "reading history: {error}");
    match error {
        StorageError::Damaged(_) => Failure::Damaged(error.to_string()),
        StorageError::Io { .. } | StorageError::Index(_) => {
            Failure::StorageFailed(error.to_string())
        }
    }
}

fn told_entry(entry: storage::HistoryEntry) -> HistoryEntry {
    let storage::HistoryEntry { tid, meta, len: data_len, deleted } = entry;
    HistoryEntry { tid, data_len, deleted, meta }
}

fn told_transactions(storage::TransactionsPage { items, next }: storage::TransactionsPage) -> Page {
    let mut data = Vec::with_capacity(items.iter().map(storage::HistoryItem::size).sum());
    let items = items.into_iter().map(|item| told_item(item, &mut data)).collect();
    let cursor = next.map(|next| Cursor { tid: next.tid, record: next.record });
    let reply = Reply::Transactions(Box::new(TransactionsPage { items, next: cursor }));
    Page { reply, data: data.into(), next }
}

fn told_item(item: storage::HistoryItem, all_data: &mut Vec<u8>) -> HistoryItem {
    match item {
        storage::HistoryItem::Transaction(head) => {
            let storage::TransactionHead { tid, id, snapshot, meta, records } = head;
            HistoryItem::Transaction(TransactionHead { tid, id, snapshot, records, meta })
        }
        storage::HistoryItem::Record(record) => {
            let storage::HistoryRecord { oid, previous, data, refs } = record;
            let data_len = data.as_ref().map(|data| {
                give_way();
                all_data.extend_from_slice(data);
                u32::try_from(data.len()).expect("an object is at most 63 MiB")
            });
            HistoryItem::Record(HistoryRecord { oid, previous, data_len, refs })
        }
    }
}

/// Bytes of a page of transactions, as [`storage::HistoryItem::size`] counts them; a single record
/// may have more. All but the data must fit a head of 1 MiB.
const PAGE_BYTES: usize = (1 << 20) - (4 << 10);
const _: () = assert!(PAGE_BYTES / storage::ITEM < zeo_proto::MAX_ITEMS, "one counts for as much");
/// Bytes of user, description and extension in a page of an object's history.
const HISTORY_BYTES: usize = 512 << 10;
