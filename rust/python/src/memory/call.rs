//! The arguments of a public check, read into one object where it enters. They must never be refused here:
//! whatever is not right is left to Python, which says what is wrong with it.

use pyo3::{
    intern,
    prelude::*,
    sync::PyOnceLock,
    types::{PyBool, PyType},
};

use super::Argument;
use crate::{arguments::plain_number, core::CheckArguments, python_call::call_method};

/// A call of `check`, as the program made it.
pub(super) struct CheckCall<'a, 'py> {
    pub flag_key: &'a Bound<'py, PyAny>,
    pub company: Argument<'a, 'py>,
    pub user: Argument<'a, 'py>,
    pub options: Argument<'a, 'py>,
    pub keywords: Keywords<'a, 'py>,
}

impl<'a, 'py> CheckCall<'a, 'py> {
    /// What the core is asked; `None` if nothing is to be reserved, or if an argument is not right.
    #[inline]
    pub fn arguments<'b>(
        &self,
        options: &'b Options<'py>,
        ttl: Option<f64>,
    ) -> Option<CheckArguments<'b, 'py>>
    where
        'a: 'b,
    {
        let keywords = match options {
            Options::None => self.keywords,
            Options::Given(values) => self.keywords.or(values),
            Options::Unknown => return None,
        };
        let usage = keywords.usage.filter(|_| keywords.is_sound())?;
        Some(CheckArguments {
            flag_key: self.flag_key,
            company: self.company,
            user: self.user,
            usage,
            event_subtype: keywords.event_subtype,
            on_acquire_failure: keywords.on_acquire_failure,
            ttl,
        })
    }

    /// Hands the call on to the client's Python method that waits, with the check that was begun.
    pub fn hand_on(
        &self,
        client: &Bound<'py, PyAny>,
        pending: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let keywords = self.keywords;
        let arguments = (
            self.flag_key,
            self.company,
            self.user,
            self.options,
            keywords.usage,
            keywords.event_subtype,
            keywords.on_acquire_failure,
            keywords.default_value,
            keywords.timeout,
        );
        call_method(
            client,
            intern!(client.py(), "_check_waiting"),
            (arguments, pending),
        )
    }
}

/// What a check can be given by keyword.
#[derive(Clone, Copy)]
pub(super) struct Keywords<'a, 'py> {
    pub usage: Argument<'a, 'py>,
    pub event_subtype: Argument<'a, 'py>,
    pub on_acquire_failure: Argument<'a, 'py>,
    pub default_value: Argument<'a, 'py>,
    pub timeout: Argument<'a, 'py>,
}

impl<'a, 'py> Keywords<'a, 'py> {
    /// Takes from the options what no keyword gave.
    fn or<'b>(self, values: &'b OptionValues<'py>) -> Keywords<'b, 'py>
    where
        'a: 'b,
    {
        Keywords {
            usage: self.usage.or(values.usage.as_ref()),
            event_subtype: self.event_subtype.or(values.event_subtype.as_ref()),
            on_acquire_failure: self
                .on_acquire_failure
                .or(values.on_acquire_failure.as_ref()),
            default_value: self.default_value.or(values.default_value.as_ref()),
            timeout: self.timeout.or(values.timeout.as_ref()),
        }
    }

    /// Whether what only a wait needs is right too: a wrong argument is refused before anything is
    /// held, and Python says what is wrong with it.
    fn is_sound(&self) -> bool {
        let is_default =
            |value: &Bound<'py, PyAny>| value.is_instance_of::<PyBool>() || value.is_callable();
        let is_timeout = |value: &Bound<'py, PyAny>| {
            plain_number(value).is_some_and(|seconds| seconds.is_finite() && seconds >= 0.0)
        };
        self.default_value.is_none_or(is_default) && self.timeout.is_none_or(is_timeout)
    }
}

/// The options of a check.
pub(super) enum Options<'py> {
    /// There are none.
    None,
    /// What `CheckOptions` say.
    Given(OptionValues<'py>),
    /// Something else than `CheckOptions`.
    Unknown,
}

impl<'py> Options<'py> {
    #[inline]
    pub fn of(given: Argument<'_, 'py>) -> PyResult<Self> {
        given.map_or(Ok(Self::None), Self::read)
    }

    fn read(given: &Bound<'py, PyAny>) -> PyResult<Self> {
        static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let py = given.py();
        let class = CLASS.import(py, "schematic_native.config", "CheckOptions")?;
        if !given.get_type().is(class) {
            return Ok(Self::Unknown);
        }
        let get = |name| {
            let value = given.getattr(name)?;
            PyResult::Ok(Some(value).filter(|value| !value.is_none()))
        };
        Ok(Self::Given(OptionValues {
            usage: get(intern!(py, "usage"))?,
            event_subtype: get(intern!(py, "event_subtype"))?,
            on_acquire_failure: get(intern!(py, "on_acquire_failure"))?,
            default_value: get(intern!(py, "default_value"))?,
            timeout: get(intern!(py, "timeout"))?,
        }))
    }
}

/// What a check can be given by options.
pub(super) struct OptionValues<'py> {
    usage: Option<Bound<'py, PyAny>>,
    event_subtype: Option<Bound<'py, PyAny>>,
    on_acquire_failure: Option<Bound<'py, PyAny>>,
    default_value: Option<Bound<'py, PyAny>>,
    timeout: Option<Bound<'py, PyAny>>,
}
