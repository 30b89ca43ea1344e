//! Entities by id and by any of their lookup keys, for many readers at once.
//!
//! A table holds as many entities as it was made for, and no more; an entity in it is replaced, never changed.

use std::{
    cmp::Reverse,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::RwLock;

use super::{entity::Entity, index::Index};
use crate::leases::Party;

/// What a lookup by keys found.
#[derive(Clone, Debug)]
pub enum Lookup<E> {
    /// One entity, and the keys it was asked for with, shared so that they need not be copied again.
    Found(Arc<E>, Arc<Party>),
    /// None.
    Missing,
    /// The keys belong to different entities.
    Conflict,
}

/// Entities by id and by any of their lookup keys; the least recently used is evicted.
#[derive(Debug)]
pub struct Table<E> {
    index: RwLock<Index<E>>,
    /// Counts insertions. A reader stamps an entry with it, so the order of use is known as precisely as
    /// evictions need, which only insertions cause.
    epoch: AtomicU64,
    capacity: usize,
}

impl<E: Entity> Table<E> {
    /// A table for at most `capacity` entities, at least one.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            index: RwLock::new(Index::new()),
            epoch: AtomicU64::new(0),
            capacity: capacity.max(1),
        }
    }

    /// The entity that these keys belong to.
    #[must_use]
    pub fn find(&self, keys: &[(&str, &str)]) -> Lookup<E> {
        let index = self.index.read();
        if let &[(name, value)] = keys
            && let Some((entry, party)) = index.find_again(name, value)
        {
            entry.touch(self.epoch.load(Relaxed));
            return Lookup::Found(Arc::clone(&entry.entity), Arc::clone(party));
        }
        let mut found = None;
        for &(name, value) in keys {
            match (index.find_key(name, value), found) {
                (Some(at), Some(other)) if at != other => return Lookup::Conflict,
                (Some(at), _) => found = Some(at),
                (None, _) => {}
            }
        }
        let Some(entry) = found.and_then(|at| index.entry(at)) else {
            return Lookup::Missing;
        };
        entry.touch(self.epoch.load(Relaxed));
        Lookup::Found(Arc::clone(&entry.entity), entry.party(keys))
    }

    /// The entity with this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Arc<E>> {
        self.read(id, Arc::clone)
    }

    /// Calls `look` with the entity of this id. It must be short: writers wait for it.
    pub fn read<T>(&self, id: &str, look: impl FnOnce(&Arc<E>) -> T) -> Option<T> {
        let index = self.index.read();
        let entry = index.entry(index.find_id(id)?)?;
        Some(look(&entry.entity))
    }

    /// Puts an entity in place of the one with its id, with the lookup keys that it has now.
    pub fn put(&self, entity: E) {
        // An entity that is read after this insertion gets a later stamp than it.
        let stamp = self.epoch.fetch_add(2, Relaxed) + 1;
        let mut index = self.index.write();
        if let Some(at) = index.find_id(entity.id()) {
            index.replace(at, Arc::new(entity));
            return;
        }
        index.insert(Arc::new(entity), stamp);
        while index.by_id.len() > self.capacity {
            index.evict();
        }
    }

    /// Removes an entity; `false` if it was not there.
    pub fn remove(&self, id: &str) -> bool {
        let mut index = self.index.write();
        index.find_id(id).is_some_and(|at| index.remove(at))
    }

    /// How many entities there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.read().by_id.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many were evicted.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.index.read().evicted
    }

    /// Every entity, the most recently used first.
    #[must_use]
    pub fn hottest_first(&self) -> Vec<Arc<E>> {
        let index = self.index.read();
        let mut all: Vec<_> = index
            .entries
            .iter()
            .flatten()
            .map(|entry| (Reverse(entry.used.load(Relaxed)), Arc::clone(&entry.entity)))
            .collect();
        drop(index);
        all.sort_by_key(|(used, _)| *used);
        all.into_iter().map(|(_, entity)| entity).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Lookup, Table};
    use crate::cache::Entity;
    use crate::leases::Keys;
    use proptest::{collection::vec, prelude::*, sample::select};
    use std::{collections::BTreeMap, sync::Arc};

    #[derive(Debug)]
    struct Thing(Arc<str>, Vec<(&'static str, &'static str)>);

    impl Entity for Thing {
        fn id(&self) -> &Arc<str> {
            &self.0
        }
        fn keys(&self) -> impl Iterator<Item = (&str, &str)> {
            self.1.iter().copied()
        }
    }

    fn thing(id: &str, keys: &[(&'static str, &'static str)]) -> Thing {
        Thing(id.into(), keys.to_vec())
    }

    fn found(table: &Table<Thing>, keys: &[(&str, &str)]) -> String {
        match table.find(keys) {
            Lookup::Found(entity, _) => entity.0.to_string(),
            Lookup::Missing => "missing".to_owned(),
            Lookup::Conflict => "conflict".to_owned(),
        }
    }

    #[test]
    fn an_entity_is_found_by_any_of_its_keys_whatever_their_case() {
        let table = Table::new(10);
        table.put(thing("1", &[("ID", "Acme"), ("slug", "acme-inc")]));
        assert_eq!(found(&table, &[("id", "ACME")]), "1");
        assert_eq!(found(&table, &[("other", "x"), ("Slug", "Acme-Inc")]), "1");
        assert_eq!(found(&table, &[("slug", "acme")]), "missing");
        assert_eq!(found(&table, &[]), "missing");
    }

    #[test]
    fn keys_of_two_entities_are_a_conflict() {
        let table = Table::new(10);
        table.put(thing("1", &[("a", "1")]));
        table.put(thing("2", &[("b", "2")]));
        assert_eq!(found(&table, &[("a", "1"), ("b", "2")]), "conflict");
    }

    #[test]
    fn a_full_message_drops_the_keys_that_are_gone() {
        let table = Table::new(10);
        table.put(thing("1", &[("a", "1"), ("b", "2")]));
        table.put(thing("1", &[("c", "3"), ("b", "2")]));
        assert_eq!(found(&table, &[("a", "1")]), "missing");
        assert_eq!(found(&table, &[("b", "2")]), "1");
        assert_eq!(found(&table, &[("c", "3")]), "1");
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn a_key_that_moved_belongs_to_the_newer_message() {
        let table = Table::new(10);
        table.put(thing("1", &[("a", "x")]));
        table.put(thing("2", &[("a", "X")]));
        assert_eq!(found(&table, &[("a", "x")]), "2");
        table.put(thing("1", &[("b", "y")]));
        assert_eq!(found(&table, &[("a", "x")]), "2");
        table.remove("2");
        assert_eq!(found(&table, &[("a", "x")]), "missing");
    }

    #[test]
    fn a_key_that_is_gone_finds_nothing_though_it_was_asked_with_before() {
        let table = Table::new(10);
        table.put(thing("1", &[("a", "x")]));
        assert_eq!(found(&table, &[("a", "x")]), "1");
        table.put(thing("1", &[("a", "y")]));
        assert_eq!(found(&table, &[("a", "x")]), "missing");
        assert_eq!(found(&table, &[("a", "y")]), "1");
        table.remove("1");
        assert_eq!(found(&table, &[("a", "y")]), "missing");
        table.put(thing("2", &[("b", "y")]));
        assert_eq!(found(&table, &[("a", "y")]), "missing");
    }

    #[test]
    fn a_key_moves_with_each_message_that_names_it() {
        let table = Table::new(10);
        for id in ["1", "2", "1", "2"] {
            table.put(thing(id, &[("a", "x")]));
            assert_eq!(found(&table, &[("a", "x")]), id);
            assert_eq!(found(&table, &[("a", "X")]), id);
        }
    }

    /// What a test does to a table and to a plain list of the last owner of each key.
    #[derive(Debug, Clone)]
    enum Act {
        Put(usize, Vec<(&'static str, &'static str)>),
        Remove(usize),
        Ask(Vec<(&'static str, &'static str)>),
    }

    fn act() -> impl Strategy<Value = Act> {
        let keys = |least| {
            let key = (select(vec!["a", "A", "b"]), select(vec!["x", "X", "y", ""]));
            vec(key, least..3)
        };
        prop_oneof![
            (0..4usize, keys(0)).prop_map(|(id, keys)| Act::Put(id, keys)),
            (0..4usize).prop_map(Act::Remove),
            keys(1).prop_map(Act::Ask),
            keys(1).prop_map(Act::Ask),
        ]
    }

    proptest! {
        #[test]
        fn a_table_answers_as_a_list_does(acts in vec(act(), 1..60)) {
            let table = Table::new(100);
            let mut owners: BTreeMap<(String, String), usize> = BTreeMap::new();
            let own = |&(name, value): &(&str, &str)| (name.to_lowercase(), value.to_lowercase());
            for act in acts {
                match act {
                    Act::Put(id, keys) => {
                        owners.retain(|_, owner| *owner != id);
                        owners.extend(keys.iter().map(|key| (own(key), id)));
                        table.put(thing(&id.to_string(), &keys));
                    }
                    Act::Remove(id) => {
                        owners.retain(|_, owner| *owner != id);
                        table.remove(&id.to_string());
                    }
                    Act::Ask(keys) => {
                        let mut of_keys: Vec<_> = keys.iter().filter_map(|key| owners.get(&own(key))).collect();
                        of_keys.sort();
                        of_keys.dedup();
                        let expected = match *of_keys {
                            [] => "missing".to_owned(),
                            [id] => id.to_string(),
                            _ => "conflict".to_owned(),
                        };
                        prop_assert_eq!(found(&table, &keys), expected);
                    }
                }
            }
        }
    }

    #[test]
    fn the_least_recently_used_gives_way() {
        let table = Table::new(2);
        table.put(thing("1", &[("k", "1")]));
        table.put(thing("2", &[("k", "2")]));
        assert_eq!(found(&table, &[("k", "1")]), "1");
        table.put(thing("3", &[("k", "3")]));
        assert_eq!(found(&table, &[("k", "2")]), "missing");
        assert_eq!(found(&table, &[("k", "1")]), "1");
        assert_eq!((table.len(), table.evicted()), (2, 1));
    }

    #[test]
    fn each_spelling_of_the_keys_asked_with_is_copied_once() {
        let table = Table::new(2);
        table.put(thing("1", &[("k", "1"), ("l", "2")]));
        let ask = |keys: &[(&str, &str)]| match table.find(keys) {
            Lookup::Found(_, party) => party,
            _ => Arc::default(),
        };
        let both = [("K", "1"), ("L", "2")];
        let spellings: [&[_]; 4] = [&[("K", "1")], &[("k", "1")], &both, &[("l", "2")]];
        let first = spellings.map(ask);
        for (keys, first) in spellings.into_iter().zip(&first) {
            assert!(Arc::ptr_eq(&ask(keys), first), "{keys:?}");
            let keys = Some(Keys::new(keys));
            assert_eq!((first.id.as_deref(), &first.keys), (Some("1"), &keys));
        }
        let fifth = &[("L", "2")];
        assert_eq!(ask(fifth).keys, Some(Keys::new(fifth)));
        assert!(Arc::ptr_eq(&ask(spellings[3]), &first[3]));
    }
}
