//! What is known of a company or user, as bits.
//!
//! An entity's [`Facts`] are a few words with a bit for each thing that conditions ask for by name: its id, its plans,
//! the texts of its traits. Bits are shared by chance, so that a bit that is set proves nothing; one that is not set
//! proves that the entity lacks the thing.

use super::table::{Ids, Key, Table, bit, hash};
use super::traits::Trait;
use super::value::Scalar;
use crate::name::Name;

/// Words of an entity's facts.
const WORDS: usize = 16;
/// A word with every bit set, which meets every mask but zero.
pub(super) const ANY: u8 = 0;
pub(super) const ID: u8 = 1;
pub(super) const PLANS: u8 = 2;
pub(super) const PLAN_VERSIONS: u8 = 3;
pub(super) const BILLING_PRODUCTS: u8 = 4;
pub(super) const BASE_PLAN: u8 = 5;
/// This word and those after it: the texts of traits.
pub(super) const TRAITS: u8 = 6;
const TRAIT_WORDS: usize = WORDS - TRAITS as usize;
/// Added to the place of a fact about the user.
pub(super) const OF_USER: u8 = 16;

/// The bits of what is known of an entity.
#[derive(Debug, Clone)]
pub(super) struct Facts([u64; WORDS]);

/// The facts of a missing entity: no condition that a gate looks at holds without one.
pub(super) static NOBODY: Facts = Facts::NONE;

/// The facts about traits, which most updates leave as they are.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct TraitFacts([u64; TRAIT_WORDS]);

impl Facts {
    const NONE: Self = {
        let mut words = [0; WORDS];
        words[ANY as usize] = u64::MAX;
        Self(words)
    };

    /// The facts of an entity with this id and these traits.
    pub fn new(id: &Key, traits: TraitFacts) -> Self {
        let mut facts = Self::NONE;
        facts.set(ID, bit(id));
        for (place, word) in (TRAITS..).zip(traits.0) {
            facts.set(place, word);
        }
        facts
    }

    /// The same facts and those of the plans and products of a company.
    pub fn with_plans(
        mut self,
        plans: &Ids,
        plan_versions: &Ids,
        billing_products: &Ids,
        base_plan: Option<&Key>,
    ) -> Self {
        self.set(PLANS, plans.signature());
        self.set(PLAN_VERSIONS, plan_versions.signature());
        self.set(BILLING_PRODUCTS, billing_products.signature());
        self.set(BASE_PLAN, base_plan.map_or(0, bit));
        self
    }

    /// Whether the bits at this place meet the mask: of the company, or of the user from `OF_USER` on.
    #[inline]
    pub const fn meet(company: &Self, user: &Self, place: u8, mask: u64) -> bool {
        let facts = if place < OF_USER { company } else { user };
        facts.0[place as usize % WORDS] & mask != 0
    }

    fn set(&mut self, place: u8, word: u64) {
        self.0[usize::from(place)] = word;
    }

    pub fn of_traits(&self) -> TraitFacts {
        TraitFacts(self.0.last_chunk().copied().unwrap_or_default())
    }
}

impl TraitFacts {
    pub fn new(traits: &Table<Trait>) -> Self {
        let mut facts = Self::default();
        for entry in traits.entries() {
            let definition = hash(entry.definition.as_bytes());
            facts.0[usize::from(word_of(definition))] |= match entry.value.scalar {
                Scalar::Text => text_bit(definition, &entry.value.text),
                _ => other_bit(definition),
            };
        }
        facts
    }
}

/// The word of a trait; its texts share it.
#[allow(
    clippy::cast_possible_truncation,
    reason = "it is less than the number of words"
)]
pub(super) const fn word_of(definition: u64) -> u8 {
    (((spread(definition) >> 32) * TRAIT_WORDS as u64) >> 32) as u8
}

/// The bit of a trait with this text as its value.
pub(super) fn text_bit(definition: u64, text: &Name) -> u64 {
    1 << (spread(definition ^ hash(text.as_bytes())) >> 58)
}

/// The bit of a trait whose value is not a text: such values compare in ways of their own.
pub(super) const fn other_bit(definition: u64) -> u64 {
    1 << (spread(definition) >> 32 & 63)
}

/// Spreads hashes, so that the upper bits of similar ones differ.
const fn spread(hash: u64) -> u64 {
    hash.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
