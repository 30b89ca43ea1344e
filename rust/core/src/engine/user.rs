//! Users.
//!
//! A user is read by evaluations and never changed by them: what is new about it arrives as a new user.

use std::sync::Arc;

use super::facts::{Facts, TraitFacts};
use super::rule::FlagRules;
use super::spend::CreditPolicies;
use super::table::{Key, Table};
use super::traits::Trait;

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
            facts: Facts::new(&key, traits),
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
