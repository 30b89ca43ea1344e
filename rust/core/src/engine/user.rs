//! Users, and traits, which companies have too.

use std::sync::Arc;

use super::gate::{Facts, TraitFacts};
use super::rule::FlagRules;
use super::spend::CreditPolicies;
use super::table::{Key, Named, Table};
use super::value::Value;
use crate::name::Name;

/// A compiled user. A partial update builds a new one that shares what did not change.
#[derive(Debug)]
pub struct User {
    pub(crate) parts: UserParts,
    pub(super) key: Key,
    pub(super) facts: Facts,
}

/// What a user is made of. Cloning shares.
#[derive(Debug, Clone)]
pub(crate) struct UserParts {
    pub id: Arc<str>,
    pub keys: Arc<[(Box<str>, Box<str>)]>,
    pub policies: Table<CreditPolicies>,
    pub rules: Table<FlagRules>,
    pub traits: Table<Trait>,
}

/// A trait of a company or user, found by the id of its definition.
#[derive(Debug)]
pub(crate) struct Trait {
    pub definition: Name,
    pub value: Value,
}

impl Named for Trait {
    fn name(&self) -> &Name {
        &self.definition
    }
}

impl Table<Trait> {
    #[inline]
    pub fn of_definition(&self, definition: &Key) -> Option<&Value> {
        self.named(definition).map(|entry| &entry.value)
    }

    /// What a condition sees, for which an empty id names no trait.
    #[inline]
    pub fn matching(&self, definition: &Key) -> Option<&Value> {
        if definition.name.is_empty() {
            None
        } else {
            self.of_definition(definition)
        }
    }
}

impl User {
    pub(crate) fn new(parts: UserParts) -> Self {
        let traits = TraitFacts::new(&parts.traits);
        Self::of(parts, traits)
    }

    /// The same user with other parts, most of which are shared.
    pub(crate) fn with(&self, parts: UserParts) -> Self {
        if parts.traits.is(&self.parts.traits) {
            Self::of(parts, self.facts.of_traits())
        } else {
            Self::new(parts)
        }
    }

    fn of(parts: UserParts, traits: TraitFacts) -> Self {
        let key = Key::new(&parts.id);
        Self {
            facts: Facts::of_user(&key, traits),
            key,
            parts,
        }
    }

    /// Whether there are policies that limit what the user spends.
    pub(crate) fn limits_spend(&self) -> bool {
        !self.parts.policies.entries().is_empty()
    }

    /// The user's id.
    #[must_use]
    pub fn id(&self) -> &Arc<str> {
        &self.parts.id
    }

    /// The lookup keys, as (name, value).
    pub fn keys(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parts
            .keys
            .iter()
            .map(|(name, value)| (&**name, &**value))
    }
}
