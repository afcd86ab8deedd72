//! The objects of the commits that are on their way through the commit stage without object locks.
//!
//! A vote asks whether what is published of its objects is what is current. Commits with locks need
//! not be here: nobody else has the locks of their objects until they are published.

use std::collections::BTreeMap;

use zeo_proto::Oid;

/// Which objects are being written by somebody who has not locked them.
#[derive(Debug, Default)]
pub(crate) struct UnderWay {
    /// By how many commits.
    objects: BTreeMap<Oid, u32>,
    /// Commits of so many objects that these are not here one by one.
    large: usize,
}

/// A commit's entry, to be given back at its end.
#[derive(Debug)]
pub(crate) enum Passage {
    /// It has locked its objects.
    Locked,
    /// It writes these, some of them perhaps several times.
    Listed(Vec<Oid>),
    /// It may write any.
    Large,
}

impl UnderWay {
    /// A commit without locks sets out.
    pub(crate) fn begin(&mut self, written: impl ExactSizeIterator<Item = Oid>) -> Passage {
        if written.len() > LISTED {
            self.large += 1;
            return Passage::Large;
        }
        let oids: Vec<Oid> = written.collect();
        for &oid in &oids {
            *self.objects.entry(oid).or_default() += 1;
        }
        Passage::Listed(oids)
    }

    /// It is published, or refused.
    pub(crate) fn end(&mut self, passage: Passage) {
        match passage {
            Passage::Locked => {}
            Passage::Large => self.large -= 1,
            Passage::Listed(oids) => oids.into_iter().for_each(|oid| self.end_of(oid)),
        }
    }

    fn end_of(&mut self, oid: Oid) {
        if let Some(count) = self.objects.get_mut(&oid) {
            *count -= 1;
            if *count == 0 {
                self.objects.remove(&oid);
            }
        }
    }

    /// Whether an object may be written by one of them.
    pub(crate) fn has(&self, oid: Oid) -> bool {
        self.large > 0 || self.objects.contains_key(&oid)
    }
}

/// Objects of one commit that are listed; more would take too long in the turn of its vote.
const LISTED: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    const A: Oid = Oid::new(1);
    const B: Oid = Oid::new(2);

    #[test]
    fn an_object_is_under_way_until_the_last_commit_of_it_ends() {
        let mut under_way = UnderWay::default();
        let [one, two] = [[A, A], [A, B]].map(|oids| under_way.begin(oids.into_iter()));
        assert!(under_way.has(A) && under_way.has(B));
        under_way.end(one);
        assert!(under_way.has(A) && under_way.has(B));
        under_way.end(two);
        assert!(!under_way.has(A) && !under_way.has(B));
    }

    #[test]
    fn a_large_commit_may_write_anything() {
        let mut under_way = UnderWay::default();
        let large = under_way.begin(vec![A; LISTED + 1].into_iter());
        assert!(under_way.has(B));
        under_way.end(large);
        under_way.end(Passage::Locked);
        assert!(!under_way.has(B) && !under_way.has(A));
    }
}
