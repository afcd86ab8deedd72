//! Names for new objects: handed out from a block that the journal reserved.

use std::collections::VecDeque;

use zeo_proto::{Failure, Oid, Reply};
use zeo_reactor::Context;

use crate::commit_queue::Waiter;
use crate::database::DatabaseId;
use crate::server::Server;
use crate::session::Caller;
use crate::storage::{Operation, Refused};

/// Reserved names that nobody has yet, and who waits for more.
///
/// The rest of a block is lost when the server stops: names are plenty, and none is used twice.
#[derive(Debug, Default)]
pub(crate) struct OidPool {
    next: u64,
    end: u64,
    waiting: VecDeque<(Caller, u32)>,
    reserving: bool,
}

impl OidPool {
    fn take(&mut self, count: u32) -> Option<Oid> {
        let first = self.next;
        let next = first.checked_add(u64::from(count)).filter(|&next| next <= self.end)?;
        self.next = next;
        Some(Oid::new(first))
    }
}

impl Server {
    pub(crate) fn new_oids(&mut self, cx: &mut Context<Self>, caller: Caller, count: u32) {
        let Some(id) = self.database_of(caller.conn) else { return };
        if self.is_read_only(id, caller.conn) {
            return self.fail(cx, caller, Failure::ReadOnly);
        }
        if self.is_stopping() {
            return self.fail(cx, caller, Failure::Stopping);
        }
        let pool = &mut self.databases.at_mut(id).oids;
        if pool.waiting.is_empty()
            && let Some(first) = pool.take(count)
        {
            return self.reply(cx, caller, Reply::NewOids(first, count));
        }
        pool.waiting.push_back((caller, count));
        self.reserve(cx, id);
    }

    fn reserve(&mut self, cx: &mut Context<Self>, id: DatabaseId) {
        let pool = &mut self.databases.at_mut(id).oids;
        if pool.reserving {
            return;
        }
        pool.reserving = true;
        self.enqueue(cx, id, Operation::ReserveOids(BLOCK), Waiter::Oids(BLOCK));
    }

    pub(crate) fn reserved(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        first: Oid,
        count: u32,
    ) {
        let database = self.databases.at_mut(id);
        database.recent.free_from(first);
        let pool = &mut database.oids;
        pool.reserving = false;
        if pool.end != first.number() {
            pool.next = first.number();
        }
        pool.end = first.number() + u64::from(count);
        while let Some(&(caller, count)) = self.databases.at(id).oids.waiting.front() {
            let pool = &mut self.databases.at_mut(id).oids;
            let Some(first) = pool.take(count) else { return self.reserve(cx, id) };
            pool.waiting.pop_front();
            self.reply(cx, caller, Reply::NewOids(first, count));
        }
    }

    pub(crate) fn not_reserved(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        refused: Refused,
    ) {
        let failure = self.failure(id, refused);
        let pool = &mut self.databases.at_mut(id).oids;
        pool.reserving = false;
        for (caller, _) in core::mem::take(&mut pool.waiting) {
            self.fail(cx, caller, failure.clone());
        }
    }
}

/// How many names are reserved with one record of the journal; more than
/// [`MAX_NEW_OIDS`](zeo_proto::MAX_NEW_OIDS).
const BLOCK: u32 = 1 << 16;
const _: () = assert!(BLOCK >= zeo_proto::MAX_NEW_OIDS);
