//! What a commit writes, as its publication needs it: each object once, in order.
//!
//! A publication is one turn, whatever its size, so all that does not need the reactor is done
//! before, in the commit stage.

use bytes::Bytes;
use zeo_proto::Oid;

/// Objects and, where it is in memory, their new data; `None` forgets what was known of one.
#[derive(Debug, Default)]
pub(crate) struct Writes(Vec<(Oid, Option<Bytes>)>);

impl Writes {
    /// In the order in which they were stored; of two of one object, the later counts.
    pub(crate) fn new(stored: Vec<(Oid, Option<Bytes>)>) -> Self {
        Self(stored)
    }

    /// Brings them into order. The data of very many is let go: it is not worth the turn that it
    /// would take to keep it.
    pub(crate) fn settle(&mut self) {
        self.0.sort_by_key(|&(oid, _)| oid);
        self.0.dedup_by(|later, kept| {
            let is_same = later.0 == kept.0;
            if is_same {
                core::mem::swap(later, kept);
            }
            is_same
        });
        if self.0.len() > MANY {
            self.0.iter_mut().for_each(|(_, data)| *data = None);
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The objects; each once, in order, when they have been settled.
    pub(crate) fn oids(&self) -> Vec<Oid> {
        self.0.iter().map(|&(oid, _)| oid).collect()
    }

    /// Each object with its new data.
    pub(crate) fn into_data(self) -> impl Iterator<Item = (Oid, Option<Bytes>)> {
        self.0.into_iter()
    }
}

/// Objects of one commit of which none is kept in memory, and that are not remembered one by one.
pub(crate) const MANY: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_writes_of_one_object_the_later_counts() {
        let data = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
        let (a, b) = (Oid::new(1), Oid::new(2));
        let mut writes =
            Writes::new(vec![(b, data("1")), (a, data("2")), (b, data("3")), (b, None)]);
        writes.settle();
        assert_eq!(writes.oids(), [a, b]);
        assert_eq!(writes.into_data().collect::<Vec<_>>(), [(a, data("2")), (b, None)]);
    }
}
