//! What is due when: an ordered queue whose entries can be cancelled and moved.

use std::collections::BTreeMap;

use crate::Time;

/// Names one timer of one reactor; names nothing once the timer has run or was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerId(u64);

/// Entries leave in the order of their deadlines; equal ones in the order they were set.
#[derive(Debug)]
pub(crate) struct Timers<T> {
    queue: BTreeMap<Place, (TimerId, T)>,
    places: BTreeMap<TimerId, Place>,
    next: u64,
}

type Place = (Time, u64);

impl<T> Timers<T> {
    pub(crate) const fn new() -> Self {
        Self { queue: BTreeMap::new(), places: BTreeMap::new(), next: 0 }
    }

    pub(crate) fn add(&mut self, at: Time, entry: T) -> TimerId {
        let place = self.place(at);
        let timer = TimerId(place.1);
        self.insert(place, timer, entry);
        timer
    }

    pub(crate) fn cancel(&mut self, timer: TimerId) -> Option<T> {
        let place = self.places.remove(&timer)?;
        self.queue.remove(&place).map(|(_, entry)| entry)
    }

    pub(crate) fn reset(&mut self, timer: TimerId, at: Time) -> bool {
        let Some(entry) = self.cancel(timer) else { return false };
        let place = self.place(at);
        self.insert(place, timer, entry);
        true
    }

    /// Everything set up to now is older than this mark.
    pub(crate) const fn mark(&self) -> u64 {
        self.next
    }

    /// The first entry that is due and older than `mark`.
    pub(crate) fn pop_due(&mut self, now: Time, mark: u64) -> Option<T> {
        let first = self.queue.first_entry()?;
        let (at, set) = *first.key();
        if at > now || set >= mark {
            return None;
        }
        let (timer, entry) = first.remove();
        self.places.remove(&timer);
        Some(entry)
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    #[cfg(feature = "sim")]
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn clear(&mut self) {
        self.places.clear();
        self.queue.clear();
    }

    fn place(&mut self, at: Time) -> Place {
        let place = (at, self.next);
        self.next += 1;
        place
    }

    fn insert(&mut self, place: Place, timer: TimerId, entry: T) {
        self.places.insert(timer, place);
        self.queue.insert(place, (timer, entry));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn entries_leave_by_deadline_then_by_insertion() {
        let mut timers = Timers::new();
        for (at, name) in [(2, "c"), (1, "a"), (1, "b"), (3, "later")] {
            timers.add(second(at), name);
        }
        assert_eq!(due(&mut timers, second(2)), ["a", "b", "c"]);
        assert_eq!(timers.next_deadline(), Some(second(3)));
    }

    #[test]
    fn a_cancelled_timer_never_leaves() {
        let mut timers = Timers::new();
        let timer = timers.add(second(1), "gone");
        assert_eq!(timers.cancel(timer), Some("gone"));
        assert_eq!(timers.cancel(timer), None);
        assert!(!timers.reset(timer, second(1)));
        assert!(due(&mut timers, second(9)).is_empty());
    }

    #[test]
    fn a_reset_timer_keeps_its_name_and_moves_behind_its_equals() {
        let mut timers = Timers::new();
        let moved = timers.add(second(1), "moved");
        timers.add(second(1), "stayed");
        assert!(timers.reset(moved, second(1)));
        assert_eq!(due(&mut timers, second(1)), ["stayed", "moved"]);
        assert_eq!(timers.cancel(moved), None);
    }

    #[test]
    fn what_is_set_after_the_mark_waits() {
        let mut timers = Timers::new();
        timers.add(second(1), "old");
        let mark = timers.mark();
        timers.add(second(1), "new");
        assert_eq!(timers.pop_due(second(1), mark), Some("old"));
        assert_eq!(timers.pop_due(second(1), mark), None);
    }

    fn due(timers: &mut Timers<&'static str>, now: Time) -> Vec<&'static str> {
        let mark = timers.mark();
        std::iter::from_fn(|| timers.pop_due(now, mark)).collect()
    }

    fn second(at: u64) -> Time {
        Time::from_start(Duration::from_secs(at))
    }
}
