//! Leases, for the lease manager: what to ask the service for, and what it granted. It must never
//! install more credits than a lease can have.

use pyo3::{exceptions::PyValueError, prelude::*};
use schematic_core::leases::{NewLease, SharedBalance};

use super::{Core, slot};
use crate::defaults::LARGEST_LEASE;
use crate::{
    arguments,
    leases::{AcquirePlan, ExtendPlan, Lease},
};

#[pymethods]
impl Core {
    fn lease(&self, company_id: &str, credit_type_id: &str) -> Option<Lease> {
        self.client
            .ledger()
            .lease(slot(company_id, credit_type_id))
            .map(Lease::from)
    }

    fn plan_acquire(
        &self,
        py: Python<'_>,
        company_id: &str,
        credit_type_id: &str,
    ) -> PyResult<Option<AcquirePlan>> {
        let plan = self
            .client
            .ledger()
            .plan_acquire(slot(company_id, credit_type_id), self.now(py)?);
        Ok(plan.map(AcquirePlan::from))
    }

    fn install_lease(
        &self,
        py: Python<'_>,
        company_id: &str,
        credit_type_id: &str,
        lease_id: &str,
        granted: f64,
        expires_at: f64,
    ) -> PyResult<String> {
        if !(0.0..=LARGEST_LEASE).contains(&granted) {
            return Err(PyValueError::new_err(format!(
                "granted must be credits from 0 to {LARGEST_LEASE:e}, not {granted}"
            )));
        }
        let lease = NewLease {
            lease_id,
            granted,
            expires_at: arguments::instant("expires_at", expires_at)?,
        };
        let slot = slot(company_id, credit_type_id);
        let installed = self.client.ledger().install(slot, &lease, self.now(py)?);
        Ok(installed
            .lease_id
            .map_or_else(|| lease_id.to_owned(), |there| there.to_string()))
    }

    #[pyo3(signature = (company_id, credit_type_id, required_credits=None))]
    fn plan_extend(
        &self,
        py: Python<'_>,
        company_id: &str,
        credit_type_id: &str,
        required_credits: Option<f64>,
    ) -> PyResult<Option<ExtendPlan>> {
        let slot = slot(company_id, credit_type_id);
        let plan = self
            .client
            .ledger()
            .plan_extend(slot, required_credits, self.now(py)?);
        Ok(plan.map(ExtendPlan::from))
    }

    fn apply_extend(
        &self,
        company_id: &str,
        credit_type_id: &str,
        lease_id: Option<&str>,
        granted_total: f64,
        expires_at: Option<f64>,
    ) -> PyResult<bool> {
        let slot = slot(company_id, credit_type_id);
        let expires_at = expires_at
            .map(|at| arguments::instant("expires_at", at))
            .transpose()?;
        Ok(self
            .client
            .ledger()
            .extend(slot, granted_total, expires_at, lease_id))
    }

    fn plan_shared_acquire(&self, py: Python<'_>, credit_type_id: &str) -> PyResult<AcquirePlan> {
        let knobs = self.client.ledger().knobs().of(credit_type_id);
        Ok(AcquirePlan::from(knobs.acquire(self.now(py)?)))
    }

    #[pyo3(signature = (credit_type_id, lease_id, granted, remaining, required_credits=None))]
    fn plan_shared_extend(
        &self,
        py: Python<'_>,
        credit_type_id: &str,
        lease_id: &str,
        granted: f64,
        remaining: f64,
        required_credits: Option<f64>,
    ) -> PyResult<Option<ExtendPlan>> {
        let knobs = self.client.ledger().knobs().of(credit_type_id);
        let lease = SharedBalance {
            lease_id,
            granted,
            remaining,
        };
        let plan = lease.plan_extend(required_credits, knobs, self.now(py)?);
        Ok(plan.map(ExtendPlan::from))
    }

    #[pyo3(signature = (company_id, credit_type_id, credits, balance))]
    fn note_spent(
        &self,
        py: Python<'_>,
        company_id: &str,
        credit_type_id: &str,
        credits: f64,
        balance: Option<f64>,
    ) -> PyResult<()> {
        let slot = slot(company_id, credit_type_id);
        let now = self.now(py)?;
        self.client.ledger().note_spent(slot, credits, balance, now);
        Ok(())
    }

    fn forget_spent(&self, company_id: &str, credit_type_id: &str) {
        let slot = slot(company_id, credit_type_id);
        self.client.ledger().forget_spent(slot);
    }

    fn was_refused(
        &self,
        py: Python<'_>,
        company_id: &str,
        credit_type_id: &str,
        credits: f64,
    ) -> PyResult<bool> {
        let slot = slot(company_id, credit_type_id);
        let balance = self.company_balance(company_id, credit_type_id);
        let now = self.now(py)?;
        let ledger = self.client.ledger();
        Ok(ledger.was_refused(slot, credits, balance, now))
    }

    fn take_low_slots(&self) -> Vec<(String, String)> {
        let low = self.client.ledger().take_low();
        low.iter()
            .map(|(company, credit)| (company.to_string(), credit.to_string()))
            .collect()
    }

    fn drop_lease(&self, company_id: &str, credit_type_id: &str) {
        self.client
            .ledger()
            .drop_lease(slot(company_id, credit_type_id));
    }

    fn live_leases(&self, py: Python<'_>) -> PyResult<Vec<Lease>> {
        let leases = self.client.ledger().live_leases(self.both(py)?);
        Ok(leases.into_iter().map(Lease::from).collect())
    }

    fn sweep(&self, py: Python<'_>) -> PyResult<usize> {
        self.compare_clocks(py)?;
        let now = self.both(py)?;
        Ok(py.detach(|| self.client.ledger().sweep(now)))
    }

    fn reserved_credits(&self, company_id: &str, credit_type_id: &str) -> f64 {
        let slot = slot(company_id, credit_type_id);
        self.client.ledger().reserved_credits(slot)
    }
}
