//! A call of `hold`, as the program made it. It refuses a usage that is not positive; what else is wrong with the
//! first check is for entering to say.

use pyo3::{intern, prelude::*, types::PyType};

use super::{
    Argument, Memory,
    call::CheckCall,
    hold_state::whole,
    hold_terms::{Given, Terms},
    open_hold::OpenHold,
};
use crate::python_call::call_method;

/// A call of `hold`, as the program made it.
pub(super) struct HoldCall<'a, 'py> {
    /// The first check.
    pub check: CheckCall<'a, 'py>,
    pub usage: &'a Bound<'py, PyAny>,
    pub traits: Argument<'a, 'py>,
    pub required: Argument<'a, 'py>,
    pub ttl: Argument<'a, 'py>,
    pub key: Argument<'a, 'py>,
}

impl<'py> HoldCall<'_, 'py> {
    /// Makes a hold of the client's class of holds.
    pub fn make(
        &self,
        client: &Bound<'py, Memory>,
        class: &Bound<'py, PyType>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if whole(self.usage).is_none_or(|usage| usage <= 0) {
            call_method(class, intern!(class.py(), "_check_usage"), (self.usage,))?;
        }
        let given = Given::of(&self.check, self.usage);
        let hold = OpenHold::make(class, Terms::of(client, given)?)?;
        let terms = (self.traits, self.required, self.ttl, self.key);
        if let (None, None, None, None) = terms {
            return Ok(hold);
        }
        call_method(&hold, intern!(hold.py(), "_with_terms"), terms)
    }
}
