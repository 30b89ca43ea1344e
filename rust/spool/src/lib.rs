//! Usage on disk until the service has taken it.
//!
//! A [`Spool`] keeps each event in a segment, a file of fixed size that is mapped into memory: storing a record there
//! is a copy, and the operating system has it even if the process is killed the moment after. Segments belong to one
//! process at a time, which holds a lock; what a dead process left is adopted by the next. This crate knows files and
//! nothing of what the events say; it must never lose a record without counting it, and never panic over what it reads.

mod adoption;
mod directory;
mod keeper;
mod lock;
mod mapping;
mod options;
mod record;
mod rejects;
mod report;
mod segment;
mod shared;
mod signal;
mod spool;
mod stock;
mod ticket;
mod waiting;

pub use lock::close_in_child;
pub use options::{Fsync, Options};
pub use report::{Counts, Report};
pub use spool::Spool;
pub use ticket::Ticket;
