//! The ledger's own operations on one slot, one function each, as a store in Redis has them too. They must
//! never do more than the ledger's method of the same name.

use pyo3::prelude::*;
use schematic_core::leases::ReservationId;

use crate::{
    core::{Core, slot},
    results::Reservation,
};

#[pyfunction]
pub(super) fn try_reserve(
    core: &Bound<'_, Core>,
    company_id: &str,
    credit_type_id: &str,
    credits: f64,
) -> PyResult<Option<(f64, String)>> {
    let now = core.get().both(core.py())?;
    let ledger = core.get().client().ledger();
    let debit = ledger.try_reserve(slot(company_id, credit_type_id), credits, now);
    Ok(debit
        .ok()
        .map(|debit| (debit.remaining, debit.lease_id.to_string())))
}

#[pyfunction]
#[pyo3(signature = (core, company_id, credit_type_id, credits, lease_id=None))]
pub(super) fn refund(
    core: &Bound<'_, Core>,
    company_id: &str,
    credit_type_id: &str,
    credits: f64,
    lease_id: Option<&str>,
) {
    let ledger = core.get().client().ledger();
    ledger.refund(slot(company_id, credit_type_id), credits, lease_id);
}

#[pyfunction]
pub(super) fn add_hold(
    core: &Bound<'_, Core>,
    reservation: &Bound<'_, Reservation>,
) -> PyResult<bool> {
    let now = core.get().both(core.py())?;
    let ledger = core.get().client().ledger();
    Ok(ledger.add(&reservation.get().0, None, now))
}

#[pyfunction]
pub(super) fn consume(core: &Bound<'_, Core>, reservation_id: &str, credits: f64) -> Option<f64> {
    let id = ReservationId::parse(reservation_id);
    core.get().client().ledger().consume_by_id(&id, credits)
}

#[pyfunction]
pub(super) fn has_hold(core: &Bound<'_, Core>, reservation_id: &str) -> bool {
    let id = ReservationId::parse(reservation_id);
    core.get().client().ledger().holds(&id)
}
