//! Leases as the lease manager sees them.

use std::sync::Arc;

use pyo3::prelude::*;
use schematic_core::{
    Now, decider,
    leases::{self, LeaseState},
};

use crate::{arguments::seconds, results::Reservation};

/// A slot's lease.
#[allow(clippy::struct_field_names, reason = "the names that Python reads")]
#[pyclass(frozen, get_all, module = "schematic_native._native")]
pub(crate) struct Lease {
    lease_id: String,
    company_id: String,
    credit_type_id: String,
    granted: f64,
    remaining: f64,
    expires_at: f64,
}

impl From<LeaseState> for Lease {
    fn from(lease: LeaseState) -> Self {
        Self {
            lease_id: lease.lease_id.to_string(),
            company_id: lease.company_id.to_string(),
            credit_type_id: lease.credit_type_id.to_string(),
            granted: lease.granted,
            remaining: lease.remaining,
            expires_at: seconds(lease.expires_at),
        }
    }
}

/// A lease to ask the service for.
#[pyclass(frozen, get_all, module = "schematic_native._native")]
pub(crate) struct AcquirePlan {
    requested_amount: f64,
    expires_at: f64,
}

#[pymethods]
impl AcquirePlan {
    /// The same plan for another amount.
    fn with_amount(&self, credits: f64) -> Self {
        Self {
            requested_amount: credits,
            ..*self
        }
    }
}

impl From<leases::AcquirePlan> for AcquirePlan {
    fn from(plan: leases::AcquirePlan) -> Self {
        Self {
            requested_amount: plan.requested_amount,
            expires_at: seconds(plan.expires_at),
        }
    }
}

/// An extend to ask the service for.
#[pyclass(frozen, get_all, module = "schematic_native._native")]
pub(crate) struct ExtendPlan {
    lease_id: String,
    additional_amount: f64,
    shortfall: f64,
    expires_at: f64,
}

#[pymethods]
impl ExtendPlan {
    /// The same plan for another amount.
    fn with_amount(&self, credits: f64) -> Self {
        Self {
            lease_id: self.lease_id.clone(),
            additional_amount: credits,
            ..*self
        }
    }
}

impl From<leases::ExtendPlan> for ExtendPlan {
    fn from(plan: leases::ExtendPlan) -> Self {
        Self {
            lease_id: plan.lease_id.to_string(),
            additional_amount: plan.additional_amount,
            shortfall: plan.shortfall,
            expires_at: seconds(plan.expires_at),
        }
    }
}

/// A slab to take of a shared lease.
#[pyclass(frozen, module = "schematic_native._native")]
pub(crate) struct SlabPlan {
    plan: leases::SlabPlan,
    /// When it was made: what the slab lasts counts from here.
    pub made: Now,
}

impl SlabPlan {
    pub fn new(plan: leases::SlabPlan, made: Now) -> Self {
        Self { plan, made }
    }
}

#[pymethods]
impl SlabPlan {
    #[getter]
    fn credits(&self) -> f64 {
        self.plan.credits
    }
    #[getter]
    fn smallest(&self) -> f64 {
        self.plan.smallest
    }
    #[getter]
    fn usable_for(&self) -> f64 {
        seconds(self.plan.usable_for)
    }
    #[getter]
    fn kept_for(&self) -> f64 {
        seconds(self.plan.kept_for)
    }
}

/// A settled hold that the shared store has still to end.
#[pyclass(frozen, module = "schematic_native._native")]
pub(crate) struct OwedClaim(pub decider::OwedClaim);

#[pymethods]
impl OwedClaim {
    #[getter]
    fn reservation(&self) -> Reservation {
        Reservation(Arc::clone(&self.0.reservation))
    }

    #[getter]
    fn credits(&self) -> f64 {
        self.0.credits
    }
}
