//! What a store says to a debit: what it came to, or why nothing was debited.

use std::sync::Arc;

use crate::{Millis, leases::SlabId};

/// A debit that was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Debit {
    /// What may still be reserved, in credits.
    pub remaining: f64,
    /// The lease that was charged: a reservation is pinned to it.
    pub lease_id: Arc<str>,
    /// Whether the lease is due for a background extend.
    pub low: bool,
    /// When it was made by the clock of the store that other processes share, if it was made there.
    pub shared_at: Option<Millis>,
    /// The slab it was carved from.
    pub slab: Option<SlabId>,
}

/// Why nothing was debited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No lease, or an expired one.
    NoLease,
    /// The lease has fewer credits left.
    Short,
    /// The amount is negative or not finite.
    Invalid,
}
