//! Flags.

use std::sync::Arc;

use super::rule::Rule;
use super::table::hash;

/// A compiled feature flag.
#[derive(Debug)]
pub struct Flag {
    id: Arc<str>,
    pub(super) id_hash: u64,
    key: Arc<str>,
    pub(super) key_hash: u64,
    default_value: bool,
    pub(super) rules: Box<[Rule]>,
}

impl Flag {
    pub(crate) fn new(id: &str, key: &str, default_value: bool, rules: Box<[Rule]>) -> Self {
        Self {
            id: id.into(),
            id_hash: hash(id),
            key: key.into(),
            key_hash: hash(key),
            default_value,
            rules,
        }
    }

    /// The flag's id.
    #[must_use]
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// The key that callers name the flag by.
    #[must_use]
    pub fn key(&self) -> &Arc<str> {
        &self.key
    }

    /// The answer where no rule matches.
    #[must_use]
    pub fn default_value(&self) -> bool {
        self.default_value
    }
}
