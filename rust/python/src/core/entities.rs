//! The cached flags, companies and users: how messages reach the cache, and what is looked up in it.
//! It must never parse a large message while it keeps other threads from running.

use std::collections::HashMap;

use pyo3::{
    exceptions::PyTypeError,
    prelude::*,
    types::{PyBytes, PyDict, PyString},
};
use schematic_core::cache::{Entity, Lookup, Table};

use super::Core;
use crate::arguments::{self, BorrowedKeys};

/// Bytes: a message of this size is worth letting other threads run while it is parsed.
const DETACH_FROM: usize = 2048;

/// What became of one `DataStream` message.
#[pyclass(frozen, get_all, module = "schematic_native._native")]
pub(crate) struct Ingested {
    entity_type: Option<String>,
    message_type: Option<String>,
    entity_id: Option<String>,
    keys: Option<HashMap<String, String>>,
    error: Option<String>,
    skipped: Vec<String>,
    changed_flags: Vec<String>,
}

#[pymethods]
impl Core {
    fn ingest(&self, py: Python<'_>, message: &Bound<'_, PyAny>) -> PyResult<Ingested> {
        let bytes = bytes_of(message)?;
        let cache = self.client.cache();
        let ingested = if bytes.len() < DETACH_FROM {
            cache.apply(bytes)
        } else {
            py.detach(|| cache.apply(bytes))
        };
        Ok(Ingested {
            entity_type: ingested.entity_type,
            message_type: ingested.message_type,
            entity_id: ingested.entity_id,
            keys: ingested.keys,
            error: ingested.error,
            skipped: ingested.skipped,
            changed_flags: ingested.changed_flags,
        })
    }

    fn has_flags(&self) -> bool {
        self.client.cache().has_flags()
    }

    fn flag_keys(&self) -> Vec<String> {
        let keys = self.client.cache().flags().keys();
        keys.iter().map(ToString::to_string).collect()
    }

    fn company_id(&self, keys: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
        find_id(self.client.cache().companies(), keys)
    }

    fn user_id(&self, keys: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
        find_id(self.client.cache().users(), keys)
    }

    fn company_subscriptions<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        subscriptions(py, self.client.cache().companies())
    }

    fn user_subscriptions<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        subscriptions(py, self.client.cache().users())
    }

    pub(super) fn company_balance(&self, company_id: &str, credit_type_id: &str) -> Option<f64> {
        let company = self.client.cache().companies().get(company_id)?;
        company.balance(credit_type_id)
    }
}

fn bytes_of<'a>(message: &'a Bound<'_, PyAny>) -> PyResult<&'a [u8]> {
    if let Ok(bytes) = message.cast::<PyBytes>() {
        return Ok(bytes.as_bytes());
    }
    if let Ok(text) = message.cast::<PyString>() {
        return Ok(text.to_str()?.as_bytes());
    }
    let kind = arguments::kind_of(message);
    Err(PyTypeError::new_err(format!(
        "message must be bytes or str, not {kind}"
    )))
}

fn find_id<E: Entity>(table: &Table<E>, keys: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    let keys = BorrowedKeys::of("keys", Some(keys))?;
    let Some(keys) = &keys else {
        return Ok(None);
    };
    Ok(match table.find(&keys.pairs()?) {
        Lookup::Found(entity, _) => Some(entity.id().to_string()),
        Lookup::Missing | Lookup::Conflict => None,
    })
}

/// The keys of each entity of a table, as its subscription is asked for.
fn subscriptions<'py, E: Entity>(
    py: Python<'py>,
    table: &Table<E>,
) -> PyResult<Vec<Bound<'py, PyDict>>> {
    let all = table.hottest_first();
    all.iter()
        .map(|entity| {
            let dict = PyDict::new(py);
            for (name, value) in entity.keys() {
                dict.set_item(name, value)?;
            }
            Ok(dict)
        })
        .collect()
}
