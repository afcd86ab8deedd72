//! A `LoadMany` on its way: answered in the order asked, a page whenever one is full.

use std::collections::BTreeMap;

use zeo_proto::Loaded;

use crate::lane::{Answer, Wanted};
use crate::session::Caller;
use crate::storage::Found;

/// What is known of one batch.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Who asked.
    pub(crate) caller: Caller,
    /// Answers that are not sent yet, by their place.
    answers: BTreeMap<u64, Answer>,
    /// Bytes of data in them.
    held: usize,
    /// How many were sent, in the order asked.
    sent: u64,
    /// How many are there of those that come next, and the bytes of data in them.
    ready: u64,
    ready_bytes: usize,
    total: u64,
    /// It is in its lane's queue of what can be sent.
    pub(crate) queued: bool,
}

/// One page of an answer to `LoadMany`.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// What was found, in the order asked.
    pub(crate) loaded: Vec<Loaded>,
    /// The data of all of them, one after the other.
    pub(crate) data: Vec<u8>,
}

impl Batch {
    /// A batch of so many objects, at least one.
    pub(crate) fn new(caller: Caller, total: u64) -> Self {
        let answers = BTreeMap::new();
        Self { caller, answers, held: 0, sent: 0, ready: 0, ready_bytes: 0, total, queued: false }
    }

    /// Keeps the answer for a place until it is its turn.
    pub(crate) fn insert(&mut self, place: u64, answer: Answer) {
        self.held += answer.size();
        self.answers.insert(place, answer);
        while let Some(answer) = self.answers.get(&(self.sent + self.ready)) {
            self.ready += 1;
            self.ready_bytes += answer.size();
        }
    }

    /// Whether there is enough to send: a page, or all that is left.
    pub(crate) fn has_page(&self) -> bool {
        self.ready_bytes >= PAGE_BYTES || self.sent + self.ready == self.total
    }

    /// Whether everything was sent.
    pub(crate) fn is_complete(&self) -> bool {
        self.sent == self.total
    }

    /// Bytes of data in answers that are not sent yet.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Takes what goes into the next page, each answer sealed as of now. One that has to be loaded
    /// again ends the page, which may be empty then.
    pub(crate) fn take_page(
        &mut self,
        mut seal: impl FnMut(Answer) -> Result<Answer, Wanted>,
    ) -> (Page, Option<Wanted>) {
        let data = Vec::with_capacity(self.ready_bytes.min(PAGE_BYTES));
        let mut page = Page { loaded: Vec::new(), data };
        while let Some(answer) = self.take_next(&page) {
            match seal(answer) {
                Ok(answer) => page.add(answer.found),
                Err(wanted) => {
                    (self.ready, self.ready_bytes) = (0, 0);
                    return (page, Some(wanted));
                }
            }
            self.sent += 1;
        }
        (page, None)
    }

    fn take_next(&mut self, page: &Page) -> Option<Answer> {
        let next = self.answers.first_entry().filter(|next| *next.key() == self.sent)?;
        let size = next.get().size();
        if !page.has_room(size) {
            return None;
        }
        self.ready -= 1;
        self.ready_bytes -= size;
        self.held -= size;
        Some(next.remove())
    }
}

impl Page {
    fn has_room(&self, more: usize) -> bool {
        self.loaded.is_empty() || self.data.len() + more <= PAGE_BYTES
    }

    fn add(&mut self, found: Found) {
        let (loaded, data) = found.into_outgoing();
        self.loaded.push(loaded);
        self.data.extend_from_slice(&data);
    }
}

/// A page of a batch ends at about this many bytes; one object may be larger.
const PAGE_BYTES: usize = 128 << 10;
const _: () = assert!(PAGE_BYTES < zeo_proto::MAX_FRAME);

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use zeo_proto::{Tid, Validity};

    use super::*;

    #[test]
    fn a_page_is_full_at_its_bound_or_with_one_object() {
        let mut page = Page::default();
        assert!(page.has_room(PAGE_BYTES + 1), "one object may fill a page");
        page.add(revision(PAGE_BYTES - 1));
        assert!(page.has_room(1));
        assert!(!page.has_room(2));
    }

    fn revision(size: usize) -> Found {
        let validity = Validity { serial: Tid::new(1), end: None };
        Found::Revision(validity, Bytes::from(vec![7; size]))
    }
}
