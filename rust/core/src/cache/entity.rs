//! What the cache must know of a company or a user to find it.

use std::sync::Arc;

use crate::engine::{Company, User};

/// What the cache must know of an entity.
pub trait Entity {
    /// Its id.
    fn id(&self) -> &Arc<str>;
    /// Its lookup keys, in a fixed order.
    fn keys(&self) -> impl Iterator<Item = (&str, &str)>;
}

impl Entity for Company {
    fn id(&self) -> &Arc<str> {
        Self::id(self)
    }
    fn keys(&self) -> impl Iterator<Item = (&str, &str)> {
        Self::keys(self)
    }
}

impl Entity for User {
    fn id(&self) -> &Arc<str> {
        Self::id(self)
    }
    fn keys(&self) -> impl Iterator<Item = (&str, &str)> {
        Self::keys(self)
    }
}
