//! The entities that a check reads, compiled, by every name they go by.

mod table;

pub use table::{Entity, Lookup, Table};
