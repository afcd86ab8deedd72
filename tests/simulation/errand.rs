//! Calls that are no part of a transaction, and what each promises.

use zeo_client::{CallError, Client, Deferred, LoadError, Revision};
use zeo_proto::{Oid, Tid};
use zeo_server::storage::disk::Random;

use crate::model::Record;
use crate::task::{answered, any_oid, found};

/// A call that is under way.
pub(crate) enum Errand {
    /// An object as of a moment: now, long ago, or what only others have heard of yet.
    One(Oid, Tid, Deferred<Result<Revision, LoadError>>),
    /// Many objects, all as of a moment.
    Many(Vec<Oid>, Tid, Deferred<Result<Vec<Option<Revision>>, LoadError>>),
    /// To see whatever anybody had been told was committed when this was asked.
    Sync(Tid, Deferred<Result<Tid, CallError>>),
    /// A name that nobody else gets.
    Name(Deferred<Result<Oid, CallError>>),
}

impl Errand {
    pub(crate) fn begin(client: &Client, random: &mut Random, record: &Record) -> Self {
        let (oid, before) = (any_oid(random), client.last_tid().next());
        match random.below(5) {
            0 => Self::One(oid, before, client.nb().load(oid)),
            1 => {
                let before = some_time(random, record);
                Self::One(oid, before, client.nb().load_before(oid, before))
            }
            2 => {
                let oids: Vec<Oid> = (0..=random.below(6)).map(|_| any_oid(random)).collect();
                let load = client.nb().load_many(&oids);
                Self::Many(oids, before, load)
            }
            3 => {
                let known = record.acknowledged.last().copied().unwrap_or_default();
                Self::Sync(known, client.nb().sync())
            }
            _ => Self::Name(client.nb().new_oid()),
        }
    }

    /// Gives the errand back while it is under way; else the answer was right, or none.
    pub(crate) fn go_on(mut self, client: &Client, record: &mut Record) -> Option<Self> {
        let is_done = match &mut self {
            Self::One(oid, before, load) => one(*oid, *before, load, record),
            Self::Many(oids, before, load) => many(oids, *before, load, record),
            Self::Sync(known, sync) => synced(*known, sync, client),
            Self::Name(name) => named(name, record),
        };
        is_done.is_none().then_some(self)
    }
}

/// Just before or after one of the last commits.
fn some_time(random: &mut Random, record: &Record) -> Tid {
    let back = usize::try_from(random.below(12)).unwrap();
    let tid = record.acknowledged.iter().nth_back(back).copied().unwrap_or_default();
    if random.below(2) == 0 { tid } else { tid.next() }
}

fn one(
    oid: Oid,
    before: Tid,
    load: &mut Deferred<Result<Revision, LoadError>>,
    record: &mut Record,
) -> Option<()> {
    if let Ok(found) = found(load.try_take()?.unwrap()) {
        record.observe(oid, before, found);
    }
    Some(())
}

fn many(
    oids: &[Oid],
    before: Tid,
    load: &mut Deferred<Result<Vec<Option<Revision>>, LoadError>>,
    record: &mut Record,
) -> Option<()> {
    let Ok(found) = answered(load.try_take()?.unwrap()) else { return Some(()) };
    for (oid, found) in oids.iter().zip(found) {
        record.observe(*oid, before, found);
    }
    Some(())
}

fn synced(known: Tid, sync: &mut Deferred<Result<Tid, CallError>>, client: &Client) -> Option<()> {
    if let Ok(tid) = answered(sync.try_take()?.unwrap().map_err(LoadError::from)) {
        assert!(tid >= known, "sync: {tid}, when {known} was committed before it");
        assert!(client.last_tid() >= tid, "sync: {tid}, which was not applied");
    }
    Some(())
}

fn named(name: &mut Deferred<Result<Oid, CallError>>, record: &mut Record) -> Option<()> {
    if let Ok(oid) = answered(name.try_take()?.unwrap().map_err(LoadError::from)) {
        assert!(record.names.insert(oid), "{oid} was handed out twice");
    }
    Some(())
}
