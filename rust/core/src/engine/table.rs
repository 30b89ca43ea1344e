//! Entries found by a hash that was computed when they were compiled.
//!
//! Every id that a condition names is hashed once, when its flag arrives; every id that an entity holds is
//! hashed once, when the entity arrives. An evaluation then looks up by stored hashes and compares the text
//! only to confirm, so its cost does not grow with the entity.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use hashbrown::HashTable;

use crate::hash::HASHER;

/// Up to this many entries a scan over stored hashes beats a table, and needs no memory of its own.
const SCAN_LIMIT: usize = 6;

/// The hash of an id, the same for flags and entities.
pub(crate) fn hash(text: &str) -> u64 {
    let mut hasher = HASHER.build_hasher();
    hasher.write(text.as_bytes());
    hasher.finish()
}

/// Whether two ids are the same. Ids are a few words long: comparing them here costs less than a call would.
#[inline]
pub(crate) fn same(left: &str, right: &str) -> bool {
    const WORD: usize = 8;
    const HALF: usize = 4;
    let (mut left, mut right) = (left.as_bytes(), right.as_bytes());
    if left.len() != right.len() {
        return false;
    }
    // Ends are compared first, as one word that may overlap others, so that no byte is looked at alone.
    if left.last_chunk::<WORD>() != right.last_chunk::<WORD>() {
        return false;
    }
    if left.len() < WORD {
        let ends = left.first_chunk::<HALF>() == right.first_chunk()
            && left.last_chunk::<HALF>() == right.last_chunk();
        return ends && (left.len() >= HALF || left == right);
    }
    while let (Some((word, left_rest)), Some((other, right_rest))) = (
        left.split_first_chunk::<WORD>(),
        right.split_first_chunk::<WORD>(),
    ) {
        if word != other {
            return false;
        }
        (left, right) = (left_rest, right_rest);
    }
    true
}

/// An id with its hash.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub hash: u64,
    pub text: Box<str>,
}

impl Key {
    pub fn new(text: &str) -> Self {
        Self {
            hash: hash(text),
            text: text.into(),
        }
    }

    /// Whether this is the key of `text`, whose hash is `hash`.
    pub fn is(&self, hash: u64, text: &str) -> bool {
        self.hash == hash && same(&self.text, text)
    }
}

/// What can be an entry of a [`Table`].
pub(crate) trait Entry {
    /// The hash that the entry is found by.
    fn hash(&self) -> u64;
    /// Whether two entries have the same key.
    fn same_key(&self, other: &Self) -> bool;
}

impl Entry for Key {
    fn hash(&self) -> u64 {
        self.hash
    }

    fn same_key(&self, other: &Self) -> bool {
        self.is(other.hash, &other.text)
    }
}

/// An immutable list of entries with distinct keys. Cloning shares; an empty table owns nothing.
#[derive(Debug)]
pub(crate) struct Table<T>(Option<Arc<Inner<T>>>);

#[derive(Debug)]
struct Inner<T> {
    entries: Box<[T]>,
    /// Positions in `entries`, where there are too many for a scan. Boxed: most tables are small.
    index: Option<Box<HashTable<u32>>>,
}

impl<T> Clone for Table<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Entry> Table<T> {
    /// Of entries with the same key the first is kept.
    pub fn first_wins(entries: impl IntoIterator<Item = T>) -> Self {
        let entries = entries.into_iter();
        let mut kept: Vec<T> = Vec::with_capacity(entries.size_hint().0);
        let mut index = None;
        for entry in entries {
            let Ok(position) = u32::try_from(kept.len()) else {
                break;
            };
            if kept.len() == SCAN_LIMIT && index.is_none() {
                index = Some(Box::new(indexed(&kept)));
            }
            let hash = entry.hash();
            match &mut index {
                None if kept.iter().any(|earlier| earlier.same_key(&entry)) => {}
                None => kept.push(entry),
                Some(index) => {
                    if index
                        .find(hash, |&at| kept[at as usize].same_key(&entry))
                        .is_none()
                    {
                        kept.push(entry);
                        index.insert_unique(hash, position, |&at| kept[at as usize].hash());
                    }
                }
            }
        }
        if kept.is_empty() {
            return Self(None);
        }
        Self(Some(Arc::new(Inner {
            entries: kept.into_boxed_slice(),
            index,
        })))
    }

    /// The entry with this hash for which `is_it` holds.
    #[inline]
    pub fn find(&self, hash: u64, is_it: impl Fn(&T) -> bool) -> Option<&T> {
        let inner = self.0.as_deref()?;
        let Some(index) = &inner.index else {
            return inner
                .entries
                .iter()
                .find(|entry| entry.hash() == hash && is_it(entry));
        };
        let position = index.find(hash, |&at| {
            let entry = &inner.entries[at as usize];
            entry.hash() == hash && is_it(entry)
        })?;
        inner.entries.get(*position as usize)
    }
}

/// The positions of these entries, which have distinct keys.
fn indexed<T: Entry>(entries: &[T]) -> HashTable<u32> {
    let mut index = HashTable::with_capacity(2 * entries.len());
    for (position, entry) in (0u32..).zip(entries) {
        index.insert_unique(entry.hash(), position, |&at| entries[at as usize].hash());
    }
    index
}

impl<T> Table<T> {
    pub fn entries(&self) -> &[T] {
        self.0.as_deref().map_or(&[], |inner| &inner.entries)
    }
}

/// A set of ids.
pub(crate) type Ids = Table<Key>;

impl Ids {
    #[inline]
    pub fn contains(&self, hash: u64, text: &str) -> bool {
        self.find(hash, |key| same(&key.text, text)).is_some()
    }

    #[inline]
    pub fn intersects(&self, other: &Ids) -> bool {
        let (Some(left), Some(right)) = (self.0.as_deref(), other.0.as_deref()) else {
            return false;
        };
        if left.index.is_none() && right.index.is_none() {
            let mut ids = left.entries.iter();
            return ids.any(|id| {
                right
                    .entries
                    .iter()
                    .any(|other| other.is(id.hash, &id.text))
            });
        }
        let (few, many) = if left.entries.len() <= right.entries.len() {
            (&left.entries, other)
        } else {
            (&right.entries, self)
        };
        few.iter().any(|key| many.contains(key.hash, &key.text))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Ids, Key, SCAN_LIMIT, Table, hash, same};

    fn ids(count: usize) -> Ids {
        Table::first_wins((0..count).map(|id| Key::new(&id.to_string())))
    }

    proptest! {
        #[test]
        fn same_texts_are_the_same_and_no_others(text in "[ab]{0,40}", at: prop::sample::Index) {
            prop_assert!(same(&text, &text.clone()));
            let longer = text.clone() + "a";
            prop_assert!(!same(&text, &longer));
            if !text.is_empty() {
                let mut other = text.clone().into_bytes();
                let at = at.index(other.len());
                other[at] ^= 3;
                prop_assert!(!same(&text, std::str::from_utf8(&other).unwrap_or("")));
            }
        }

        #[test]
        fn same_is_equality(left in "[ab]{0,4}", right in "[ab]{0,4}") {
            prop_assert_eq!(same(&left, &right), left == right);
        }
    }

    #[test]
    fn every_entry_is_found_on_both_sides_of_the_scan_limit() {
        for count in [
            0,
            1,
            SCAN_LIMIT - 1,
            SCAN_LIMIT,
            SCAN_LIMIT + 1,
            10 * SCAN_LIMIT,
            1000,
        ] {
            let ids = ids(count);
            assert_eq!(ids.entries().len(), count);
            for id in 0..count {
                let id = id.to_string();
                assert!(ids.contains(hash(&id), &id));
            }
            assert!(!ids.contains(hash("x"), "x"));
        }
    }

    #[test]
    fn a_matching_hash_alone_finds_nothing() {
        for count in [3, 100] {
            assert!(!ids(count).contains(hash("1"), "2"));
        }
    }

    #[test]
    fn the_first_of_equal_keys_is_kept_on_both_sides_of_the_scan_limit() {
        for distinct in [2, SCAN_LIMIT, 50] {
            let twice = (0..2 * distinct).map(|id| Key::new(&(id % distinct).to_string()));
            assert_eq!(Table::first_wins(twice).entries().len(), distinct);
        }
    }

    #[test]
    fn sets_intersect_where_they_share_an_id() {
        assert!(ids(3).intersects(&ids(100)));
        assert!(!ids(100).intersects(&Table::first_wins([Key::new("x")])));
        assert!(!ids(0).intersects(&ids(3)));
    }
}
