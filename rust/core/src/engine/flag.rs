//! Flags.

use std::sync::Arc;

use super::rule::Rule;
use super::table::Key;

/// The names of a flag, shared by every answer and record of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlagName {
    /// The flag's id, if it is known.
    pub id: Option<Arc<str>>,
    /// The key that callers name the flag by.
    pub key: Arc<str>,
}

/// A compiled feature flag.
#[derive(Debug)]
pub struct Flag {
    id: Arc<str>,
    name: Arc<FlagName>,
    /// The id, as companies and users file their rules by.
    pub(super) rules_of: Key,
    /// The key, as companies file their entitlements by.
    pub(super) feature: Key,
    default_value: bool,
    pub(super) rules: Box<[Rule]>,
    fingerprint: u64,
}

impl Flag {
    pub(crate) fn new(id: &str, key: &str, default_value: bool, rules: Box<[Rule]>) -> Self {
        let id_text: Arc<str> = id.into();
        let name = FlagName {
            id: Some(Arc::clone(&id_text)),
            key: key.into(),
        };
        Self {
            id: id_text,
            name: Arc::new(name),
            rules_of: Key::new(id),
            feature: Key::new(key),
            default_value,
            rules,
            fingerprint: 0,
        }
    }

    /// The same flag, with the hash of the message that it was read from.
    #[must_use]
    pub(crate) fn with_fingerprint(self, fingerprint: u64) -> Self {
        Self {
            fingerprint,
            ..self
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
        &self.name.key
    }

    /// Its id and key.
    #[must_use]
    pub fn name(&self) -> &Arc<FlagName> {
        &self.name
    }

    /// The answer where no rule matches.
    #[must_use]
    pub fn default_value(&self) -> bool {
        self.default_value
    }

    /// The hash of the message that it was read from: another hash means another definition.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}
