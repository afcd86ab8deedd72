//! The object locks of one storage: who holds which, and who waits.
//!
//! A voted transaction locks the objects that it writes for itself, and those that it read and
//! depends on together with others that do. It is queued for all of them at once, in one order, so
//! within a storage nothing deadlocks, and one with many objects is not overtaken for ever. What
//! waits, waits in this table; no thread does.

use std::collections::BTreeMap;

use zeo_proto::Oid;

/// Names a request; later ones are greater, which makes their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LockId(u64);

/// How an object is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// For one transaction alone.
    Exclusive,
    /// For all that only depend on it.
    Shared,
}

/// What a transaction wants to lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wants {
    /// These objects, each once.
    Objects(Vec<(Oid, Mode)>),
    /// All there are, because listing them would take too much of a turn.
    Everything,
}

/// All requests, held and waiting.
///
/// Bounded by the votes that may wait, and their objects by [`MOST_LISTED`] each.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    /// Each object's requests in their order.
    queues: BTreeMap<(Oid, LockId), Mode>,
    requests: BTreeMap<LockId, Request>,
    /// How many of the requests are for everything.
    for_everything: usize,
    last: u64,
}

#[derive(Debug)]
struct Request {
    wants: Wants,
    /// Objects that somebody before it has; or requests for everything, or for anything, before it.
    blocked: usize,
}

impl Wants {
    /// Objects that are written, and objects that are depended on. An object that is both is
    /// written.
    pub(crate) fn new(
        writes: impl Iterator<Item = Oid>,
        reads: impl Iterator<Item = Oid>,
        count: usize,
    ) -> Self {
        if count > MOST_LISTED {
            return Self::Everything;
        }
        let reads = reads.map(|oid| (oid, Mode::Shared));
        let writes = writes.map(|oid| (oid, Mode::Exclusive));
        // Collecting keeps the last of two.
        let objects: BTreeMap<Oid, Mode> = reads.chain(writes).collect();
        Self::Objects(objects.into_iter().collect())
    }
}

impl Locks {
    /// Nobody holds anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Whether a request would be granted at once.
    pub(crate) fn would_grant(&self, wants: &Wants) -> bool {
        self.is_empty() || self.blocks(wants) == 0
    }

    /// Adds a request behind those that are there.
    pub(crate) fn request(&mut self, wants: Wants) -> LockId {
        self.last += 1;
        let id = LockId(self.last);
        let blocked = self.blocks(&wants);
        match &wants {
            Wants::Objects(objects) => {
                self.queues.extend(objects.iter().map(|&(oid, mode)| ((oid, id), mode)));
            }
            Wants::Everything => self.for_everything += 1,
        }
        self.requests.insert(id, Request { wants, blocked });
        id
    }

    /// Whether all of a request is held.
    #[cfg(test)]
    fn is_granted(&self, id: LockId) -> bool {
        self.requests.get(&id).is_some_and(|request| request.blocked == 0)
    }

    /// Whether a request that is granted holds all of this already.
    pub(crate) fn covers(&self, id: LockId, wants: &Wants) -> bool {
        let Some(request) = self.requests.get(&id) else { return false };
        let Wants::Objects(held) = &request.wants else { return true };
        let Wants::Objects(wanted) = wants else { return false };
        let holds = |&(oid, mode): &(Oid, Mode)| {
            let place = held.binary_search_by_key(&oid, |&(oid, _)| oid);
            let held = place.ok().and_then(|place| held.get(place));
            held.is_some_and(|&(_, held)| held == Mode::Exclusive || mode == Mode::Shared)
        };
        wanted.iter().all(holds)
    }

    /// Lets go of a request, held or waiting; returns those that are granted by that, in order.
    pub(crate) fn release(&mut self, id: LockId) -> Vec<LockId> {
        let Some(request) = self.requests.remove(&id) else { return Vec::new() };
        let mut eased = match &request.wants {
            Wants::Objects(objects) => self.release_objects(id, objects),
            Wants::Everything => {
                self.for_everything -= 1;
                self.requests.range(id..).map(|(&later, _)| later).collect()
            }
        };
        // Whoever waits for everything waits for every request before it; one for everything was
        // counted above.
        if self.for_everything > 0 && matches!(request.wants, Wants::Objects(_)) {
            let is_for_everything = |request: &Request| request.wants == Wants::Everything;
            let later = self.requests.range(id..).filter(|(_, request)| is_for_everything(request));
            eased.extend(later.map(|(&later, _)| later));
        }
        let mut granted: Vec<LockId> =
            eased.into_iter().filter(|&later| self.is_granted_by_easing(later)).collect();
        granted.sort_unstable();
        granted
    }

    /// An object that a waiting request waits for, and who holds it or waits before.
    pub(crate) fn in_the_way(&self, id: LockId) -> Option<(Oid, LockId)> {
        let request = self.requests.get(&id)?;
        let first = |oid| self.queue(oid).map(|(before, _)| (oid, before)).next();
        let other = |found: &(Oid, LockId)| found.1 < id;
        let Wants::Objects(objects) = &request.wants else {
            return self.requests.keys().next().map(|&before| (Oid::ROOT, before)).filter(other);
        };
        let conflicts = |&&(oid, mode): &&(Oid, Mode)| self.is_behind(oid, mode, id);
        objects.iter().find(conflicts).and_then(|&(oid, _)| first(oid)).or_else(|| {
            let mut before = self.requests.range(..id);
            let (&before, _) = before.find(|(_, other)| other.wants == Wants::Everything)?;
            Some((objects.first().map_or(Oid::ROOT, |&(oid, _)| oid), before))
        })
    }

    /// How many objects a request is for; `None` if it is for all there are.
    pub(crate) fn objects_of(&self, id: LockId) -> Option<usize> {
        match &self.requests.get(&id)?.wants {
            Wants::Objects(objects) => Some(objects.len()),
            Wants::Everything => None,
        }
    }

    /// How many objects are locked or wanted.
    pub(crate) fn len(&self) -> usize {
        self.queues.len()
    }

    /// What keeps a request that comes now from being granted: objects, or requests.
    fn blocks(&self, wants: &Wants) -> usize {
        match wants {
            Wants::Everything => self.requests.len(),
            Wants::Objects(objects) => {
                let is_blocked =
                    |&&(oid, mode): &&(Oid, Mode)| self.is_behind(oid, mode, LockId(u64::MAX));
                self.for_everything + objects.iter().filter(is_blocked).count()
            }
        }
    }

    /// Whether somebody before `id` has the object, or waits for it, in a way that excludes.
    fn is_behind(&self, oid: Oid, mode: Mode, id: LockId) -> bool {
        let before = |other| mode == Mode::Exclusive || other == Mode::Exclusive;
        self.queue(oid).take_while(|&(other, _)| other < id).any(|(_, other)| before(other))
    }

    /// Takes a request out of its objects' queues; returns who has one object more by that.
    fn release_objects(&mut self, id: LockId, objects: &[(Oid, Mode)]) -> Vec<LockId> {
        let mut eased = Vec::new();
        for &(oid, _) in objects {
            let held: Vec<LockId> = self.holders(oid).collect();
            self.queues.remove(&(oid, id));
            eased.extend(self.holders(oid).filter(|holder| !held.contains(holder)));
        }
        eased
    }

    /// Counts that one thing less is in a request's way; whether that was the last.
    fn is_granted_by_easing(&mut self, id: LockId) -> bool {
        let Some(request) = self.requests.get_mut(&id) else { return false };
        request.blocked -= 1;
        request.blocked == 0
    }

    /// Who has an object: the first in its queue, and those behind it that share it.
    fn holders(&self, oid: Oid) -> impl Iterator<Item = LockId> {
        let mut shared = true;
        let mut is_first = true;
        let holds = move |&(_, mode): &(LockId, Mode)| {
            shared &= mode == Mode::Shared;
            core::mem::take(&mut is_first) || shared
        };
        self.queue(oid).take_while(holds).map(|(id, _)| id)
    }

    fn queue(&self, oid: Oid) -> impl Iterator<Item = (LockId, Mode)> {
        let range = (oid, LockId(0))..=(oid, LockId(u64::MAX));
        self.queues.range(range).map(|(&(_, id), &mode)| (id, mode))
    }
}

/// Objects that one request lists; one of more is for everything. 64 Ki take some milliseconds.
const MOST_LISTED: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn who_comes_first_holds_and_the_next_has_it_when_he_lets_go() {
        let mut locks = Locks::default();
        let [a, b, c] = [(); 3].map(|()| locks.request(exclusive(&[1])));
        assert_eq!([a, b, c].map(|id| locks.is_granted(id)), [true, false, false]);
        assert_eq!(locks.in_the_way(c), Some((Oid::new(1), a)));
        assert_eq!(locks.release(a), [b]);
        assert_eq!(locks.release(b), [c]);
        assert_eq!(locks.release(c), []);
        assert!(locks.is_empty() && locks.queues.is_empty());
    }

    #[test]
    fn those_that_only_depend_on_an_object_have_it_together() {
        let mut locks = Locks::default();
        let [a, b] = [(); 2].map(|()| locks.request(shared(&[1])));
        let writer = locks.request(exclusive(&[1]));
        let late = locks.request(shared(&[1]));
        let granted = [a, b, writer, late].map(|id| locks.is_granted(id));
        assert_eq!(granted, [true, true, false, false], "nobody overtakes the writer");
        assert_eq!(locks.release(a), []);
        assert_eq!(locks.release(b), [writer]);
        assert_eq!(locks.release(writer), [late]);
    }

    #[test]
    fn one_that_waits_and_leaves_lets_those_behind_it_through() {
        let mut locks = Locks::default();
        let a = locks.request(shared(&[1]));
        let writer = locks.request(exclusive(&[1, 2]));
        let (b, c) = (locks.request(shared(&[1])), locks.request(exclusive(&[2])));
        assert_eq!(locks.release(writer), [b, c]);
        assert!(locks.is_granted(a) && locks.is_granted(b));
    }

    #[test]
    fn a_request_for_everything_waits_for_all_before_it_and_all_wait_for_it() {
        let mut locks = Locks::default();
        let (a, b) = (locks.request(exclusive(&[1])), locks.request(exclusive(&[2])));
        let all = locks.request(Wants::Everything);
        let late = locks.request(exclusive(&[3]));
        assert_eq!(locks.release(a), []);
        assert!(!locks.is_granted(all) && !locks.is_granted(late));
        assert_eq!(locks.in_the_way(all), Some((Oid::ROOT, b)));
        assert_eq!(locks.in_the_way(late), Some((Oid::new(3), all)));
        assert_eq!(locks.release(b), [all]);
        let next = locks.request(Wants::Everything);
        assert_eq!(locks.release(all), [late]);
        assert_eq!(locks.release(late), [next]);
    }

    #[test]
    fn what_is_held_need_not_be_asked_for_again() {
        let mut locks = Locks::default();
        let id = locks.request(Wants::Objects(vec![
            (Oid::new(1), Mode::Exclusive),
            (Oid::new(2), Mode::Shared),
        ]));
        assert!(locks.covers(id, &exclusive(&[1])) && locks.covers(id, &shared(&[1, 2])));
        assert!(!locks.covers(id, &exclusive(&[2])) && !locks.covers(id, &shared(&[3])));
        assert!(!locks.covers(id, &Wants::Everything));
    }

    #[test]
    fn an_object_that_is_read_and_written_is_locked_once() {
        let oids = |numbers: [u64; 2]| numbers.into_iter().map(Oid::new);
        let expected = [(1, Mode::Shared), (2, Mode::Exclusive), (3, Mode::Exclusive)];
        let expected = expected.map(|(number, mode)| (Oid::new(number), mode));
        assert_eq!(Wants::new(oids([3, 2]), oids([1, 2]), 4), Wants::Objects(expected.into()));
        assert_eq!(Wants::new(oids([3, 2]), oids([1, 2]), MOST_LISTED + 1), Wants::Everything);
    }

    proptest! {
        /// Against the definition: a request is granted exactly when no earlier one that is still
        /// there excludes it; and all are granted in the end.
        #[test]
        fn requests_are_granted_as_the_definition_says(
            steps in proptest::collection::vec((any::<bool>(), any::<u16>()), 1..80)
        ) {
            let mut locks = Locks::default();
            let mut present: Vec<(LockId, Wants)> = Vec::new();
            let mut told: Vec<LockId> = Vec::new();
            for (adds, choice) in steps {
                if adds || present.is_empty() {
                    let wants = arbitrary(choice);
                    let would = locks.would_grant(&wants);
                    let id = locks.request(wants.clone());
                    prop_assert_eq!(would, locks.is_granted(id));
                    if would {
                        told.push(id);
                    }
                    present.push((id, wants));
                } else {
                    let (id, _) = present.remove(usize::from(choice) % present.len());
                    told.extend(locks.release(id));
                }
                for (place, (id, wants)) in present.iter().enumerate() {
                    let free = present[..place].iter().all(|(_, other)| !excludes(other, wants));
                    prop_assert_eq!(locks.is_granted(*id), free);
                    prop_assert_eq!(told.contains(id), free, "each is told of its grant");
                    prop_assert_eq!(locks.in_the_way(*id).is_some(), !free);
                }
            }
            while let Some((id, _)) = present.first().cloned() {
                prop_assert!(locks.is_granted(id), "the oldest always is");
                present.remove(0);
                locks.release(id);
            }
            prop_assert!(locks.is_empty() && locks.queues.is_empty() && locks.for_everything == 0);
        }
    }

    /// Some of four objects, each in some mode; rarely everything.
    fn arbitrary(choice: u16) -> Wants {
        if choice.is_multiple_of(11) {
            return Wants::Everything;
        }
        let modes = (0..4).map(|oid| (oid, choice >> (2 * oid) & 3));
        let mode = |bits| if bits == 1 { Mode::Exclusive } else { Mode::Shared };
        let wanted = modes.filter(|(_, bits)| (1..3).contains(bits));
        Wants::Objects(wanted.map(|(oid, bits)| (Oid::new(oid), mode(bits))).collect())
    }

    fn excludes(one: &Wants, other: &Wants) -> bool {
        let (Wants::Objects(one), Wants::Objects(other)) = (one, other) else { return true };
        let shared = |modes: (Mode, Mode)| modes == (Mode::Shared, Mode::Shared);
        one.iter().any(|a| other.iter().any(|b| a.0 == b.0 && !shared((a.1, b.1))))
    }

    fn exclusive(oids: &[u64]) -> Wants {
        Wants::Objects(oids.iter().map(|&oid| (Oid::new(oid), Mode::Exclusive)).collect())
    }

    fn shared(oids: &[u64]) -> Wants {
        Wants::Objects(oids.iter().map(|&oid| (Oid::new(oid), Mode::Shared)).collect())
    }
}
