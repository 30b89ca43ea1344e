//! Entities by id, by lookup key and by when they were last used.
//!
//! A key belongs to one entity: the one of the newest message that named it. Whoever changes the index holds the
//! table's lock.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    hash::BuildHasher,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use hashbrown::HashTable;

use super::{entity::Entity, entry::Entry};
use crate::{
    hash::{HASHER, hash_caseless, same_caseless},
    leases::Party,
};

#[derive(Debug)]
pub(super) struct Index<E> {
    pub entries: Vec<Option<Entry<E>>>,
    free: Vec<u32>,
    pub by_id: HashTable<u32>,
    by_key: HashTable<KeyRef>,
    /// Entries by a lower bound of when they were last used.
    by_use: BinaryHeap<Reverse<(u64, u32, u64)>>,
    pub evicted: u64,
    serial: u64,
}

/// One lookup key of one entry: the text is the entity's own.
#[derive(Clone, Copy, Debug)]
struct KeyRef {
    hash: u64,
    entry: u32,
    key: u32,
}

fn hash_key(name: &str, value: &str) -> u64 {
    hash_caseless(name).rotate_left(17) ^ hash_caseless(value)
}

impl<E: Entity> Index<E> {
    pub fn new() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            by_id: HashTable::new(),
            by_key: HashTable::new(),
            by_use: BinaryHeap::new(),
            evicted: 0,
            serial: 0,
        }
    }

    pub fn entry(&self, at: u32) -> Option<&Entry<E>> {
        self.entries.get(at as usize)?.as_ref()
    }

    pub fn find_id(&self, id: &str) -> Option<u32> {
        self.by_id
            .find(HASHER.hash_one(id), |&at| {
                self.entry(at)
                    .is_some_and(|entry| **entry.entity.id() == *id)
            })
            .copied()
    }

    pub fn find_key(&self, name: &str, value: &str) -> Option<u32> {
        let hash = hash_key(name, value);
        self.by_key
            .find(hash, |at| at.hash == hash && self.is_key(*at, name, value))
            .map(|at| at.entry)
    }

    /// The entry that was asked for with exactly this key before. The entity itself, which lies elsewhere in memory, is
    /// not read.
    pub fn find_again(&self, name: &str, value: &str) -> Option<(&Entry<E>, &Arc<Party>)> {
        let hash = hash_key(name, value);
        let mut party = None;
        let at = self.by_key.find(hash, |at| {
            if at.hash == hash {
                let entry = self.entry(at.entry);
                party = entry.and_then(|entry| entry.matching(name, value));
            }
            party.is_some()
        })?;
        Some((self.entry(at.entry)?, party?))
    }

    fn is_key(&self, at: KeyRef, name: &str, value: &str) -> bool {
        let entry = self.entry(at.entry);
        entry
            .and_then(|entry| entry.entity.keys().nth(at.key as usize))
            .is_some_and(|(own, text)| same_caseless(own, name) && same_caseless(text, value))
    }

    pub fn insert(&mut self, entity: Arc<E>, stamp: u64) {
        self.serial += 1;
        let entry = Entry::new(entity, stamp, self.serial);
        let id_hash = HASHER.hash_one(&**entry.entity.id());
        let at = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            #[allow(
                clippy::cast_possible_truncation,
                reason = "four billion entities do not fit in memory"
            )]
            let at = (self.entries.len() - 1) as u32;
            at
        });
        self.by_use.push(Reverse((stamp, at, entry.serial)));
        self.entries[at as usize] = Some(entry);
        let entries = &self.entries;
        self.by_id.insert_unique(id_hash, at, |&at| {
            entries[at as usize]
                .as_ref()
                .map_or(0, |entry| HASHER.hash_one(&**entry.entity.id()))
        });
        self.add_keys(at);
    }

    pub fn replace(&mut self, at: u32, entity: Arc<E>) {
        self.drop_keys(at);
        if let Some(entry) = &mut self.entries[at as usize] {
            if !entity.keys().eq(entry.entity.keys()) {
                entry.forget_spellings();
            }
            entry.entity = entity;
        }
        self.add_keys(at);
    }

    fn add_keys(&mut self, at: u32) {
        let Some(entity) = self.entry(at).map(|entry| Arc::clone(&entry.entity)) else {
            return;
        };
        for (nth, (name, value)) in (0_u32..).zip(entity.keys()) {
            let hash = hash_key(name, value);
            let key = KeyRef {
                hash,
                entry: at,
                key: nth,
            };
            // A key that moved from one entity to another belongs to the newer message.
            let old = self.by_key.find(hash, |other| {
                other.hash == hash && self.is_key(*other, name, value)
            });
            if let Some(old) = old.copied()
                && let Ok(found) = self.by_key.find_entry(hash, |other| {
                    other.entry == old.entry && other.key == old.key
                })
            {
                found.remove();
                if let Some(loser) = &mut self.entries[old.entry as usize] {
                    loser.forget_spellings();
                }
            }
            self.by_key.insert_unique(hash, key, |other| other.hash);
        }
    }

    fn drop_keys(&mut self, at: u32) {
        let Some(entity) = self.entry(at).map(|entry| Arc::clone(&entry.entity)) else {
            return;
        };
        for (name, value) in entity.keys() {
            let hash = hash_key(name, value);
            while let Ok(found) = self
                .by_key
                .find_entry(hash, |other| other.hash == hash && other.entry == at)
            {
                found.remove();
            }
        }
    }

    pub fn remove(&mut self, at: u32) -> bool {
        self.drop_keys(at);
        let Some(entry) = self.entries[at as usize].take() else {
            return false;
        };
        if let Ok(found) = self
            .by_id
            .find_entry(HASHER.hash_one(&**entry.entity.id()), |&other| other == at)
        {
            found.remove();
        }
        self.free.push(at);
        true
    }

    /// Removes the least recently used entry.
    pub fn evict(&mut self) {
        while let Some(Reverse((stamp, at, serial))) = self.by_use.pop() {
            let Some(entry) = self.entry(at).filter(|entry| entry.serial == serial) else {
                continue;
            };
            let used = entry.used.load(Relaxed);
            if used > stamp {
                self.by_use.push(Reverse((used, at, serial)));
            } else {
                self.remove(at);
                self.evicted += 1;
                return;
            }
        }
    }
}
