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
        let flags = self.0.read();
        flags
            .find(hash_caseless(key), |flag| same_caseless(flag.key(), key))
            .cloned()
    }

    /// Replaces the whole set.
    pub fn replace(&self, flags: Vec<Flag>) {
        let mut table = HashTable::with_capacity(flags.len());
        for flag in flags {
            put(&mut table, Arc::new(flag));
        }
        *self.0.write() = table;
    }

    /// Puts one flag in place of the one with its id or key.
    pub fn put(&self, flag: Flag) {
        let mut table = self.0.write();
        table.retain(|other| other.id() != flag.id());
        put(&mut table, Arc::new(flag));
    }

    /// Forgets the flag with this id, or with this key if no id is known.
    pub fn remove(&self, id: Option<&str>, key: Option<&str>) {
        self.0.write().retain(|flag| match (id, key) {
            (Some(id), _) => **flag.id() != *id,
            (None, Some(key)) => !same_caseless(flag.key(), key),
            (None, None) => true,
        });
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

fn put(table: &mut HashTable<Arc<Flag>>, flag: Arc<Flag>) {
    let hash = hash_caseless(flag.key());
    let same = |other: &Arc<Flag>| same_caseless(other.key(), flag.key());
    if let Some(place) = table.find_mut(hash, same) {
        *place = flag;
    } else {
        table.insert_unique(hash, flag, |flag| hash_caseless(flag.key()));
    }
}
