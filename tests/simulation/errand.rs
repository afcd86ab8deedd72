//! Calls that are no part of a transaction, and what each promises.

use zeo_client::{CallError, Client, Deferred, LoadError, Revision};
use zeo_proto::{Oid, Tid};
use zeo_server::storage::disk::Random;

use crate::archive::{Question, Reading};
use crate::record::{Record, Unanswered};
use crate::workload::{Seen, Workload};

type Load = Deferred<Result<Revision, LoadError>>;

/// A call that is under way.
pub(crate) enum Errand {
    /// An object as of now.
    One(Oid, Tid, Load),
    /// All objects as of a moment: long ago, or what only others have heard of yet.
    Past(Tid, Seen, Vec<(Oid, Load)>),
    /// Many objects at once, all as of a moment.
    Many(Vec<Oid>, Tid, Deferred<Result<Vec<Option<Revision>>, LoadError>>),
    /// To see whatever anybody had been told was committed when this was asked.
    Sync(Tid, Deferred<Result<Tid, CallError>>),
    /// A name that nobody else gets.
    Name(Deferred<Result<Oid, CallError>>),
    /// What was, as far as the client knows of it.
    Archive(Tid, Question),
}

impl Errand {
    pub(crate) fn begin(
        client: &Client,
        workload: &dyn Workload,
        random: &mut Random,
        record: &Record,
    ) -> Self {
        let (oids, now) = (workload.reads(random), client.last_tid().next());
        match random.below(7) {
            0 => Self::One(oids[0], now, client.nb().load(oids[0])),
            1 => {
                let before = some_time(random, record);
                let load = |oid: &Oid| (*oid, client.nb().load_before(*oid, before));
                Self::Past(before, Seen::new(), oids.iter().map(load).collect())
            }
            2 => {
                let load = client.nb().load_many(&oids);
                Self::Many(oids, now, load)
            }
            3 => {
                let known = record.acknowledged.last().copied().unwrap_or_default();
                Self::Sync(known, client.nb().sync())
            }
            4 => Self::Name(client.nb().new_oid()),
            _ => {
                let (known, tid) = (client.last_tid(), some_time(random, record));
                Self::Archive(known, Question::ask(client, (oids[0], tid), random))
            }
        }
    }

    /// Gives the errand back while it is under way; else the answer was right, or none.
    pub(crate) fn go_on(
        mut self,
        client: &Client,
        workload: &dyn Workload,
        record: &mut Record,
    ) -> Option<Self> {
        let is_done = match &mut self {
            Self::One(oid, before, load) => one(*oid, *before, load, record).map(|_| ()),
            Self::Past(before, seen, loads) => past(*before, (seen, loads), workload, record),
            Self::Many(oids, before, load) => many((oids, *before), load, workload, record),
            Self::Sync(known, sync) => synced(*known, sync, client, record),
            Self::Name(name) => named(name, record),
            Self::Archive(known, question) => archived(*known, question, record),
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

/// What was found, if there was an answer.
fn one(
    oid: Oid,
    before: Tid,
    load: &mut Load,
    record: &mut Record,
) -> Option<Result<Option<Revision>, Unanswered>> {
    let found = record.found(load.try_take()?.unwrap());
    if let Ok(found) = &found {
        record.observe(oid, before, found.clone());
    }
    Some(found)
}

fn past(
    before: Tid,
    (seen, loads): (&mut Seen, &mut Vec<(Oid, Load)>),
    workload: &dyn Workload,
    record: &mut Record,
) -> Option<()> {
    while let Some((oid, load)) = loads.last_mut() {
        // Without an answer, nothing is known of the whole.
        let Ok(found) = one(*oid, before, load, record)? else { return Some(()) };
        seen.insert(*oid, found);
        loads.pop();
    }
    workload.check(seen);
    Some(())
}

fn many(
    (oids, before): (&[Oid], Tid),
    load: &mut Deferred<Result<Vec<Option<Revision>>, LoadError>>,
    workload: &dyn Workload,
    record: &mut Record,
) -> Option<()> {
    let Ok(found) = record.answered(load.try_take()?.unwrap()) else { return Some(()) };
    for (oid, found) in oids.iter().zip(&found) {
        record.observe(*oid, before, found.clone());
    }
    workload.check(&oids.iter().copied().zip(found).collect());
    Some(())
}

fn synced(
    known: Tid,
    sync: &mut Deferred<Result<Tid, CallError>>,
    client: &Client,
    record: &Record,
) -> Option<()> {
    if let Ok(tid) = record.answered(sync.try_take()?.unwrap().map_err(LoadError::from)) {
        assert!(tid >= known, "sync: {tid}, when {known} was committed before it");
        assert!(client.last_tid() >= tid, "sync: {tid}, which was not applied");
    }
    Some(())
}

fn named(name: &mut Deferred<Result<Oid, CallError>>, record: &mut Record) -> Option<()> {
    if let Ok(oid) = record.answered(name.try_take()?.unwrap().map_err(LoadError::from)) {
        assert!(record.names.insert(oid), "{oid} was handed out twice");
    }
    Some(())
}

fn archived(known: Tid, question: &mut Question, record: &mut Record) -> Option<()> {
    if let Ok(told) = record.answered(question.answer()?.map_err(LoadError::from)) {
        record.readings.push(Reading { known, told });
    }
    Some(())
}
