//! Claims that settles owe the shared store.
//!
//! A settle of a hold that lives in a shared store bills here and must end the hold there. The claim
//! is noted before the usage is queued, so that neither a failed request nor an interrupted caller
//! can leave usage billed whose hold nobody will ever claim.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

use crate::leases::Reservation;

/// A settled hold that the shared store must still end.
#[derive(Clone, Debug)]
pub struct OwedClaim {
    /// Identifies the claim in this process.
    pub number: u64,
    /// The hold.
    pub reservation: Arc<Reservation>,
    /// Credits that were used of it.
    pub credits: f64,
    /// Event units that were settled.
    pub quantity: f64,
}

/// The open claims of this process, oldest first.
#[derive(Default)]
pub(super) struct OwedClaims(Mutex<Claims>);

#[derive(Default)]
struct Claims {
    last: u64,
    open: BTreeMap<u64, OwedClaim>,
}

impl OwedClaims {
    /// Notes a claim.
    pub(super) fn add(
        &self,
        reservation: &Arc<Reservation>,
        credits: f64,
        quantity: f64,
    ) -> OwedClaim {
        let mut claims = self.0.lock();
        claims.last += 1;
        let claim = OwedClaim {
            number: claims.last,
            reservation: Arc::clone(reservation),
            credits,
            quantity,
        };
        claims.open.insert(claim.number, claim.clone());
        claim
    }

    /// Removes a claim that the store has answered or that has lapsed.
    pub(super) fn remove(&self, number: u64) -> Option<OwedClaim> {
        self.0.lock().open.remove(&number)
    }

    /// The claims that are open.
    pub(super) fn all(&self) -> Vec<OwedClaim> {
        self.0.lock().open.values().cloned().collect()
    }
}
