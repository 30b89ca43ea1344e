//! The options of a plain check: usage that is about to happen, and what it would cost. They must never
//! change what the cache knows.

use pyo3::{
    exceptions::PyTypeError,
    prelude::*,
    types::{PyMapping, PyString},
};
use schematic_core::engine::Preflight;
use smallvec::SmallVec;

use super::{kind_of, numbers::units, quantity, utf8};

/// Names and amounts, for example credits by credit id.
type Amounts<'py> = Vec<(Bound<'py, PyString>, f64)>;

fn amounts<'py>(name: &str, amounts: &Bound<'py, PyAny>) -> PyResult<Amounts<'py>> {
    let mapping = amounts.cast::<PyMapping>().map_err(|_| {
        let kind = kind_of(amounts);
        PyTypeError::new_err(format!("{name} must be a dict of numbers, not {kind}"))
    })?;
    let mut pairs = Vec::new();
    for item in mapping.items()?.iter() {
        let (key, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item.extract()?;
        let key = key.cast_into::<PyString>().map_err(|fault| {
            let kind = kind_of(&fault.into_inner());
            PyTypeError::new_err(format!("{name} must have str keys, not {kind}"))
        })?;
        let amount = quantity(&format!("{name}[{key:?}]"), &value)?;
        pairs.push((key, amount));
    }
    Ok(pairs)
}

fn borrowed<'a>(name: &str, amounts: &'a Amounts<'_>) -> PyResult<SmallVec<[(&'a str, f64); 4]>> {
    amounts
        .iter()
        .map(|(key, amount)| Ok((utf8(name, key)?, *amount)))
        .collect()
}

/// What a plain check asks on top of the entities, borrowed from Python.
#[derive(Default)]
pub(crate) struct BorrowedPreflight<'py> {
    usage: Option<i64>,
    event_usage: Option<(String, i64)>,
    event_quantities: Option<(String, Amounts<'py>, Option<f64>)>,
    credit_cost: Amounts<'py>,
}

impl<'py> BorrowedPreflight<'py> {
    pub fn of(
        usage: Option<&Bound<'py, PyAny>>,
        event_usage: Option<(String, Bound<'py, PyAny>)>,
        event_quantities: Option<(String, Bound<'py, PyAny>, Option<f64>)>,
        credit_cost: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Self> {
        let mut preflight = Self::default();
        if let Some(usage) = usage {
            preflight.usage = Some(units("usage", usage)?);
        }
        if let Some((event, usage)) = event_usage {
            preflight.event_usage = Some((event, units("event_usage", &usage)?));
        }
        if let Some((event, quantities, quantity)) = event_quantities {
            let quantities = amounts("event_quantities", &quantities)?;
            preflight.event_quantities = Some((event, quantities, quantity));
        }
        if let Some(cost) = credit_cost {
            preflight.credit_cost = amounts("credit_cost", cost)?;
        }
        Ok(preflight)
    }

    /// Asks something with it.
    pub fn ask<T>(&self, question: impl FnOnce(&Preflight<'_>) -> T) -> PyResult<T> {
        let quantities = match &self.event_quantities {
            Some((event, quantities, quantity)) => Some((
                event.as_str(),
                borrowed("event_quantities", quantities)?,
                *quantity,
            )),
            None => None,
        };
        let quantities = quantities.as_ref();
        Ok(question(&Preflight {
            usage: self.usage,
            event_usage: self
                .event_usage
                .as_ref()
                .map(|(event, units)| (event.as_str(), *units)),
            event_quantities: quantities.map(|(event, named, _)| (*event, named.as_slice())),
            event_quantity: quantities.and_then(|(_, _, quantity)| *quantity),
            credit_cost: &borrowed("credit_cost", &self.credit_cost)?,
            balance: None,
        }))
    }
}
