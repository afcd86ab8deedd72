//! The end of the journal: where groups are appended, and where space for them is prepared.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zeo_proto::Tid;

use super::build::GroupBuilder;
use super::format::{GroupHeader, Position, SEGMENT_HEADER, SegmentHeader};
use super::scan::fill_with_zeros;
use super::segments::{Segments, failed};
use crate::storage::disk::{Disk, DiskFile, is_full};
use crate::storage::spill::CopyError;
use crate::storage::{Refused, StorageError};

/// Where the next group goes.
#[derive(Debug)]
pub(super) struct Tail<F> {
    file: Arc<F>,
    /// The durable end of the journal.
    end: Position,
    /// Bytes of the segments before this one.
    before: u64,
    /// Whether the segment's space was prepared: writing into it is faster than extending it.
    prepared: bool,
    /// Why nothing may be written until the journal is opened again.
    poison: Option<String>,
}

/// Where a group was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::storage) struct Appended {
    pub(in crate::storage) at: Position,
    pub(in crate::storage) end: Position,
    /// The crc of its items, to know it again by.
    pub(in crate::storage) crc: u32,
}

/// Segments whose space is prepared.
///
/// Locked where a segment is begun or prepared: a commit that needs the segment that is just
/// being prepared waits for it.
#[derive(Debug)]
pub(super) struct Prepared<F> {
    segment_bytes: u32,
    state: Mutex<PreparedState<F>>,
    /// Whether a segment should be prepared; read without waiting for whoever does it.
    wanted: AtomicBool,
    ready: AtomicBool,
}

#[derive(Debug)]
struct PreparedState<F> {
    /// The highest number that is in use, or that a commit is about to use.
    taken: u32,
    ready: BTreeMap<u32, Arc<F>>,
}

/// Where to write a group, and the header of its segment if that begins with it.
struct Target<F> {
    file: Arc<F>,
    at: Position,
    fresh: bool,
    prepared: bool,
}

impl<F: DiskFile> Tail<F> {
    /// `before` are the bytes of the segments before the one in use.
    pub(super) fn new(file: Arc<F>, end: Position, before: u64, prepared: bool) -> Self {
        Self { file, end, before, prepared, poison: None }
    }

    /// Bytes of all segments up to the durable end.
    pub(super) fn used(&self) -> u64 {
        self.before + u64::from(self.end.offset)
    }

    pub(super) fn end(&self) -> Position {
        self.end
    }

    pub(super) fn poison(&self) -> Option<&str> {
        self.poison.as_deref()
    }

    /// Writes a group and makes it durable, with one write (more if it is large) and one sync.
    pub(super) fn append<D: Disk<File = F>>(
        &mut self,
        segments: &Segments<D>,
        prepared: &Prepared<F>,
        mut group: GroupBuilder,
        (uuid, tid_before): ([u8; 16], Tid),
    ) -> Result<Appended, Refused> {
        if let Some(poison) = self.poison() {
            return Err(Refused::Failed(poison.to_owned()));
        }
        let (items_len, items_crc) = group.items();
        let target = self.target(segments, prepared, items_len)?;
        let (at, durable) = (target.at, self.end);
        let header = GroupHeader { items_crc, items_len, at, durable, tid_before };
        let end = header.end().ok_or_else(|| Refused::Failed("the group is too long".into()))?;
        group.seal(&header.encode(uuid));
        self.write(&target, &group, (uuid, tid_before))?;
        if target.fresh {
            segments.insert(at.segment, Arc::clone(&target.file));
            self.before = self.used();
            self.prepared = target.prepared;
            self.file = target.file;
        }
        self.end = end;
        Ok(Appended { at, end, crc: items_crc })
    }

    /// The end of this segment, or the next one: if the group does not fit, or if this one was
    /// not prepared and another is.
    fn target<D: Disk<File = F>>(
        &self,
        segments: &Segments<D>,
        prepared: &Prepared<F>,
        items_len: u32,
    ) -> Result<Target<F>, Refused> {
        let (at, file) = (self.end, Arc::clone(&self.file));
        let here = GroupHeader { items_len, at, ..GroupHeader::default() };
        let fits = here.end().is_some_and(|end| end.offset <= prepared.segment_bytes);
        let better = !self.prepared && prepared.ready.load(Ordering::Acquire);
        if fits && !better {
            return Ok(Target { file, at, fresh: false, prepared: self.prepared });
        }
        let segment = self.end.segment + 1;
        let (file, prepared) =
            prepared.take(segments, segment).map_err(|error| not_begun(&error))?;
        let at = Position { segment, offset: SEGMENT_HEADER };
        Ok(Target { file, at, fresh: true, prepared })
    }

    /// Writes and syncs a sealed group. If there is no room, nothing of it is left.
    fn write(
        &mut self,
        target: &Target<F>,
        group: &GroupBuilder,
        (uuid, tid_before): ([u8; 16], Tid),
    ) -> Result<(), Refused> {
        let header =
            SegmentHeader { segment: target.at.segment, uuid, before: self.end, tid_before };
        match target.write(&header, group) {
            Ok(()) => target.file.sync_data().map_err(|error| self.poison_with("sync", &error)),
            Err(CopyError::Write(error)) if !is_full(&error) => {
                Err(self.poison_with("write", &error))
            }
            Err(CopyError::Write(_)) => self.take_back(target, Refused::DiskFull),
            Err(CopyError::Read(error)) => {
                let text = format!("data that waited in a file cannot be read again: {error}");
                self.take_back(target, Refused::Failed(text))
            }
        }
    }

    /// Leaves nothing of a group that could not be written whole.
    fn take_back(&mut self, target: &Target<F>, refused: Refused) -> Result<(), Refused> {
        self.prepared &= target.fresh;
        target.erase().map_err(|error| self.poison_with("erase", &error))?;
        Err(refused)
    }

    fn poison_with(&mut self, what: &str, error: &io::Error) -> Refused {
        let at = self.end;
        let reason = failed(what, at)(io::Error::new(error.kind(), error.to_string())).to_string();
        tracing::error!(%reason, "the journal takes no more commits until it is opened again");
        self.poison = Some(format!("the journal failed earlier: {reason}"));
        Refused::Unknown(reason)
    }
}

impl<F: DiskFile> Target<F> {
    fn write(&self, header: &SegmentHeader, group: &GroupBuilder) -> Result<(), CopyError> {
        if self.fresh {
            self.file.write_at(&header.encode(), 0).map_err(CopyError::Write)?;
        }
        group.write(self.file.as_ref(), self.at.offset)
    }

    /// Takes back a write that found no room, so durably that it cannot come back to life.
    fn erase(&self) -> io::Result<()> {
        self.file.set_len(if self.fresh { 0 } else { u64::from(self.at.offset) })?;
        self.file.sync_data()
    }
}

impl<F: DiskFile> Prepared<F> {
    /// `last` is the number of the segment in use, `ready` the next if its space is prepared.
    pub(super) fn new(segment_bytes: u32, last: u32, ready: Option<Arc<F>>) -> Self {
        let is_ready = ready.is_some();
        let ready = ready.map(|file| (last + 1, file)).into_iter().collect();
        Self {
            segment_bytes,
            state: Mutex::new(PreparedState { taken: last, ready }),
            wanted: AtomicBool::new(!is_ready),
            ready: AtomicBool::new(is_ready),
        }
    }

    pub(super) fn wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }

    /// Prepares the next segment unless one is ready. A failure is not tried again before the
    /// next segment is begun.
    pub(super) fn prepare<D: Disk<File = F>>(
        &self,
        segments: &Segments<D>,
    ) -> Result<(), StorageError> {
        let mut state = self.lock();
        self.wanted.store(false, Ordering::Release);
        if !state.ready.is_empty() {
            return Ok(());
        }
        let segment = state.taken + 1;
        let file = self.zeroed(segments, segment);
        let file = file.map_err(failed("prepare", Position { segment, offset: 0 }))?;
        state.ready.insert(segment, file);
        self.ready.store(true, Ordering::Release);
        Ok(())
    }

    fn zeroed<D: Disk<File = F>>(
        &self,
        segments: &Segments<D>,
        segment: u32,
    ) -> io::Result<Arc<F>> {
        let file = segments.create(segment)?;
        fill_with_zeros(file.as_ref(), self.segment_bytes).inspect_err(|_| {
            // A full disk needs its room back; if that fails as well, opening cleans up.
            drop(segments.remove(segment));
        })?;
        Ok(file)
    }

    /// The file for a new segment, and whether its space is prepared.
    fn take<D: Disk<File = F>>(
        &self,
        segments: &Segments<D>,
        segment: u32,
    ) -> io::Result<(Arc<F>, bool)> {
        let mut state = self.lock();
        state.taken = state.taken.max(segment);
        let ready = state.ready.remove(&segment);
        self.ready.store(state.ready.contains_key(&(segment + 1)), Ordering::Release);
        self.wanted.store(state.ready.is_empty(), Ordering::Release);
        match ready {
            Some(file) => Ok((file, true)),
            None => Ok((segments.create(segment)?, false)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, PreparedState<F>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// No segment could be begun; nothing was written.
fn not_begun(error: &io::Error) -> Refused {
    if is_full(error) {
        return Refused::DiskFull;
    }
    Refused::Failed(format!("begin a segment of the journal: {error}"))
}
