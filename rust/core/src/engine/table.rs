//! Entries found by the hash of their name.
//!
//! Every name that a condition gives is hashed once, when its flag arrives; every name that an entity holds is
//! hashed when the entity arrives, to put its entry in place. An evaluation then goes straight to the place, and the
//! names, which lie inside the entries, are compared to confirm: its cost does not grow with the entity.

use crate::name::Name;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use crate::hash::HASHER;

/// Up to this many entries a scan beats a look at where to begin, and needs no memory of its own.
const SCAN_LIMIT: usize = 4;

/// The hash of a name, the same for flags and entities.
pub(crate) fn hash(text: &[u8]) -> u64 {
    let mut hasher = HASHER.build_hasher();
    hasher.write(text);
    hasher.finish()
}

/// A name with its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub hash: u64,
    pub name: Name,
}

impl Key {
    pub fn new(text: &str) -> Self {
        Self {
            hash: hash(text.as_bytes()),
            name: Name::new(text),
        }
    }
}

/// What can be an entry of a [`Table`].
pub(crate) trait Entry {
    /// The hash that the entry is found by.
    fn hash(&self) -> u64;
    /// Whether two entries have the same key.
    fn same_key(&self, other: &Self) -> bool;
}

/// An entry whose key is a name.
pub(crate) trait Named {
    fn name(&self) -> &Name;
}

impl<T: Named> Entry for T {
    fn hash(&self) -> u64 {
        hash(self.name().as_bytes())
    }

    fn same_key(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Entry for Key {
    fn hash(&self) -> u64 {
        self.hash
    }

    fn same_key(&self, other: &Self) -> bool {
        self == other
    }
}

/// An immutable list of entries with distinct keys. Cloning shares; an empty table owns nothing.
///
/// There are as many buckets as entries, and the entries lie in the order of their buckets.
#[derive(Debug)]
pub(crate) struct Table<T> {
    entries: Arc<[T]>,
    /// Where each bucket starts among the entries, and where the last one ends; empty where a scan does.
    starts: Arc<[u32]>,
}

impl<T> Clone for Table<T> {
    fn clone(&self) -> Self {
        Self {
            entries: Arc::clone(&self.entries),
            starts: Arc::clone(&self.starts),
        }
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            entries: Arc::default(),
            starts: Arc::default(),
        }
    }
}

impl<T: Entry> Table<T> {
    /// Keeps the first of several entries with the same key.
    pub fn first_wins(entries: impl IntoIterator<Item = T>) -> Self {
        let entries: Vec<T> = entries.into_iter().collect();
        if entries.len() <= SCAN_LIMIT {
            return Self {
                entries: distinct(entries).into(),
                starts: Arc::default(),
            };
        }
        Self::in_buckets(entries)
    }

    fn in_buckets(entries: Vec<T>) -> Self {
        let count = entries.len();
        let mut placed: Vec<(usize, T)> = entries
            .into_iter()
            .map(|entry| (bucket(entry.hash(), count), entry))
            .collect();
        // The sort is stable: of equal keys, which share a bucket, the first stays first.
        placed.sort_by_key(|(bucket, _)| *bucket);
        let mut kept: Vec<T> = Vec::with_capacity(count);
        let mut starts: Vec<u32> = Vec::with_capacity(count + 1);
        let mut first_of_bucket = 0;
        for (bucket, entry) in placed {
            if starts.len() <= bucket {
                first_of_bucket = kept.len();
                starts.resize(bucket + 1, position(first_of_bucket));
            }
            if !kept[first_of_bucket..]
                .iter()
                .any(|earlier| earlier.same_key(&entry))
            {
                kept.push(entry);
            }
        }
        starts.resize(count + 1, position(kept.len()));
        Self {
            entries: kept.into(),
            starts: starts.into(),
        }
    }

    /// The entry with this hash for which `is_it` holds.
    #[inline]
    pub fn find(&self, hash: u64, is_it: impl Fn(&T) -> bool) -> Option<&T> {
        self.candidates(hash).iter().find(|entry| is_it(entry))
    }

    /// The entries that may have this hash.
    #[inline]
    fn candidates(&self, hash: u64) -> &[T] {
        let Some(buckets) = self.starts.len().checked_sub(1) else {
            return &self.entries;
        };
        let bucket = bucket(hash, buckets);
        match self.starts.get(bucket..=bucket + 1) {
            Some(&[start, end]) => self
                .entries
                .get(start as usize..end as usize)
                .unwrap_or_default(),
            _ => &[],
        }
    }
}

impl<T: Named> Table<T> {
    /// The entry with this name.
    #[inline]
    pub fn named(&self, key: &Key) -> Option<&T> {
        self.find(key.hash, |entry| *entry.name() == key.name)
    }

    /// The entry with this name, which is hashed first.
    pub fn named_by(&self, text: &str) -> Option<&T> {
        self.find(hash(text.as_bytes()), |entry| entry.name().is(text))
    }
}

impl<T: Clone> Table<T> {
    /// The same table with other entries of the same keys.
    pub fn map(&self, change: impl Fn(&T) -> T) -> Self {
        Self {
            entries: self.entries.iter().map(change).collect(),
            starts: Arc::clone(&self.starts),
        }
    }
}

impl<T> Table<T> {
    pub fn entries(&self) -> &[T] {
        &self.entries
    }

    /// Whether it shares its entries with another one.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.entries, &other.entries)
    }
}

/// The upper half of a hash scaled to the number of buckets, which are fewer than 2^32.
#[inline]
#[allow(
    clippy::cast_possible_truncation,
    reason = "the product of two halves, halved, is less than the number of buckets"
)]
fn bucket(hash: u64, buckets: usize) -> usize {
    ((u128::from(hash) * buckets as u128) >> 64) as usize
}

/// A message with more entries than this can tell does not fit into memory.
fn position(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// The first of each key.
fn distinct<T: Entry>(entries: Vec<T>) -> Vec<T> {
    let mut kept: Vec<T> = Vec::with_capacity(entries.len());
    for entry in entries {
        if !kept.iter().any(|earlier| earlier.same_key(&entry)) {
            kept.push(entry);
        }
    }
    kept
}

/// A set of ids.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ids {
    /// A bit for the hash of each id: two sets without a common bit have no id in common, and no other
    /// memory needs to be looked at to know it.
    signature: u64,
    keys: Table<Key>,
}

impl Ids {
    pub fn new(ids: impl IntoIterator<Item = Key>) -> Self {
        let keys = Table::first_wins(ids);
        let signature = keys.entries().iter().fold(0, |all, key| all | bit(key));
        Self { signature, keys }
    }

    /// A bit for each id: see [`bit`].
    pub fn signature(&self) -> u64 {
        self.signature
    }

    #[inline]
    pub fn contains(&self, key: &Key) -> bool {
        self.signature & bit(key) != 0 && self.keys.find(key.hash, |entry| entry == key).is_some()
    }

    #[inline]
    pub fn intersects(&self, other: &Self) -> bool {
        if self.signature & other.signature == 0 {
            return false;
        }
        let (few, many) = if self.keys.entries.len() <= other.keys.entries.len() {
            (self, other)
        } else {
            (other, self)
        };
        few.keys.entries.iter().any(|key| many.contains(key))
    }
}

/// One of 64 bits, by another part of the hash than the bucket.
#[inline]
pub(super) fn bit(key: &Key) -> u64 {
    1 << (key.hash % 64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, prelude::*};

    use super::{Entry, Ids, Key, Name, SCAN_LIMIT, Table, bit};

    fn ids(count: usize) -> Ids {
        Ids::new((0..count).map(|id| Key::new(&id.to_string())))
    }

    /// An entry whose hash is not that of its name, so that any may collide.
    #[derive(Debug, Clone)]
    struct Colliding {
        key: Key,
        place: usize,
    }

    impl Entry for Colliding {
        fn hash(&self) -> u64 {
            self.key.hash
        }

        fn same_key(&self, other: &Self) -> bool {
            self.key == other.key
        }
    }

    /// A hash of a few that share buckets, bits of signatures, or are the same outright.
    fn colliding_key() -> impl Strategy<Value = Key> {
        let hash = prop_oneof![
            Just(0),
            Just(64),
            Just(u64::MAX),
            Just(1 << 63),
            any::<u64>()
        ];
        ("[a-d]{0,2}", hash).prop_map(|(text, hash)| Key {
            hash,
            name: Name::new(&text),
        })
    }

    proptest! {
        #[test]
        fn a_table_finds_what_a_scan_finds(keys in vec(colliding_key(), 0..40), asked in vec(colliding_key(), 10)) {
            let mut first = BTreeMap::new();
            for (place, key) in keys.iter().enumerate() {
                first.entry((key.hash, key.name.as_str())).or_insert(place);
            }
            let entries = keys.iter().cloned().enumerate().map(|(place, key)| Colliding { key, place });
            let table = Table::first_wins(entries);
            prop_assert_eq!(table.entries().len(), first.len());
            for key in keys.iter().chain(&asked) {
                let found = table.find(key.hash, |entry| entry.key == *key).map(|entry| entry.place);
                prop_assert_eq!(found, first.get(&(key.hash, key.name.as_str())).copied());
            }
        }

        #[test]
        fn sets_intersect_where_they_share_an_id_whatever_the_hashes(
            left in vec(colliding_key(), 0..12), right in vec(colliding_key(), 0..12),
        ) {
            let shared = left.iter().any(|key| right.contains(key));
            let (one, other) = (Ids::new(left.clone()), Ids::new(right.clone()));
            prop_assert_eq!(one.intersects(&other), shared);
            prop_assert_eq!(other.intersects(&one), shared);
            for key in &right {
                prop_assert_eq!(one.contains(key), left.contains(key));
            }
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
            assert_eq!(ids.keys.entries().len(), count);
            for id in 0..count {
                assert!(ids.contains(&Key::new(&id.to_string())));
            }
            assert!(!ids.contains(&Key::new("x")));
        }
    }

    #[test]
    fn a_matching_hash_alone_finds_nothing() {
        for count in [3, 100] {
            let impostor = Key {
                hash: Key::new("1").hash,
                name: Name::new("2"),
            };
            assert!(!ids(count).contains(&impostor));
            assert!(!ids(count).intersects(&Ids::new([impostor])));
        }
    }

    #[test]
    fn ids_that_share_a_bit_are_told_apart() {
        let stranger = Key::new("x");
        let same_bit = (0..).map(|id| Key::new(&id.to_string()));
        let known: Vec<_> = same_bit
            .filter(|key| bit(key) == bit(&stranger))
            .take(3)
            .collect();
        assert!(!Ids::new(known.clone()).contains(&stranger));
        assert!(!Ids::new(known).intersects(&Ids::new([stranger])));
    }

    #[test]
    fn buckets_share_the_entries_evenly() {
        let table = ids(1000).keys;
        let longest = table.starts.windows(2).map(|ends| ends[1] - ends[0]).max();
        assert!(longest < Some(10), "{longest:?} of 1000 ids in one bucket");
    }
}
