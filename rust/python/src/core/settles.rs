//! The end of a hold: settles bill what was used, a release bills nothing. What a shared store is still
//! owed for one is an [`OwedClaim`]. It must never bill for a quantity that it cannot read.

use pyo3::prelude::*;

use super::Core;
use crate::{arguments, leases::OwedClaim, results::Reservation, wake::uninterrupted};

#[pymethods]
impl Core {
    #[pyo3(signature = (reservation, actual_quantity, traits=None))]
    fn settle_shared(
        &self,
        reservation: &Bound<'_, Reservation>,
        actual_quantity: &Bound<'_, PyAny>,
        traits: Option<&[u8]>,
    ) -> PyResult<Option<OwedClaim>> {
        let quantity = arguments::quantity("actual_quantity", actual_quantity)?;
        let traits = arguments::json("traits", traits)?;
        let held = &reservation.get().0;
        let owed = self.client.settle_shared(held, quantity, traits);
        uninterrupted(owed.map(OwedClaim))
    }

    #[pyo3(signature = (reservation, actual_quantity, traits=None, key=None))]
    fn settle_part(
        &self,
        reservation: &Bound<'_, Reservation>,
        actual_quantity: &Bound<'_, PyAny>,
        traits: Option<&[u8]>,
        key: Option<&str>,
    ) -> PyResult<Option<OwedClaim>> {
        let quantity = arguments::quantity("actual_quantity", actual_quantity)?;
        let traits = arguments::json("traits", traits)?;
        let held = &reservation.get().0;
        let owed = self.client.settle_part(held, quantity, traits, key);
        uninterrupted(owed.map(OwedClaim))
    }

    fn release(&self, reservation: &Bound<'_, Reservation>) -> PyResult<Option<OwedClaim>> {
        uninterrupted(self.client.release(&reservation.get().0).map(OwedClaim))
    }

    fn owed_claims(&self) -> Vec<OwedClaim> {
        let owed = self.client.owed_claims();
        owed.into_iter().map(OwedClaim).collect()
    }

    fn claim_ended(&self, claim: &Bound<'_, OwedClaim>, has_ended_hold: bool) {
        self.client.claim_ended(&claim.get().0, has_ended_hold);
    }
}
