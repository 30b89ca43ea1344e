//! One cached entity, when it was last used, and the keys that it was asked for with.
//!
//! A reader changes only atomics and what is set once, so reading takes no lock beyond the table's.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use super::entity::Entity;
use crate::{
    leases::{Keys, Party},
    name::Name,
};

/// Aligned to two cache lines, which are fetched together: with many entities, a lookup mostly waits for memory.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Entry<E> {
    pub entity: Arc<E>,
    pub used: AtomicU64,
    spellings: Spellings,
    /// Distinguishes the entry from an earlier one in the same place.
    pub serial: u64,
}

/// The keys that an entity was asked for with, in the order in which they came. A program uses a few spellings again and
/// again; keeping them saves copying them for each check. Reading takes no lock.
#[derive(Debug, Default)]
struct Spellings(OnceLock<Spelling>);

#[derive(Debug)]
struct Spelling {
    party: Arc<Party>,
    /// The name and value, if it is a single key, as it nearly always is.
    single: Option<(Name, Name)>,
    others: OnceLock<Box<Spelling>>,
}

/// Spellings kept for each entity; further ones are copied for each check.
const SPELLINGS: usize = 4;

impl<E: Entity> Entry<E> {
    /// An entry that was last used at this stamp.
    pub fn new(entity: Arc<E>, stamp: u64, serial: u64) -> Self {
        Self {
            entity,
            used: AtomicU64::new(stamp),
            spellings: Spellings::default(),
            serial,
        }
    }

    pub fn touch(&self, stamp: u64) {
        // A store that changes nothing would still take the cache line from other threads.
        if self.used.load(Relaxed) != stamp {
            self.used.store(stamp, Relaxed);
        }
    }

    /// The entity's id with these keys.
    pub fn party(&self, keys: &[(&str, &str)]) -> Arc<Party> {
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

    /// The party of a single key, if the entity was asked for with exactly this spelling before.
    pub fn matching(&self, name: &str, value: &str) -> Option<&Arc<Party>> {
        let same = |spelling: &&Spelling| {
            let single = spelling.single.as_ref();
            single.is_some_and(|(own_name, own_value)| own_value.is(value) && own_name.is(name))
        };
        let spelling = self.spellings.iter().find(same)?;
        Some(&spelling.party)
    }

    /// Drops the spellings, after keys changed: one that is kept here may now name another entity.
    pub fn forget_spellings(&mut self) {
        self.spellings = Spellings::default();
    }
}

impl Spellings {
    fn iter(&self) -> impl Iterator<Item = &Spelling> {
        std::iter::successors(self.0.get(), |spelling| {
            spelling.others.get().map(|other| &**other)
        })
    }

    /// Keeps a spelling, unless there are enough or another thread is adding one.
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
