//! Opens a storage: from the index's last checkpoint, or, where that does not fit, from the start
//! of the journal.

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, RwLock};

use zeo_proto::{Identity, Oid, Tid};

use super::draft::counted;
use super::indexing::Indexer;
use super::overlay::{Overlay, Queued};
use super::{Committer, JournalStorage, Oids, Settings};
use crate::storage::OpenError;
use crate::storage::disk::{Disk, DiskFile, locked};
use crate::storage::fences::Fences;
use crate::storage::index::{Checkpoint, Entry, Index, IndexError};
use crate::storage::journal::{
    Appended, Group, Item, ItemError, Opening, START, damaged, read_failed,
};

/// A storage that is being brought up to the end of its journal.
struct Replay<'a, I> {
    index: &'a I,
    overlay: Overlay,
    indexer: Indexer,
    committer: Committer,
    settings: Settings,
}

/// What is known at the end of the journal.
struct BroughtUp {
    overlay: Overlay,
    indexer: Indexer,
    committer: Committer,
}

impl<D: Disk, I: Index> JournalStorage<D, I> {
    /// Opens the storage on a disk; makes one, with the UUID `new_uuid`, where there is none.
    ///
    /// The index is opened with `index` once nobody else can have it open.
    pub fn open(
        disk: D,
        index: impl FnOnce() -> Result<I, IndexError>,
        settings: Settings,
        new_uuid: [u8; 16],
    ) -> Result<Self, OpenError> {
        let lock = locked(&disk)?;
        let opening = Opening::find(disk, new_uuid, settings.segment_bytes)?;
        let mut index = index()?;
        let BroughtUp { overlay, indexer, committer } = bring_up(&opening, &mut index, settings)?;
        let Checkpoint { identity, last_group, end, tid, objects, .. } = committer.latest;
        let journal = opening.settle(last_group, end, tid)?;
        tracing::info!(%identity, last_tid = %tid, "storage opened");
        Ok(Self {
            identity,
            settings,
            journal,
            index,
            overlay: RwLock::new(overlay),
            committer: Mutex::new(committer),
            indexer: Mutex::new(indexer),
            last_tid: AtomicU64::new(tid.number()),
            objects: AtomicU64::new(objects),
            _lock: lock,
        })
    }
}

impl<'a, I: Index> Replay<'a, I> {
    fn new(
        index: &'a I,
        checkpoint: Option<Checkpoint>,
        uuid: [u8; 16],
        settings: Settings,
    ) -> Self {
        let start = Checkpoint {
            identity: Identity { uuid, epoch: 0 },
            end: START,
            last_group: START,
            last_group_crc: 0,
            tid: Tid::ZERO,
            next_oid: Oid::new(1),
            objects: 0,
        };
        let latest = checkpoint.unwrap_or(start);
        let oids = Oids { next: latest.next_oid, reserved: latest.next_oid };
        let fences = Fences::new(settings.fences);
        Self {
            index,
            overlay: Overlay::new(latest.tid),
            indexer: Indexer::new(checkpoint),
            committer: Committer { fences, oids, latest, milestone: latest.end },
            settings,
        }
    }

    /// Follows the journal to its end.
    fn run<D: Disk>(mut self, opening: &Opening<D>) -> Result<BroughtUp, OpenError> {
        let mut walker = opening.walk(self.committer.latest.end);
        loop {
            let at = self.committer.latest.end;
            let Some(group) = walker.next().map_err(read_failed(at))? else { break };
            self.follow(group)?;
            self.report_progress(at.segment);
        }
        let Self { overlay, indexer, committer, .. } = self;
        Ok(BroughtUp { overlay, indexer, committer })
    }

    fn follow<F: DiskFile>(&mut self, group: Group<'_, F>) -> Result<(), OpenError> {
        let after = self.committer.latest.tid;
        let broken = |what: &str| damaged(group.at, after, what.to_owned());
        if group.tid_before != after {
            return Err(broken("a group that does not follow the one before it"));
        }
        let (mut last_tid, mut objects) = (after, self.committer.latest.objects);
        let mut queued = Vec::new();
        for item in group.items {
            let item = item.map_err(|error| match error {
                ItemError::Malformed => broken("a group whose items make no sense"),
                ItemError::Io(error) => read_failed(group.at)(error),
            })?;
            if !is_in_order(item, after, last_tid) {
                return Err(broken("a group whose transactions are not in order"));
            }
            match item {
                Item::Transaction { tid, id, .. } => {
                    last_tid = tid;
                    queued.push(Queued::Entry(Entry::Outcome(id, tid)));
                }
                Item::Record { oid, tid, deleted, replaces, span } => {
                    objects = counted(objects, replaces, !deleted);
                    self.committer.oids.take(oid);
                    let place = span.in_group(group.at, deleted);
                    queued.push(Queued::Entry(Entry::Revision(oid, tid, place)));
                }
                Item::Reserved(end) => self.committer.oids.reserved_to(end),
                Item::Epoch(epoch) => self.committer.latest.identity.epoch = epoch,
            }
        }
        let appended = Appended { at: group.at, end: group.end, crc: group.crc };
        self.committer.follow(appended, last_tid);
        self.committer.latest.objects = objects;
        queued.extend(self.committer.milestone());
        self.make_room()?;
        self.overlay.extend(queued);
        Ok(())
    }

    /// Keeps the overlay within its bound. The last group stays in it: that those before it are
    /// durable is proven by the next, and the index must know nothing that is not.
    fn make_room(&mut self) -> Result<(), IndexError> {
        while self.overlay.len() >= self.settings.overlay_entries {
            let step = self.settings.index_step;
            self.indexer.insert(self.index, &self.overlay.oldest(step))?;
            self.overlay.forget(step);
            self.indexer.checkpoint_if_due(self.index, self.settings.checkpoint_entries)?;
        }
        Ok(())
    }

    fn report_progress(&self, before: u32) {
        let Checkpoint { end, tid, .. } = self.committer.latest;
        if end.segment != before {
            tracing::info!(target: "zeo_server::progress", segment = before, %tid, "read this far in the journal");
        }
    }
}

/// Follows the journal to its end, from the index's checkpoint; from its start if the index turns
/// out to know of transactions that this journal does not have.
fn bring_up<D: Disk, I: Index>(
    opening: &Opening<D>,
    index: &mut I,
    settings: Settings,
) -> Result<BroughtUp, OpenError> {
    let checkpoint = usable_checkpoint(opening, index)?;
    let replay = Replay::new(index, checkpoint, opening.uuid(), settings);
    let brought_up = replay.run(opening)?;
    let Checkpoint { end, tid: last_tid, .. } = brought_up.committer.latest;
    let raised = index.raised()?;
    if raised <= last_tid {
        return Ok(brought_up);
    }
    opening.check_nothing_beyond(end, last_tid)?;
    index.reset(&format!("it is newer than the journal: {raised}, not {last_tid}"))?;
    Replay::new(index, None, opening.uuid(), settings).run(opening)
}

/// Whether tids grow, and a record is one of the transaction before it in the group: otherwise what
/// a load finds would depend on how far the index was filled.
fn is_in_order(item: Item, after: Tid, last: Tid) -> bool {
    match item {
        Item::Transaction { tid, .. } => tid > last,
        Item::Record { tid, .. } => tid == last && last > after,
        Item::Reserved(_) | Item::Epoch(_) => true,
    }
}

/// The index's checkpoint. An index that does not fit the journal is made anew.
fn usable_checkpoint<D: Disk, I: Index>(
    opening: &Opening<D>,
    index: &mut I,
) -> Result<Option<Checkpoint>, OpenError> {
    let reason = match index.checkpoint() {
        Ok(None) => {
            tracing::info!("the index has no checkpoint; the journal is read from its start");
            return Ok(None);
        }
        Ok(Some(checkpoint)) if opening.reaches(&checkpoint)? => return Ok(Some(checkpoint)),
        Ok(Some(checkpoint)) if checkpoint.identity.uuid != opening.uuid() => {
            "it is that of another storage".to_owned()
        }
        Ok(Some(checkpoint)) => {
            opening.check_covered(&checkpoint)?;
            "its position is not in the journal".to_owned()
        }
        Err(error) => error.to_string(),
    };
    index.reset(&reason)?;
    Ok(None)
}

impl From<IndexError> for OpenError {
    fn from(error: IndexError) -> Self {
        Self::Index(error.0)
    }
}
