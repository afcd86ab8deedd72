//! Sound journals that are then damaged: what is lost is known, and the rest is there.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use zeo_proto::{Oid, Tid, Validity};

use super::history::{History, Revision, Script, Span, takes_a_commit};
use super::{Files, Simulated, disk_with, is_harmless, name, open};
use crate::storage::index::MapIndex;
use crate::storage::journal::{Position, START};
use crate::storage::{
    Cursor, Found, HistoryItem, OpenError, Storage, StorageError, TransactionsPage,
};

/// Commits and edits to the files, as the bytes say; then the storage is opened, without an index
/// and with the one that it had.
///
/// It is refused as damaged at the first place that is, and nothing is changed; or, where nothing
/// proves that there was more, it ends there. What lies before is read as it was written, record by
/// record; a damaged record is an error.
pub fn damaged_journal(data: &[u8]) {
    let mut script = Script(data);
    let history = History::make(&mut script);
    let mut files = history.files.clone();
    while !script.is_empty() {
        edit(&mut script, &mut files);
    }
    let damaged = Damaged { history: &history, files: &files };
    damaged.opens_as_it_should(&MapIndex::default(), 0);
    damaged.opens_as_it_should(&history.index, damaged.covered());
}

/// A history, and what has become of its files.
struct Damaged<'a> {
    history: &'a History,
    files: &'a Files,
}

impl Damaged<'_> {
    /// How many groups the index makes it unnecessary to read again.
    fn covered(&self) -> usize {
        let covered = self.history.covered();
        let last = covered.checked_sub(1).and_then(|at| self.history.groups.get(at));
        let reached =
            last.is_some_and(|group| self.is_readable(group.at.segment, header_of(group)));
        if reached { covered } else { 0 }
    }

    fn opens_as_it_should(&self, index: &MapIndex, covered: usize) {
        let disk = disk_with(self.files);
        // An index that knows more than the journal is made anew, and all is read again.
        let ends = [self.sound(covered), self.sound(0)];
        match open(&disk, index) {
            Ok(storage) => {
                let last_tid = storage.last_tid();
                let ends_at = |count: &usize| self.history.end(*count).1 == last_tid;
                let end = ends.into_iter().find(ends_at).expect("it ends with a sound group");
                assert!(!self.proves_more(end), "group {end} was lost in silence");
                self.is_read(&storage, end);
            }
            Err(refused) => {
                is_harmless(&refused, self.files, &disk);
                let located = ends.iter().any(|&lost| self.is_located(&refused, lost));
                assert!(located, "{refused}");
            }
        }
    }

    /// How many groups are found: those that the index covers, and on from there up to the first
    /// that is damaged. Without the very first there is nothing, nor where no segment says whose
    /// it is.
    fn sound(&self, covered: usize) -> usize {
        let groups = &self.history.groups;
        let known = groups.iter().any(|group| self.is_begun(group.at.segment));
        if !known || !groups.first().is_some_and(|first| self.is_whole(first)) {
            return 0;
        }
        let whole = groups.iter().skip(covered).take_while(|group| self.is_whole(group));
        covered + whole.count()
    }

    /// Whether there is something that was written after the group of that number.
    fn proves_more(&self, lost: usize) -> bool {
        let (end, _) = self.history.end(lost);
        let later = self.history.groups.iter().skip(lost + 1);
        later.clone().any(|group| self.is_headed(group))
            || later.map(|group| group.at).any(|at| {
                at.offset == START.offset && at.segment > end.segment && self.is_begun(at.segment)
            })
    }

    fn is_whole(&self, group: &Span) -> bool {
        self.is_intact(group.at.segment, group.at.offset..group.items.end)
    }

    fn is_headed(&self, group: &Span) -> bool {
        self.is_intact(group.at.segment, header_of(group))
    }

    fn is_begun(&self, segment: u32) -> bool {
        self.is_intact(segment, 0..START.offset)
    }

    fn is_intact(&self, segment: u32, range: Range<u32>) -> bool {
        let part = |files: &Files| files.get(&segment)?.get(bounds(&range)).map(<[u8]>::to_vec);
        part(self.files).is_some_and(|now| Some(now) == part(&self.history.files))
    }

    /// The same for what is known to be there: zeros that are cut off are no loss.
    fn is_readable(&self, segment: u32, range: Range<u32>) -> bool {
        let there = |file: &Vec<u8>| {
            let bytes = file.iter().copied().chain(std::iter::repeat(0));
            bytes.skip(range.start as usize).take(range.len()).collect::<Vec<_>>()
        };
        let part = |files: &Files| files.get(&segment).map(there);
        part(self.files).is_some_and(|now| Some(now) == part(&self.history.files))
    }

    /// Whether it is said where the group is that is lost first, and what is before it.
    fn is_located(&self, refused: &OpenError, lost: usize) -> bool {
        let OpenError::Damaged(damage) = refused else { return true };
        let groups = &self.history.groups;
        let (end, after) = self.history.end(lost);
        let known = self.history.covered().checked_sub(1).and_then(|last| groups.get(last));
        let places =
            [Some(end), groups.get(lost).map(|group| group.at), known.map(|group| group.at)];
        let found = |at: &Position| {
            damage.file == format!("journal/{}", name(at.segment))
                && damage.offset == u64::from(at.offset)
        };
        lost < groups.len() && damage.after == after && places.iter().flatten().any(found)
    }

    /// What was committed up to that group is read, and more can be committed.
    fn is_read(&self, storage: &Simulated, sound: usize) {
        let (_, last_tid) = self.history.end(sound);
        assert_eq!(storage.last_tid(), last_tid);
        self.is_counted(storage, sound);
        self.is_listed(storage, sound);
        let revisions = || self.history.revisions.iter().filter(|revision| revision.group < sound);
        for revision in revisions() {
            self.is_answered(storage, revision, last_tid);
        }
        for revision in &self.history.revisions {
            takes_a_commit(storage, revision.oid);
        }
        for revision in revisions() {
            self.is_answered(storage, revision, last_tid);
        }
    }

    /// The objects are counted as they are up to that group.
    fn is_counted(&self, storage: &Simulated, sound: usize) {
        let mut newest = BTreeMap::new();
        for revision in self.history.revisions.iter().filter(|revision| revision.group < sound) {
            let newest = newest.entry(revision.oid).or_insert((revision.serial, false));
            if revision.serial >= newest.0 {
                *newest = (revision.serial, !revision.place.deleted);
            }
        }
        let objects = newest.values().filter(|&&(_, is_there)| is_there).count() as u64;
        assert_eq!(storage.size().objects, objects);
    }

    /// Every record on a page of transactions is as it was written, and those of whole groups are
    /// all there.
    fn is_listed(&self, storage: &Simulated, sound: usize) {
        let (mut listed, mut next) = (BTreeSet::new(), Cursor::new(Tid::ZERO));
        let (_, through) = self.history.end(sound);
        loop {
            match storage.transactions(&next, through, 300) {
                Ok(page) => {
                    self.is_on_page(&page, next.tid, &mut listed);
                    let Some(following) = page.next else { break };
                    next = following;
                }
                // What is damaged is passed over, transaction by transaction.
                Err(StorageError::Damaged(_)) => match self.following(next.tid) {
                    Some(tid) => next = Cursor::new(tid),
                    None => break,
                },
                Err(error) => panic!("{error}"),
            }
        }
        let whole = |revision: &&Revision| {
            let groups = self.history.groups.get(..=revision.group).unwrap_or_default();
            groups.iter().all(|group| self.is_readable(group.at.segment, header_of(group)))
                && groups.last().is_some_and(|group| {
                    let all = group.at.offset..group.items.end;
                    self.is_readable(group.at.segment, all)
                })
        };
        let revisions = self.history.revisions.iter().filter(|revision| revision.group < sound);
        for revision in revisions.filter(whole) {
            assert!(listed.contains(&(revision.oid, revision.serial)), "{revision:?}");
        }
    }

    fn is_on_page(&self, page: &TransactionsPage, mut tid: Tid, listed: &mut BTreeSet<(Oid, Tid)>) {
        for item in &page.items {
            match item {
                HistoryItem::Transaction(head) => tid = head.tid,
                HistoryItem::Record(record) => {
                    let is_it = |it: &&Revision| (it.oid, it.serial) == (record.oid, tid);
                    let written = self.history.revisions.iter().find(is_it);
                    let data = written.map(|it| match &it.found {
                        Found::Revision(_, data) => Some(data.clone()),
                        Found::Deleted(_) | Found::Absent => None,
                    });
                    assert_eq!(Some(&record.data), data.as_ref());
                    listed.insert((record.oid, tid));
                }
            }
        }
    }

    /// The next transaction of the history after a tid.
    fn following(&self, tid: Tid) -> Option<Tid> {
        let serials = self.history.revisions.iter().map(|revision| revision.serial);
        serials.filter(|&serial| serial > tid).min()
    }

    fn is_answered(&self, storage: &Simulated, revision: &Revision, as_of: Tid) {
        let answer = storage.load_before(revision.oid, revision.serial.next(), as_of);
        let place = revision.place;
        let range = place.at.offset..place.at.offset + place.len;
        if place.deleted || self.is_readable(place.at.segment, range) {
            assert_eq!(answer.ok(), Some(known_until(as_of, &revision.found)));
        } else {
            assert!(matches!(answer, Err(StorageError::Damaged(_))), "{answer:?}");
        }
    }
}

fn header_of(group: &Span) -> Range<u32> {
    group.at.offset..group.items.start
}

fn bounds(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}

/// The same as a reader sees it who knows nothing after that tid.
fn known_until(as_of: Tid, found: &Found) -> Found {
    let seen = |validity: &Validity| Validity {
        end: validity.end.filter(|&end| end <= as_of),
        ..*validity
    };
    match found {
        Found::Revision(validity, data) => Found::Revision(seen(validity), data.clone()),
        Found::Deleted(validity) => Found::Deleted(seen(validity)),
        Found::Absent => Found::Absent,
    }
}

/// Changes one file as the script says.
fn edit(script: &mut Script<'_>, files: &mut Files) {
    let (kind, which) = (script.byte() % 8, script.below(files.len()));
    let Some(number) = files.keys().nth(which).copied() else { return };
    let file = files.entry(number).or_default();
    let at = script.below(file.len());
    match kind {
        0 | 1 => fill(file, at..at + 1, |byte| byte ^ (script.byte() | 1)),
        2 => fill(file, at..at + script.below(300), |_| 0),
        3 => fill(file, at..at + script.below(300), |byte| !byte),
        4 => file.truncate(at),
        5 => copy(script, file, at),
        6 => file.resize(file.len() + at, script.byte()),
        _ => rename(script, files, number),
    }
}

fn fill(file: &mut [u8], range: Range<usize>, mut new: impl FnMut(u8) -> u8) {
    let end = range.end.min(file.len());
    for byte in file.get_mut(range.start..end).unwrap_or_default() {
        *byte = new(*byte);
    }
}

/// Copies a part of a file to another place in it.
fn copy(script: &mut Script<'_>, file: &mut [u8], to: usize) {
    let len = script.below(300).min(file.len() - to);
    let from = script.below(file.len() - len + 1);
    if from + len <= file.len() {
        file.copy_within(from..from + len, to);
    }
}

/// Removes a file, or gives it another number.
fn rename(script: &mut Script<'_>, files: &mut Files, number: u32) {
    let file = files.remove(&number).unwrap_or_default();
    let other = u32::from(script.byte() % 16);
    if other > 0 {
        files.insert(START.segment + other, file);
    }
}
