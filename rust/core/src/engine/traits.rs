//! The traits of companies and users.
//!
//! A trait is a value under the id of its definition; how values compare is [`super::value`]'s to say.

use super::table::{Key, Named, Table};
use super::value::Value;
use crate::name::Name;

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
