//! Storage whose keys go stale: removing a value makes its key name nothing, for ever.

use std::fmt;

use slab::Slab;

/// An index that may be used again, and a generation that is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    pub(crate) const fn index(self) -> usize {
        self.index as usize
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

/// A slab that counts generations.
#[derive(Debug)]
pub(crate) struct Arena<T> {
    slots: Slab<(u32, T)>,
    generation: u32,
}

impl<T> Arena<T> {
    pub(crate) const fn new() -> Self {
        Self { slots: Slab::new(), generation: 0 }
    }

    /// The key that the next [`insert`](Self::insert) will give.
    pub(crate) fn next_key(&self) -> Key {
        let index = u32::try_from(self.slots.vacant_key()).expect("fewer than 2^32 slots");
        Key { index, generation: self.generation.wrapping_add(1) }
    }

    pub(crate) fn insert(&mut self, value: T) -> Key {
        let key = self.next_key();
        self.generation = key.generation;
        self.slots.insert((key.generation, value));
        key
    }

    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        match self.slots.get(key.index()) {
            Some((generation, value)) if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.slots.get_mut(key.index()) {
            Some((generation, value)) if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        self.slots.try_remove(key.index()).map(|(_, value)| value)
    }

    /// The key of what is now at `index`.
    pub(crate) fn key_at(&self, index: usize) -> Option<Key> {
        let (generation, _) = self.slots.get(index)?;
        Some(Key { index: u32::try_from(index).ok()?, generation: *generation })
    }

    /// All keys, by index.
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.slots.iter().filter_map(|(index, _)| self.key_at(index)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_index_does_not_answer_to_its_old_key() {
        let mut arena = Arena::new();
        let old = arena.insert("old");
        assert_eq!(arena.remove(old), Some("old"));
        let new = arena.insert("new");
        assert_eq!(new.index(), old.index());
        assert!(arena.get(old).is_none());
        assert!(arena.get_mut(old).is_none());
        assert!(arena.remove(old).is_none());
        assert_eq!(arena.get(new), Some(&"new"));
    }

    #[test]
    fn the_next_key_is_known_before_the_insert() {
        let mut arena = Arena::new();
        let key = arena.next_key();
        assert_eq!(arena.insert(()), key);
        assert_eq!(arena.key_at(key.index()), Some(key));
    }
}
