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

/// Two cache lines that are fetched as one: among many entities, a lookup mostly waits for memory.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Entry<E> {
    pub entity: Arc<E>,
    pub used: AtomicU64,
    spellings: Spellings,
    /// Tells the entry from an earlier one in the same place.
    pub serial: u64,
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

    /// Who these keys ask for.
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

    /// Who this key alone asks for, if it did before, letter by letter.
    pub fn matching(&self, name: &str, value: &str) -> Option<&Arc<Party>> {
        let same = |spelling: &&Spelling| {
            let single = spelling.single.as_ref();
            single.is_some_and(|(own_name, own_value)| own_value.is(value) && own_name.is(name))
        };
        let spelling = self.spellings.iter().find(same)?;
        Some(&spelling.party)
    }

    /// The keys asked with may be of another entry now, and their hash that of another key of this one.
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
