//! The entities that a check reads, compiled, by every name they go by.
//!
//! [`Cache`] takes `DataStream` messages and holds what they say. A message that cannot be read is
//! described and skipped: it never empties the cache, and a check never answers from half an
//! entity, because an entity is parsed and compiled before it replaces the one in the table.

mod entity;
mod entry;
mod flags;
mod index;
mod message;
mod table;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::Mutex;

pub use entity::Entity;
pub use flags::Flags;
pub use message::Ingested;
pub use table::{Lookup, Table};

use crate::engine::{Company, User};

/// Flags, companies and users.
#[derive(Debug)]
pub struct Cache {
    flags: Flags,
    companies: Table<Company>,
    users: Table<User>,
    /// Messages are applied one at a time: a partial builds on the entity that it read.
    applying: Mutex<()>,
    has_flags: AtomicBool,
}

impl Cache {
    /// An empty cache for at most so many companies and users.
    #[must_use]
    pub fn new(max_companies: usize, max_users: usize) -> Self {
        Self {
            flags: Flags::default(),
            companies: Table::new(max_companies),
            users: Table::new(max_users),
            applying: Mutex::default(),
            has_flags: AtomicBool::new(false),
        }
    }

    /// Flags by key.
    #[must_use]
    pub const fn flags(&self) -> &Flags {
        &self.flags
    }

    /// Companies by id and lookup key.
    #[must_use]
    pub const fn companies(&self) -> &Table<Company> {
        &self.companies
    }

    /// Users by id and lookup key.
    #[must_use]
    pub const fn users(&self) -> &Table<User> {
        &self.users
    }

    /// Whether a whole flag set has arrived.
    #[must_use]
    pub fn has_flags(&self) -> bool {
        self.has_flags.load(Relaxed)
    }
}
