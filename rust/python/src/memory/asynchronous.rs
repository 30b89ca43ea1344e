//! The hot methods of the asynchronous client that make something to wait for, and wait for nothing themselves.

#![allow(
    clippy::doc_markdown,
    reason = "docstrings of public methods are Python's"
)]

use pyo3::{
    prelude::*,
    sync::PyOnceLock,
    types::{PyDict, PyTuple, PyType},
};

use super::{
    Argument, Memory,
    call::{CheckCall, Keywords},
    hold_call::HoldCall,
};

/// What the asynchronous client makes natively. Errors about arguments name this class: so it bears
/// the public one's name.
#[pyclass(
    frozen,
    subclass,
    extends = Memory,
    name = "AsyncSchematic",
    module = "schematic_native._native"
)]
pub(crate) struct Asynchronous;

#[pymethods]
impl Asynchronous {
    #[new]
    #[pyo3(signature = (*arguments, **keywords))]
    fn new(
        arguments: &Bound<'_, PyTuple>,
        keywords: Option<&Bound<'_, PyDict>>,
    ) -> PyClassInitializer<Self> {
        PyClassInitializer::from(Memory::new(arguments, keywords)).add_subclass(Self)
    }

    /// Hold credits for a block of work, and settle what was used when the block is left.
    ///
    /// Use it with `async with`, and report usage with `hold.use(units)`. In the background, the hold
    /// reserves more when it runs low, and renews reservations before they expire. However the block
    /// is left, what was used is billed once and the rest is refunded. See `docs/holds.md`.
    ///
    /// Args:
    ///     flag_key: the flag.
    ///     company: the company's lookup keys.
    ///     user: the user's lookup keys.
    ///     usage: the event units to hold at first, more than 0.
    ///     event_subtype: the event that is billed; None takes the entitlement's.
    ///     on_acquire_failure: see `check`.
    ///     default_value: see `check`.
    ///     timeout: seconds that each check may take.
    ///     traits: the traits of the billed events.
    ///     required: raise CreditsDenied on entering if the check denies.
    ///     ttl: the time to live between renewals, in seconds; None for the configured one.
    ///     key: names the operation: if it is repeated within 24 h, it is billed once.
    ///
    /// Raises:
    ///     TypeError, ValueError: usage, traits, ttl or key is wrong; entering checks the others.
    #[pyo3(
        signature = (
            flag_key, company=None, user=None, *, usage, event_subtype=None, on_acquire_failure=None,
            default_value=None, timeout=None, traits=None, required=None, ttl=None, key=None,
        ),
        text_signature = "($self, flag_key, company=None, user=None, *, usage, event_subtype=None, \
            on_acquire_failure=None, default_value=None, timeout=None, traits=None, required=False, \
            ttl=None, key=None)"
    )]
    #[allow(clippy::too_many_arguments, reason = "the arguments of a hold")]
    fn hold<'py>(
        slf: &Bound<'py, Self>,
        flag_key: &Bound<'py, PyAny>,
        company: Argument<'_, 'py>,
        user: Argument<'_, 'py>,
        usage: &Bound<'py, PyAny>,
        event_subtype: Argument<'_, 'py>,
        on_acquire_failure: Argument<'_, 'py>,
        default_value: Argument<'_, 'py>,
        timeout: Argument<'_, 'py>,
        traits: Argument<'_, 'py>,
        required: Argument<'_, 'py>,
        ttl: Argument<'_, 'py>,
        key: Argument<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let name = "schematic_native.client.hold.asynchronous";
        let class = CLASS.import(slf.py(), name, "AsyncHold")?;
        let call = HoldCall {
            check: CheckCall {
                flag_key,
                company,
                user,
                options: None,
                keywords: Keywords {
                    usage: Some(usage),
                    event_subtype,
                    on_acquire_failure,
                    default_value,
                    timeout,
                },
            },
            usage,
            traits,
            required,
            ttl,
            key,
        };
        call.make(slf.as_super(), class)
    }
}
