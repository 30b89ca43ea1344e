//! What a program asks: a plain check of a flag, or one backed by a lease.
//!
//! A request borrows everything from its caller; what must outlive a wait is copied into a pending check.

use crate::{Millis, leases::FailureMode};

/// What a plain check asks.
#[derive(Clone, Copy, Debug, Default)]
pub struct FlagRequest<'a> {
    /// The flag's key.
    pub flag_key: &'a str,
    /// Company keys.
    pub company: Option<&'a [(&'a str, &'a str)]>,
    /// User keys.
    pub user: Option<&'a [(&'a str, &'a str)]>,
    /// Answer with the entities that are there.
    pub partial: bool,
    /// Queue the record of the check.
    pub record: bool,
}

/// What a lease-backed check asks.
#[derive(Clone, Copy, Debug)]
pub struct CheckRequest<'a> {
    /// The flag's key.
    pub flag_key: &'a str,
    /// Company keys.
    pub company: Option<&'a [(&'a str, &'a str)]>,
    /// User keys.
    pub user: Option<&'a [(&'a str, &'a str)]>,
    /// Events that the caller is about to use.
    pub usage: f64,
    /// The event that a settle shall bill; the entitlement's if unset.
    pub event_subtype: Option<&'a str>,
    /// What to do when credits cannot be held.
    pub mode: FailureMode,
    /// How long the hold may live; as the credit type's knobs say if unset.
    pub ttl: Option<Millis>,
}

impl<'a> CheckRequest<'a> {
    /// The entities that it asks for.
    pub(super) const fn plain(&self) -> FlagRequest<'a> {
        FlagRequest {
            flag_key: self.flag_key,
            company: self.company,
            user: self.user,
            partial: false,
            record: true,
        }
    }
}
