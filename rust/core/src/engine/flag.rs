//! Flags.

use std::sync::Arc;

use super::rule::Rule;
use super::table::Key;

/// A compiled feature flag.
#[derive(Debug)]
pub struct Flag {
    id: Arc<str>,
    key: Arc<str>,
    /// The id, as companies and users file their rules by.
    pub(super) rules_of: Key,
    /// The key, as companies file their entitlements by.
    pub(super) feature: Key,
    default_value: bool,
    pub(super) rules: Box<[Rule]>,
}

impl Flag {
    pub(crate) fn new(id: &str, key: &str, default_value: bool, rules: Box<[Rule]>) -> Self {
        Self {
            id: id.into(),
            key: key.into(),
            rules_of: Key::new(id),
            feature: Key::new(key),
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
