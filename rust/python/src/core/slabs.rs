//! Slabs: parts of a shared lease, taken so that checks are served from memory. It must never serve from
//! a slab whose row the shared store has not recorded.

use std::sync::Arc;

use pyo3::prelude::*;
use schematic_core::leases::SlabUse;

use super::{Core, slot};
use crate::{arguments, leases::SlabPlan, results::Reservation};

/// A slab's row, the credits used of it, and the holds that are still open, with their credits.
type ClosedSlab = (Reservation, f64, Vec<(String, f64)>);

#[pymethods]
impl Core {
    fn plan_slab(
        &self,
        py: Python<'_>,
        company_id: &str,
        credit_type_id: &str,
    ) -> PyResult<Option<SlabPlan>> {
        let slot = slot(company_id, credit_type_id);
        let now = self.both(py)?;
        let plan = self.client.ledger().plan_slab(slot, now);
        Ok(plan.map(|plan| SlabPlan::new(plan, now)))
    }

    fn slab_row(
        &self,
        company_id: &str,
        credit_type_id: &str,
        lease_id: &str,
        credits: f64,
        expires_at: f64,
    ) -> PyResult<Reservation> {
        let slot = slot(company_id, credit_type_id);
        let expires_at = arguments::instant("expires_at", expires_at)?;
        let row = self.client.slab_row(slot, lease_id, credits, expires_at);
        Ok(Reservation(Arc::new(row)))
    }

    fn open_slab(
        &self,
        row: &Bound<'_, Reservation>,
        plan: &Bound<'_, SlabPlan>,
        usable_for: f64,
    ) -> PyResult<bool> {
        let usable_for = arguments::instant("usable_for", usable_for)?;
        let ledger = self.client.ledger();
        Ok(ledger.open_slab(&row.get().0, usable_for, plan.get().made))
    }

    fn take_slab_uses(&self) -> Vec<(Reservation, f64)> {
        uses(self.client.ledger().take_slab_uses())
    }

    fn take_slabs_in_use(&self) -> Vec<Reservation> {
        let rows = self.client.ledger().take_slabs_in_use();
        rows.into_iter().map(Reservation).collect()
    }

    fn lose_slab(
        &self,
        py: Python<'_>,
        row: &Bound<'_, Reservation>,
    ) -> PyResult<Option<(f64, f64)>> {
        let lost = self.client.ledger().lose_slab(&row.get().0, self.both(py)?);
        Ok(lost.map(|loss| (loss.taken, loss.left)))
    }

    fn take_closed_slabs(&self) -> Vec<(Reservation, f64)> {
        uses(self.client.ledger().take_closed_slabs())
    }

    fn close_slabs(&self, py: Python<'_>) -> PyResult<Vec<ClosedSlab>> {
        let closed = self.client.ledger().close_slabs(self.both(py)?);
        Ok(closed
            .into_iter()
            .map(|slab| {
                let held = slab.held.into_iter();
                let held = held.map(|(id, credits)| (id.to_string(), credits));
                (Reservation(slab.row), slab.used, held.collect())
            })
            .collect())
    }

    fn lapsed(&self) -> Vec<(Reservation, Reservation, bool)> {
        let lapsed = self.client.ledger().lapsed();
        lapsed
            .into_iter()
            .map(|lapsed| {
                let has_left = lapsed.hold.exported.get();
                (Reservation(lapsed.row), Reservation(lapsed.hold), has_left)
            })
            .collect()
    }

    fn end_lapsed(&self, hold: &Bound<'_, Reservation>, credits: f64) {
        self.client.ledger().end_lapsed(&hold.get().0, credits);
    }

    #[staticmethod]
    fn slab_of(hold: &Bound<'_, Reservation>) -> Option<String> {
        hold.get().0.id.slab().map(|id| id.to_string())
    }
}

fn uses(slabs: Vec<SlabUse>) -> Vec<(Reservation, f64)> {
    slabs
        .into_iter()
        .map(|slab| (Reservation(slab.row), slab.used))
        .collect()
}
