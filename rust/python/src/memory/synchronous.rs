//! The hot methods of the synchronous client. Each answers from memory or hands the call on, unchanged, to
//! the Python method that waits; it must never wait itself.

#![allow(
    clippy::doc_markdown,
    reason = "docstrings of public methods are Python's"
)]

use pyo3::{
    IntoPyObjectExt, intern,
    prelude::*,
    sync::PyOnceLock,
    types::{PyBool, PyDict, PyTuple, PyType},
};
use schematic_core::decider::Progress;

use super::{
    Argument, Memory,
    call::{CheckCall, Keywords},
    hold_call::HoldCall,
};
use crate::{core::outcome, python_call::call_method, results::CheckResult};

/// The hot methods of the synchronous client. Errors about arguments name this class: so it bears
/// the public one's name.
#[pyclass(frozen, subclass, extends = Memory, name = "Schematic", module = "schematic_native._native")]
pub(crate) struct Synchronous;

#[pymethods]
impl Synchronous {
    #[new]
    #[pyo3(signature = (*arguments, **keywords))]
    fn new(
        arguments: &Bound<'_, PyTuple>,
        keywords: Option<&Bound<'_, PyDict>>,
    ) -> PyClassInitializer<Self> {
        PyClassInitializer::from(Memory::new(arguments, keywords)).add_subclass(Self)
    }

    /// Tell whether a flag is on for a company and a user, named by their lookup keys.
    #[pyo3(signature = (flag_key, company=None, user=None, options=None))]
    fn check_flag<'py>(
        slf: &Bound<'py, Self>,
        flag_key: &Bound<'py, PyAny>,
        company: Argument<'_, 'py>,
        user: Argument<'_, 'py>,
        options: Argument<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        if options.is_none()
            && let Some(value) = slf
                .as_super()
                .get()
                .flag_value(py, flag_key, company, user)?
        {
            return Ok(PyBool::new(py, value).to_owned().into_any());
        }
        let wait = intern!(py, "check_flag_with_entitlement");
        call_method(slf, wait, (flag_key, company, user, options))?.getattr(intern!(py, "value"))
    }

    /// Check a flag and, if credit leases are configured, hold credits for the usage stated.
    ///
    /// Args:
    ///     flag_key: the flag.
    ///     company: its lookup keys.
    ///     user: its lookup keys.
    ///     options: the keywords below in one object; a keyword wins over it.
    ///     usage: event units to reserve credits for.
    ///     event_subtype: the event that will be billed; None takes the entitlement's.
    ///     on_acquire_failure: "fail-closed" (the default) denies when credits cannot be reserved,
    ///         "fail-open" lets targeting alone decide.
    ///     default_value: the answer if none can be had.
    ///     timeout: seconds the whole check may take.
    ///
    /// Returns:
    ///     The verdict. Settle its reservation with `track_with_reservation`.
    ///
    /// Raises:
    ///     TypeError: an argument has the wrong type; nothing has been reserved.
    ///     ValueError: an argument has a wrong value; nothing has been reserved.
    ///
    /// A fault of the server or the network never raises.
    #[pyo3(signature = (
        flag_key, company=None, user=None, options=None, *, usage=None, event_subtype=None,
        on_acquire_failure=None, default_value=None, timeout=None,
    ))]
    #[allow(clippy::too_many_arguments, reason = "the arguments of a check")]
    fn check<'py>(
        slf: &Bound<'py, Self>,
        flag_key: &Bound<'py, PyAny>,
        company: Argument<'_, 'py>,
        user: Argument<'_, 'py>,
        options: Argument<'_, 'py>,
        usage: Argument<'_, 'py>,
        event_subtype: Argument<'_, 'py>,
        on_acquire_failure: Argument<'_, 'py>,
        default_value: Argument<'_, 'py>,
        timeout: Argument<'_, 'py>,
    ) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let call = CheckCall {
            flag_key,
            company,
            user,
            options,
            keywords: Keywords {
                usage,
                event_subtype,
                on_acquire_failure,
                default_value,
                timeout,
            },
        };
        let pending = match slf.as_super().get().begin(py, &call, None)? {
            Some((_, Progress::Done(answer))) => {
                return CheckResult::from(answer).into_py_any(py);
            }
            Some((core, progress)) => Some(outcome(py, core, progress)?),
            None => None,
        };
        call.hand_on(slf.as_any(), pending).map(Bound::unbind)
    }

    /// Settle a reservation.
    ///
    /// Bill `actual_quantity` event units (rounded up), refund the rest of the hold.
    #[pyo3(signature = (reservation, actual_quantity, options=None))]
    fn track_with_reservation<'py>(
        slf: &Bound<'py, Self>,
        reservation: &Bound<'py, PyAny>,
        actual_quantity: &Bound<'py, PyAny>,
        options: Argument<'_, 'py>,
    ) -> PyResult<()> {
        let memory = slf.as_super().get();
        if options.is_none() && memory.settle(reservation, actual_quantity)? {
            return Ok(());
        }
        let wait = intern!(slf.py(), "_track_with_reservation");
        call_method(slf, wait, (reservation, actual_quantity, options)).map(drop)
    }

    /// Hold credits for a block of work, and settle what was used when the block is left.
    ///
    /// Use it with `with`. The arguments are those of `AsyncSchematic.hold`.
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
        let name = "schematic_native.client.hold.synchronous";
        let class = CLASS.import(slf.py(), name, "Hold")?;
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
