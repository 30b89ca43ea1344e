//! Flags by key.
//!
//! A whole set replaces the one before at once: no reader sees half of each.

use std::sync::Arc;

use hashbrown::HashTable;
use parking_lot::RwLock;

use crate::{
    engine::Flag,
    hash::{hash_caseless, same_caseless},
};

/// Flags by key, whatever its case.
#[derive(Debug, Default)]
pub struct Flags(RwLock<HashTable<Arc<Flag>>>);

impl Flags {
    /// The flag with this key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Arc<Flag>> {
        find(&self.0.read(), key).cloned()
    }

    /// Replaces the whole set; returns the keys of those that were added, removed or are not the same.
    pub fn replace(&self, flags: Vec<Flag>) -> Vec<String> {
        let mut table = HashTable::with_capacity(flags.len());
        for flag in flags {
            put(&mut table, Arc::new(flag));
        }
        let before = std::mem::replace(&mut *self.0.write(), table.clone());
        let added = table.iter().filter(|flag| !has(&before, flag));
        let gone = before
            .iter()
            .filter(|flag| find(&table, flag.key()).is_none());
        added.chain(gone).map(|flag| key_of(flag)).collect()
    }

    /// Puts one flag in place of the one with its id or key; returns the keys that changed by it.
    pub fn put(&self, flag: Flag) -> Vec<String> {
        let mut table = self.0.write();
        if has(&table, &flag) {
            return Vec::new();
        }
        let mut changed = vec![key_of(&flag)];
        table.retain(|other| {
            let stays = other.id() != flag.id();
            if !stays && !same_caseless(other.key(), flag.key()) {
                changed.push(key_of(other));
            }
            stays
        });
        put(&mut table, Arc::new(flag));
        changed
    }

    /// Forgets the flag with this id, or with this key if no id is known; returns the keys that are gone.
    pub fn remove(&self, id: Option<&str>, key: Option<&str>) -> Vec<String> {
        let mut gone = Vec::new();
        self.0.write().retain(|flag| {
            let stays = match (id, key) {
                (Some(id), _) => **flag.id() != *id,
                (None, Some(key)) => !same_caseless(flag.key(), key),
                (None, None) => true,
            };
            if !stays {
                gone.push(key_of(flag));
            }
            stays
        });
        gone
    }

    /// How many flags there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.read().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every flag's key.
    #[must_use]
    pub fn keys(&self) -> Vec<Arc<str>> {
        self.0
            .read()
            .iter()
            .map(|flag| Arc::clone(flag.key()))
            .collect()
    }
}

fn find<'a>(table: &'a HashTable<Arc<Flag>>, key: &str) -> Option<&'a Arc<Flag>> {
    table.find(hash_caseless(key), |flag| same_caseless(flag.key(), key))
}

/// Whether a table has just this flag.
fn has(table: &HashTable<Arc<Flag>>, flag: &Flag) -> bool {
    find(table, flag.key())
        .is_some_and(|other| other.fingerprint() == flag.fingerprint() && other.id() == flag.id())
}

fn key_of(flag: &Flag) -> String {
    flag.key().to_string()
}

fn put(table: &mut HashTable<Arc<Flag>>, flag: Arc<Flag>) {
    let hash = hash_caseless(flag.key());
    let same = |other: &Arc<Flag>| same_caseless(other.key(), flag.key());
    if let Some(place) = table.find_mut(hash, same) {
        *place = flag;
    } else {
        table.insert_unique(hash, flag, |flag| hash_caseless(flag.key()));
    }
}
