use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use hashbrown::HashTable;
use parking_lot::RwLock;

use crate::{
    hash::{HASHER, hash_caseless, same_caseless},
    leases::{Keys, Party},
    name::Name,
};
use std::hash::BuildHasher;

/// What the cache must know of an entity.
pub trait Entity {
    /// Its id.
    fn id(&self) -> &Arc<str>;
    /// Its lookup keys, in a fixed order.
    fn keys(&self) -> impl Iterator<Item = (&str, &str)>;
}

/// What a lookup by keys found.
#[derive(Clone, Debug)]
pub enum Lookup<E> {
    /// One entity, and who was asked for, kept so that the keys need not be copied again.
    Found(Arc<E>, Arc<Party>),
    /// None.
    Missing,
    /// The keys belong to different entities.
    Conflict,
}

/// Entities by id and by any of their lookup keys; the least recently used gives way.
#[derive(Debug)]
pub struct Table<E> {
    inner: RwLock<Inner<E>>,
    /// Counts insertions; a reader stamps an entry with it, so order of use is known as finely as
    /// evictions, which only insertions cause, can tell apart.
    epoch: AtomicU64,
    capacity: usize,
}

#[derive(Debug)]
struct Inner<E> {
    entries: Vec<Option<Entry<E>>>,
    free: Vec<u32>,
    by_id: HashTable<u32>,
    by_key: HashTable<KeyRef>,
    /// Entries by a lower bound of when they were last used.
    by_use: BinaryHeap<Reverse<(u64, u32, u64)>>,
    evicted: u64,
    serial: u64,
}

/// Two cache lines that are fetched as one: among many entities, a lookup mostly waits for memory.
#[derive(Debug)]
#[repr(align(128))]
struct Entry<E> {
    entity: Arc<E>,
    used: AtomicU64,
    spellings: Spellings,
    /// Tells the entry from an earlier one in the same place.
    serial: u64,
}

/// The keys that an entity was asked for with, in the order in which they came: a program spells them in a few ways,
/// again and again. Reading takes no lock.
#[derive(Debug, Default)]
struct Spellings(OnceLock<Spelling>);

#[derive(Debug)]
struct Spelling {
    party: Arc<Party>,
    /// If it is a single key, as nearly always: its name and value, which were found to be the entity's.
    single: Option<(Name, Name)>,
    others: OnceLock<Box<Spelling>>,
}

/// Spellings kept of one entity; whoever asks with yet others has them copied each time.
const SPELLINGS: usize = 4;

/// One lookup key of one entry: the text is the entity's own.
#[derive(Clone, Copy, Debug)]
struct KeyRef {
    hash: u64,
    entry: u32,
    key: u32,
}

impl<E: Entity> Table<E> {
    /// A table for at most `capacity` entities, at least one.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            inner: RwLock::new(Inner::new()),
            epoch: AtomicU64::new(0),
            capacity: capacity.max(1),
        }
    }

    /// The entity that these keys belong to.
    #[must_use]
    pub fn find(&self, keys: &[(&str, &str)]) -> Lookup<E> {
        let inner = self.inner.read();
        if let &[(name, value)] = keys
            && let Some((entry, party)) = inner.find_again(name, value)
        {
            entry.touch(self.epoch.load(Relaxed));
            return Lookup::Found(Arc::clone(&entry.entity), Arc::clone(party));
        }
        let mut found = None;
        for &(name, value) in keys {
            match (inner.find_key(name, value), found) {
                (Some(at), Some(other)) if at != other => return Lookup::Conflict,
                (Some(at), _) => found = Some(at),
                (None, _) => {}
            }
        }
        let Some(entry) = found.and_then(|at| inner.entry(at)) else {
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

    /// What a short look at the entity with this id tells; writers wait for it.
    pub fn read<T>(&self, id: &str, look: impl FnOnce(&Arc<E>) -> T) -> Option<T> {
        let inner = self.inner.read();
        let entry = inner.entry(inner.find_id(id)?)?;
        Some(look(&entry.entity))
    }

    /// Puts an entity in place of the one with its id, with the lookup keys that it has now.
    pub fn put(&self, entity: E) {
        // Whoever is read after this insertion bears a later stamp than it.
        let stamp = self.epoch.fetch_add(2, Relaxed) + 1;
        let mut inner = self.inner.write();
        if let Some(at) = inner.find_id(entity.id()) {
            inner.replace(at, Arc::new(entity));
            return;
        }
        inner.insert(Arc::new(entity), stamp);
        while inner.by_id.len() > self.capacity {
            inner.evict();
        }
    }

    /// Forgets an entity; `false` if it was not there.
    pub fn remove(&self, id: &str) -> bool {
        let mut inner = self.inner.write();
        inner.find_id(id).is_some_and(|at| inner.remove(at))
    }

    /// Forgets everything.
    pub fn clear(&self) {
        *self.inner.write() = Inner::new();
    }

    /// How many entities there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.read().by_id.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many gave way to others.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.inner.read().evicted
    }

    /// Every entity, the most recently used first.
    #[must_use]
    pub fn hottest_first(&self) -> Vec<Arc<E>> {
        let inner = self.inner.read();
        let mut all: Vec<_> = inner
            .entries
            .iter()
            .flatten()
            .map(|entry| (Reverse(entry.used.load(Relaxed)), Arc::clone(&entry.entity)))
            .collect();
        drop(inner);
        all.sort_by_key(|(used, _)| *used);
        all.into_iter().map(|(_, entity)| entity).collect()
    }
}

impl<E: Entity> Entry<E> {
    fn touch(&self, stamp: u64) {
        // A store that changes nothing would still take the cache line from other threads.
        if self.used.load(Relaxed) != stamp {
            self.used.store(stamp, Relaxed);
        }
    }

    /// Who these keys ask for.
    fn party(&self, keys: &[(&str, &str)]) -> Arc<Party> {
        let same = |spelling: &&Spelling| {
            let own = spelling.party.keys.as_ref();
            own.is_some_and(|own| own.are(keys))
        };
        if let Some(spelling) = self.spellings.iter().find(same) {
            return Arc::clone(&spelling.party);
        }
        let party = Arc::new(Party {
            id: Some(Arc::clone(self.entity.id())),
            keys: Some(Keys::new(keys)),
        });
        self.spellings.remember(keys, &party);
        party
    }

    /// Who this key alone asks for, if it did before, letter by letter.
    fn matching(&self, name: &str, value: &str) -> Option<&Arc<Party>> {
        let same = |spelling: &&Spelling| {
            let single = spelling.single.as_ref();
            single.is_some_and(|(own_name, own_value)| own_value.is(value) && own_name.is(name))
        };
        let spelling = self.spellings.iter().find(same)?;
        Some(&spelling.party)
    }

    /// The keys asked with may be of another entry now, and their hash that of another key of this one.
    fn forget_spellings(&mut self) {
        self.spellings = Spellings::default();
    }
}

impl Spellings {
    fn iter(&self) -> impl Iterator<Item = &Spelling> {
        std::iter::successors(self.0.get(), |spelling| {
            spelling.others.get().map(|other| &**other)
        })
    }

    /// Keeps a spelling, unless there are enough or another thread keeps one just now.
    fn remember(&self, keys: &[(&str, &str)], party: &Arc<Party>) {
        let spelling = Spelling {
            party: Arc::clone(party),
            single: match keys {
                [(name, value)] => Some((Name::new(name), Name::new(value))),
                _ => None,
            },
            others: OnceLock::new(),
        };
        match self.iter().enumerate().last() {
            None => drop(self.0.set(spelling)),
            Some((nth, last)) if nth + 1 < SPELLINGS => {
                drop(last.others.set(Box::new(spelling)));
            }
            Some(_) => {}
        }
    }
}

fn hash_key(name: &str, value: &str) -> u64 {
    hash_caseless(name).rotate_left(17) ^ hash_caseless(value)
}

impl<E: Entity> Inner<E> {
    fn new() -> Self {
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

    fn entry(&self, at: u32) -> Option<&Entry<E>> {
        self.entries.get(at as usize)?.as_ref()
    }

    fn find_id(&self, id: &str) -> Option<u32> {
        self.by_id
            .find(HASHER.hash_one(id), |&at| {
                self.entry(at)
                    .is_some_and(|entry| **entry.entity.id() == *id)
            })
            .copied()
    }

    fn find_key(&self, name: &str, value: &str) -> Option<u32> {
        let hash = hash_key(name, value);
        self.by_key
            .find(hash, |at| at.hash == hash && self.is_key(*at, name, value))
            .map(|at| at.entry)
    }

    /// The entry of a key with which it was asked for before: it tells so itself, and the entity, which lies
    /// elsewhere, is not looked at.
    fn find_again(&self, name: &str, value: &str) -> Option<(&Entry<E>, &Arc<Party>)> {
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

    fn insert(&mut self, entity: Arc<E>, stamp: u64) {
        self.serial += 1;
        let entry = Entry {
            entity,
            used: AtomicU64::new(stamp),
            spellings: Spellings::default(),
            serial: self.serial,
        };
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

    fn replace(&mut self, at: u32, entity: Arc<E>) {
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

    fn remove(&mut self, at: u32) -> bool {
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
    fn evict(&mut self) {
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

#[cfg(test)]
mod tests {
    use super::{Entity, Lookup, Table};
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

    /// Tables answer as a plain list of who named each key last does, whatever came before.
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
