//! What one evaluation is asked on top of the entities.

use crate::name::Name;

/// Usage that is about to happen, and a balance to evaluate with. It borrows; no entity is copied for it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Preflight<'a> {
    /// Units of usage, whatever the event.
    pub usage: Option<i64>,
    /// Units of usage of one event, by its subtype.
    pub event_usage: Option<(&'a str, i64)>,
    /// Several quantities of one event, by its subtype. Names are distinct.
    pub event_quantities: Option<(&'a str, &'a [(&'a str, f64)])>,
    /// Units of the event that the quantities come on top of; one unit if there are none. Only looked at beside
    /// `event_quantities`.
    pub event_quantity: Option<f64>,
    /// Credits by credit id, instead of what usage would cost. Ids are distinct.
    pub credit_cost: &'a [(&'a str, f64)],
    /// Replaces the company's balance of this one credit.
    pub balance: Option<(&'a str, f64)>,
}

/// Why a preflight is refused. The flag's default is the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PreflightError {
    /// A usage or quantity is below zero.
    #[error("preflight usage cannot be negative")]
    NegativeUsage,
    /// A credit cost is below zero.
    #[error("preflight credit cost cannot be negative")]
    NegativeCost,
}

impl Preflight<'_> {
    pub(super) fn validate(&self) -> Result<(), PreflightError> {
        let has_negative_quantity = |(_, quantities): (&str, &[(&str, f64)])| {
            self.event_quantity.is_some_and(|units| units < 0.0)
                || quantities.iter().any(|&(_, quantity)| quantity < 0.0)
        };
        let negative_usage = self.usage.is_some_and(|usage| usage < 0)
            || self.event_usage.is_some_and(|(_, quantity)| quantity < 0)
            || self.event_quantities.is_some_and(has_negative_quantity);
        if negative_usage {
            return Err(PreflightError::NegativeUsage);
        }
        if self.credit_cost.iter().any(|&(_, cost)| cost < 0.0) {
            return Err(PreflightError::NegativeCost);
        }
        Ok(())
    }

    /// Usage of the event in units: its own if there is any, else the usage of no particular event.
    pub(super) fn usage_of(&self, event: &Name) -> Option<i64> {
        self.own_usage_of(Some(event))
            .or_else(|| self.positive_usage())
    }

    /// Usage of this very event in units.
    pub(super) fn own_usage_of(&self, event: Option<&Name>) -> Option<i64> {
        self.event_usage
            .filter(|&(named, quantity)| quantity > 0 && event.is_some_and(|event| event.is(named)))
            .map(|(_, quantity)| quantity)
    }

    pub(super) fn positive_usage(&self) -> Option<i64> {
        self.usage.filter(|&usage| usage > 0)
    }
}
