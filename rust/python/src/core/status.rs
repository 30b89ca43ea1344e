//! What a core has and has done, in counts, without I/O.

use std::collections::HashMap;

use pyo3::{prelude::*, types::PyDict};

use super::Core;

#[pymethods]
impl Core {
    fn counts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (cache, ledger) = (self.client.cache(), self.client.ledger());
        let queue = self.client.events().counts();
        let (checks, settles) = self.client.traffic();
        let dict = PyDict::new(py);
        dict.set_item("flags", cache.flags().len())?;
        dict.set_item("companies", cache.companies().len())?;
        dict.set_item("users", cache.users().len())?;
        dict.set_item(
            "evicted",
            cache.companies().evicted() + cache.users().evicted(),
        )?;
        dict.set_item("leases", ledger.live_leases(self.both(py)?).len())?;
        dict.set_item("open_holds", ledger.open_holds())?;
        dict.set_item("queued_billing", queue.billing)?;
        dict.set_item("queued_flag_checks", queue.analytics)?;
        dict.set_item("dropped_billing", queue.dropped_billing)?;
        dict.set_item("dropped_flag_checks", queue.dropped_analytics)?;
        dict.set_item("checks", checks)?;
        dict.set_item("settles", settles)?;
        dict.set_item("swept", ledger.swept())?;
        Ok(dict)
    }

    fn denials(&self) -> HashMap<&'static str, u64> {
        self.client.denials().collect()
    }

    fn __repr__(&self) -> String {
        let cache = self.client.cache();
        let (flags, companies) = (cache.flags().len(), cache.companies().len());
        format!("Core(flags={flags}, companies={companies})")
    }
}
