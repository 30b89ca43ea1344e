//! What a preflight costs, in credits.

use super::condition::{
    CACHE_CREATION_INPUT_TOKENS, CACHED_INPUT_TOKENS, CreditCondition, QuantityRate, RateKind,
};
use super::preflight::Preflight;

/// The engine counts no more than this of any one quantity.
const QUANTITY_CAP: f64 = 1e9;

/// What an event uses is added to nothing, which is not idle: a zero with a sign, at a rate of `-0.0`, loses it.
const NOTHING: f64 = 0.0;

/// Credits that a draw takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    pub credits: f64,
    /// Whether the caller named the cost: a draw of zero credits then needs no balance.
    pub explicit: bool,
}

#[allow(
    clippy::cast_precision_loss,
    reason = "the engine prices usage in doubles"
)]
pub(super) fn cost(condition: &CreditCondition, preflight: &Preflight<'_>) -> Cost {
    let said = preflight
        .credit_cost
        .iter()
        .find(|&&(credit, _)| condition.credit.name.is(credit));
    if let Some(&(_, credits)) = said {
        return Cost {
            credits,
            explicit: true,
        };
    }
    let event = condition.event.as_ref();
    let credits = match preflight.event_quantities {
        Some((named, quantities)) if event.is_some_and(|event| event.is(named)) => {
            let units = preflight
                .event_quantity
                .filter(|&units| units > 0.0)
                .unwrap_or(1.0);
            quantities_cost(condition, NOTHING + units * condition.rate, quantities)
        }
        _ => match (preflight.own_usage_of(event), preflight.positive_usage()) {
            (Some(usage), _) => NOTHING + usage as f64 * condition.rate,
            (None, Some(usage)) => usage as f64 * condition.rate,
            (None, None) => condition.rate,
        },
    };
    Cost {
        credits,
        explicit: false,
    }
}

/// `base` credits, plus every quantity at its own rate, added up in the order of the rates.
fn quantities_cost(condition: &CreditCondition, base: f64, quantities: &[(&str, f64)]) -> f64 {
    let quantity = |name: &[u8]| {
        let found = quantities
            .iter()
            .find(|&&(known, _)| known.as_bytes() == name);
        found.map(|&(_, quantity)| quantity.min(QUANTITY_CAP))
    };
    let units = |rate: &QuantityRate| {
        let units = quantity(rate.name.as_bytes())?;
        if rate.kind != RateKind::InputTokens {
            return Some(units);
        }
        // Subsets are taken off even if they have no rate of their own.
        let cached = quantity(CACHED_INPUT_TOKENS.as_bytes()).unwrap_or(0.0);
        let created = quantity(CACHE_CREATION_INPUT_TOKENS.as_bytes()).unwrap_or(0.0);
        Some((units - cached - created).max(0.0))
    };
    condition
        .quantity_rates
        .iter()
        .filter_map(|rate| units(rate).map(|units| units * rate.rate))
        .fold(base, |total, credits| total + credits)
}
