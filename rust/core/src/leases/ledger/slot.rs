//! One slot: the lease of a company for a credit type, and what is known of it besides.
//!
//! A slot holds at most one lease that gives credits. Its fields change only under the lock of the shard that it is in.

use std::{hash::BuildHasher, sync::Arc};

use super::{lease::SlotLease, spent::Spent};
use crate::{
    Millis, Now,
    hash::HASHER,
    leases::{Credits, Reservation, SlabId, SlabUse, SlotKey, slab::Slab},
};

/// A slot's lease as the ledger has it.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaseState {
    /// The company.
    pub company_id: Arc<str>,
    /// The credit type.
    pub credit_type_id: Arc<str>,
    /// The lease in the slot.
    pub lease_id: Arc<str>,
    /// The service's total, in credits.
    pub granted: f64,
    /// What may still be reserved, in credits.
    pub remaining: f64,
    /// When the lease ends.
    pub expires_at: Millis,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub company_id: Arc<str>,
    pub credit_type_id: Arc<str>,
    pub lease: Option<SlotLease>,
    /// Slabs that serve no more credits and still have open holds.
    pub closing: Vec<SlotLease>,
    /// What was used of slabs lately, in credits for each millisecond.
    pub demand: f64,
    /// The sum of the open holds, whichever lease they were charged to.
    pub held: Credits,
    /// Until then the low lease is not reported again.
    pub low_told_until: Millis,
    /// The last refusal of the service for lack of credits.
    pub spent: Option<Spent>,
}

impl Slot {
    /// An empty slot.
    pub fn new(key: SlotKey<'_>) -> Self {
        Self {
            company_id: key.company_id.into(),
            credit_type_id: key.credit_type_id.into(),
            lease: None,
            closing: Vec::new(),
            demand: 0.0,
            held: Credits::ZERO,
            low_told_until: Millis::MIN,
            spent: None,
        }
    }

    pub fn is(&self, key: SlotKey<'_>) -> bool {
        *self.company_id == *key.company_id && *self.credit_type_id == *key.credit_type_id
    }

    pub fn hash(&self) -> u64 {
        hash_of(SlotKey {
            company_id: &self.company_id,
            credit_type_id: &self.credit_type_id,
        })
    }

    /// Ends a hold of a slab; returns the slab's use if that was the last hold it waited for.
    pub fn end_in_slab(&mut self, id: SlabId, end: impl FnOnce(&mut SlotLease)) -> Option<SlabUse> {
        if let Some(lease) = self.lease.as_mut().filter(|lease| lease.is_slab(id)) {
            end(lease);
            return None;
        }
        let at = self.closing.iter().position(|lease| lease.is_slab(id))?;
        let lease = &mut self.closing[at];
        end(lease);
        if lease.has_holds() {
            return None;
        }
        self.closing.swap_remove(at).into_closed(&[])
    }

    /// Stops serving from the slab; returns its use if nothing of it is held.
    pub fn retire_slab(&mut self, now: Now) -> Option<SlabUse> {
        let lease = self.lease.take_if(|lease| lease.slab.is_some())?;
        self.demand = lease.demand(now);
        if lease.has_holds() {
            self.closing.push(lease);
            return None;
        }
        lease.into_closed(&[])
    }

    /// Takes a slab out, even with open holds: what those give back later goes nowhere.
    pub fn lose_slab(&mut self, row: &Reservation, now: Now) -> Option<SlotLease> {
        let is_it = |lease: &SlotLease| lease.slab.as_ref().is_some_and(|slab| slab.is_of(row));
        if let Some(lease) = self.lease.take_if(|lease| is_it(lease)) {
            self.demand = lease.demand(now);
            return Some(lease);
        }
        let at = self.closing.iter().position(is_it)?;
        Some(self.closing.swap_remove(at))
    }

    /// The slab that serves, and those that wait for their last holds.
    pub fn slabs(&mut self) -> impl Iterator<Item = &mut Slab> {
        let leases = self.lease.iter_mut().chain(&mut self.closing);
        leases.filter_map(|lease| lease.slab.as_mut())
    }

    pub fn state(&self) -> Option<LeaseState> {
        self.lease.as_ref().map(|lease| LeaseState {
            company_id: Arc::clone(&self.company_id),
            credit_type_id: Arc::clone(&self.credit_type_id),
            lease_id: Arc::clone(&lease.id),
            granted: lease.granted.to_f64(),
            remaining: lease.remaining.to_f64(),
            expires_at: lease.expires_at,
        })
    }
}

/// The hash by which a slot is found, and its shard.
pub(super) fn hash_of(key: SlotKey<'_>) -> u64 {
    HASHER.hash_one((key.company_id, key.credit_type_id))
}
