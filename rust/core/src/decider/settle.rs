//! Settles: holds that end with what was really used, and usage that is billed.
//!
//! A settle bills exactly once, whatever has become of the hold; only the claim decides whether local state moves.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use crate::{
    cache::Lookup,
    decider::{Decider, OwedClaim, Topic},
    events::{Billing, IdempotencyKey, Identify, SettleExtras, Track},
    leases::{Reservation, Settlement, whole_units},
};

impl Decider {
    /// Settles a reservation with what was really used and bills it.
    ///
    /// Returns whether local state moved, or `None` if the quantity cannot be settled: nothing is
    /// done then, and the hold is given back when it lapses.
    pub fn settle(
        &self,
        reservation: &Arc<Reservation>,
        actual_quantity: f64,
        traits: Option<&str>,
    ) -> Option<bool> {
        let settlement = Settlement::begin(reservation, actual_quantity)?;
        let claimed = self.claim(settlement);
        let moved = claimed.is_some();
        self.conclude(settlement, claimed, SettleExtras::of(traits, None));
        Some(moved)
    }

    /// Settles as [`Decider::settle`] does, where leases live in a shared store.
    ///
    /// Returns the claim that the store is owed, if the hold is there: it stays open until
    /// [`Decider::claim_ended`].
    pub fn settle_shared(
        &self,
        reservation: &Arc<Reservation>,
        actual_quantity: f64,
        traits: Option<&str>,
    ) -> Option<OwedClaim> {
        self.settle_part(reservation, actual_quantity, traits, None)
    }

    /// Settles as [`Decider::settle_shared`] does, billed under an idempotency key that the caller chose.
    pub fn settle_part(
        &self,
        reservation: &Arc<Reservation>,
        actual_quantity: f64,
        traits: Option<&str>,
        key: Option<&str>,
    ) -> Option<OwedClaim> {
        let settlement = Settlement::begin(reservation, actual_quantity)?;
        let (claimed, owed) = self.claim_or_owe(settlement, actual_quantity);
        // Only after the claim was noted: no batch may be sent before that.
        self.conclude(settlement, claimed, SettleExtras::of(traits, key));
        owed
    }

    /// Gives an unused hold back: nothing is billed.
    ///
    /// Returns the claim that the shared store is owed, as [`Decider::settle_shared`] does. A hold
    /// that the service keeps is not given back here.
    pub fn release(&self, reservation: &Arc<Reservation>) -> Option<OwedClaim> {
        let settlement = Settlement::begin(reservation, 0.0)?;
        self.claim_or_owe(settlement, 0.0).1
    }

    fn claim_or_owe(
        &self,
        settlement: Settlement<'_>,
        quantity: f64,
    ) -> (Option<Arc<Reservation>>, Option<OwedClaim>) {
        let claimed = self.claim(settlement);
        let owed = match (settlement.claim(), &claimed) {
            (Some(credits), None) if self.shared => {
                Some(self.owed.add(settlement.reservation(), credits, quantity))
            }
            _ => None,
        };
        (claimed, owed)
    }

    /// The claims that the shared store is owed, oldest first.
    #[must_use]
    pub fn owed_claims(&self) -> Vec<OwedClaim> {
        self.owed.all()
    }

    /// Closes a claim that the store has answered, or that came too late for it to be there.
    ///
    /// Usage is counted in the cached company's metrics if the claim has ended the hold.
    pub fn claim_ended(&self, claim: &OwedClaim, has_ended_hold: bool) {
        self.owed.remove(claim.number);
        if has_ended_hold {
            self.add_usage(&claim.reservation, whole_units(claim.quantity));
        }
    }

    /// Settles a reservation whose hold is in this process; otherwise nothing is done.
    pub fn settle_held(&self, reservation: &Arc<Reservation>, actual_quantity: f64) -> bool {
        let Some(settlement) = Settlement::begin(reservation, actual_quantity) else {
            return false;
        };
        let claimed = self.claim(settlement);
        let moved = claimed.is_some();
        if moved {
            self.conclude(settlement, claimed, None);
        }
        moved
    }

    /// Claims the hold in this process's ledger; `None` if it is not there.
    fn claim(&self, settlement: Settlement<'_>) -> Option<Arc<Reservation>> {
        self.ledger
            .claim(settlement.reservation(), settlement.claim()?)
    }

    /// Bills a settle, and counts the usage if local state moved.
    fn conclude(
        &self,
        settlement: Settlement<'_>,
        claimed: Option<Arc<Reservation>>,
        extras: Option<Box<SettleExtras>>,
    ) {
        self.settles.fetch_add(1, Relaxed);
        let (reservation, units) = (settlement.reservation(), settlement.units());
        let moved = claimed.is_some();
        // The caller's reservation is billed; it is nearly always the same object as the claimed one.
        let billed = claimed
            .filter(|claimed| Arc::ptr_eq(claimed, reservation))
            .unwrap_or_else(|| Arc::clone(reservation));
        self.bill(Billing::Settle {
            reservation: billed,
            quantity: units,
            extras,
        });
        if moved {
            self.add_usage(reservation, units);
        }
    }

    fn add_usage(&self, reservation: &Reservation, units: i64) {
        let event = &reservation.terms.event_subtype;
        let companies = self.cache.companies();
        companies.read(reservation.holder.company_id(), |company| {
            company.add_usage(event, units);
        });
    }

    /// Queues a program's own usage; the cached company's metrics grow by it at once.
    ///
    /// Usage without an idempotency key is given one of its own here, so that every attempt to
    /// deliver it carries the same key and the service counts it once.
    pub fn track(&self, mut track: Track) {
        track.idempotency_key.get_or_insert_with(|| self.own_key());
        if let Some(keys) = &track.company {
            let keys: Vec<_> = keys.iter().collect();
            if let Lookup::Found(company, _) = self.cache.companies().find(&keys) {
                company.add_usage(&track.event, track.quantity.unwrap_or(1));
            }
        }
        self.bill(Billing::Track(Box::new(track)));
    }

    /// Queues an identify event, with an idempotency key as in [`Decider::track`].
    pub fn identify(&self, mut identify: Identify) {
        identify
            .idempotency_key
            .get_or_insert_with(|| self.own_key());
        self.bill(Billing::Identify(Box::new(identify)));
    }

    fn own_key(&self) -> IdempotencyKey {
        IdempotencyKey::Own(self.ids.next())
    }

    fn bill(&self, event: Billing) {
        if self.events.bill(event) {
            (self.wake)(Topic::Events);
        }
    }
}
