//! The half of a client that answers from memory, under its public methods.
//!
//! A Python function with ten parameters costs as much as the check that it asks for. So the
//! synchronous client's hot methods are native: they answer, or else call the Python method that
//! waits. The asynchronous client's are coroutines, which ask here first.

#![allow(
    clippy::doc_markdown,
    reason = "docstrings of public methods are Python's"
)]

use std::sync::{
    OnceLock,
    atomic::{AtomicU8, Ordering::Relaxed},
};

use pyo3::{
    IntoPyObjectExt, intern,
    prelude::*,
    sync::PyOnceLock,
    types::{PyBool, PyDict, PyTuple, PyType},
};
use schematic_core::decider::Progress;

use crate::{
    arguments::plain_number,
    core::{AskedCheck, Core, uninterrupted},
    pending,
    results::{CheckResult, Reservation},
};

type Argument<'a, 'py> = Option<&'a Bound<'py, PyAny>>;

/// What a client has in memory, and what of it may be used now.
#[pyclass(frozen, subclass, module = "schematic_native._native")]
pub(crate) struct Memory {
    cores: Place,
    open: AtomicU8,
}

/// A core, and the one that took its place after a fork. The earlier one is kept as it is: in the
/// child, what is the parent's must not be taken apart.
struct Link {
    core: Py<Core>,
    next: Place,
}

type Place = OnceLock<Box<Link>>;

/// Flags have arrived: plain checks may be answered.
const CHECKING: u8 = 1;
/// Checks may hold credits of leases.
const LEASING: u8 = 2;
/// Somebody sends what a settle queues.
const SETTLING: u8 = 4;
/// Only whoever is named by one key at most is known well enough: several may be in conflict.
const SINGLE: u8 = 8;

/// The fewest units that no event can bill: it counts them in 63 bits.
const UNBILLABLE: f64 = 9_223_372_036_854_775_808.0;

impl Memory {
    /// The core, if this may be asked of it and if it is not that of a process this one forked from.
    fn core(&self, what: u8) -> Option<&Py<Core>> {
        if self.open.load(Relaxed) & what == 0 {
            return None;
        }
        let mut link = self.cores.get()?;
        while let Some(next) = link.next.get() {
            link = next;
        }
        Some(&link.core).filter(|core| !core.get().is_forked())
    }

    /// Whether memory can tell who these keys name.
    #[inline]
    fn knows(&self, keys: Argument<'_, '_>) -> bool {
        self.open.load(Relaxed) & SINGLE == 0
            || keys.is_none_or(|keys| keys.len().is_ok_and(|keys| keys <= 1))
    }

    fn flag_value(
        &self,
        py: Python<'_>,
        flag_key: &Bound<'_, PyAny>,
        company: Argument<'_, '_>,
        user: Argument<'_, '_>,
    ) -> PyResult<Option<bool>> {
        match self.core(CHECKING) {
            Some(core) if self.knows(company) && self.knows(user) => {
                // Without a sender nobody would ever take the event of this check.
                let record = self.open.load(Relaxed) & SETTLING != 0;
                core.get().flag_value(py, flag_key, company, user, record)
            }
            _ => Ok(None),
        }
    }

    /// Begins a check that may hold credits; `None` if nothing was begun.
    fn begin<'py>(
        &self,
        py: Python<'py>,
        subject: &Subject<'_, 'py>,
        keywords: Asked<'_, 'py>,
        options: Argument<'_, 'py>,
        ttl: Option<f64>,
    ) -> PyResult<Option<(&Py<Core>, Progress)>> {
        let Some(core) = self.core(LEASING) else {
            return Ok(None);
        };
        if !(self.knows(subject.company) && self.knows(subject.user)) {
            return Ok(None);
        }
        let said = options.map(Said::of).transpose()?;
        let asked = match &said {
            None => keywords,
            Some(Some(said)) => keywords.or(said),
            Some(None) => return Ok(None),
        };
        let Some(usage) = asked.usage.filter(|_| asked.is_sound()) else {
            return Ok(None);
        };
        let check = AskedCheck {
            flag_key: subject.flag_key,
            company: subject.company,
            user: subject.user,
            usage,
            event_subtype: asked.event_subtype,
            on_acquire_failure: asked.on_acquire_failure,
            ttl,
        };
        let progress = core.get().begin(py, &check)?;
        Ok(Some((core, progress)))
    }

    /// Settles what can be settled without a wait or a word; `false` if nothing was done.
    fn settle(
        &self,
        reservation: &Bound<'_, PyAny>,
        quantity: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let (Some(core), Ok(reservation), Some(quantity)) = (
            self.core(SETTLING),
            reservation.cast_exact::<Reservation>(),
            plain_number(quantity).filter(|units| *units < UNBILLABLE),
        ) else {
            return Ok(false);
        };
        let (client, reservation) = (core.get().client(), &reservation.get().0);
        uninterrupted(if client.is_shared() {
            // A hold that is not in this process must be claimed elsewhere, which takes a wait.
            client.settle_held(reservation, quantity)
        } else {
            client.settle(reservation, quantity, None).is_some()
        })
    }
}

/// What a check is about.
struct Subject<'a, 'py> {
    flag_key: &'a Bound<'py, PyAny>,
    company: Argument<'a, 'py>,
    user: Argument<'a, 'py>,
}

/// What a check is asked by keyword.
#[derive(Clone, Copy)]
struct Asked<'a, 'py> {
    usage: Argument<'a, 'py>,
    event_subtype: Argument<'a, 'py>,
    on_acquire_failure: Argument<'a, 'py>,
    default_value: Argument<'a, 'py>,
    timeout: Argument<'a, 'py>,
}

impl<'a, 'py> Asked<'a, 'py> {
    /// Fills in from the options what no keyword gave.
    fn or<'b>(self, said: &'b Said<'py>) -> Asked<'b, 'py>
    where
        'a: 'b,
    {
        Asked {
            usage: self.usage.or(said.usage.as_ref()),
            event_subtype: self.event_subtype.or(said.event_subtype.as_ref()),
            on_acquire_failure: self.on_acquire_failure.or(said.on_acquire_failure.as_ref()),
            default_value: self.default_value.or(said.default_value.as_ref()),
            timeout: self.timeout.or(said.timeout.as_ref()),
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

/// The same, as `CheckOptions` say it.
struct Said<'py> {
    usage: Option<Bound<'py, PyAny>>,
    event_subtype: Option<Bound<'py, PyAny>>,
    on_acquire_failure: Option<Bound<'py, PyAny>>,
    default_value: Option<Bound<'py, PyAny>>,
    timeout: Option<Bound<'py, PyAny>>,
}

impl<'py> Said<'py> {
    /// `None` if these are no `CheckOptions`.
    fn of(options: &Bound<'py, PyAny>) -> PyResult<Option<Self>> {
        static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let py = options.py();
        let class = CLASS.import(py, "schematic_native.config", "CheckOptions")?;
        if !options.get_type().is(class) {
            return Ok(None);
        }
        let get = |name| {
            let value = options.getattr(name)?;
            PyResult::Ok(Some(value).filter(|value| !value.is_none()))
        };
        Ok(Some(Self {
            usage: get(intern!(py, "usage"))?,
            event_subtype: get(intern!(py, "event_subtype"))?,
            on_acquire_failure: get(intern!(py, "on_acquire_failure"))?,
            default_value: get(intern!(py, "default_value"))?,
            timeout: get(intern!(py, "timeout"))?,
        }))
    }
}

#[pymethods]
impl Memory {
    #[new]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(_arguments: &Bound<'_, PyTuple>, _keywords: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            cores: Place::new(),
            open: AtomicU8::new(0),
        }
    }

    fn _take_core(&self, core: Py<Core>) {
        self.open.store(0, Relaxed);
        let mut place = &self.cores;
        let mut link = Box::new(Link {
            core,
            next: Place::new(),
        });
        while let Err(refused) = place.set(link) {
            let Some(taken) = place.get() else { return };
            (place, link) = (&taken.next, refused);
        }
    }

    #[pyo3(signature = (checking, leasing, settling, single = false))]
    #[allow(
        clippy::fn_params_excessive_bools,
        reason = "each is named by its caller"
    )]
    fn _open(&self, checking: bool, leasing: bool, settling: bool, single: bool) {
        let open = [
            (checking, CHECKING),
            (leasing, LEASING),
            (settling, SETTLING),
            (single, SINGLE),
        ];
        let open = open.iter().filter(|(is_open, _)| *is_open);
        self.open.store(open.map(|(_, what)| what).sum(), Relaxed);
    }

    fn _flag_value_now(
        &self,
        py: Python<'_>,
        flag_key: &Bound<'_, PyAny>,
        company: Argument<'_, '_>,
        user: Argument<'_, '_>,
    ) -> PyResult<Option<bool>> {
        self.flag_value(py, flag_key, company, user)
    }

    #[pyo3(signature = (
        flag_key, company, user, options, usage, event_subtype, on_acquire_failure, default_value,
        timeout, ttl=None,
    ))]
    #[allow(clippy::too_many_arguments, reason = "the arguments of a check")]
    fn _begin_now<'py>(
        &self,
        py: Python<'py>,
        flag_key: &Bound<'py, PyAny>,
        company: Argument<'_, 'py>,
        user: Argument<'_, 'py>,
        options: Argument<'_, 'py>,
        usage: Argument<'_, 'py>,
        event_subtype: Argument<'_, 'py>,
        on_acquire_failure: Argument<'_, 'py>,
        default_value: Argument<'_, 'py>,
        timeout: Argument<'_, 'py>,
        ttl: Option<f64>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let subject = Subject {
            flag_key,
            company,
            user,
        };
        let asked = Asked {
            usage,
            event_subtype,
            on_acquire_failure,
            default_value,
            timeout,
        };
        match self.begin(py, &subject, asked, options, ttl)? {
            Some((core, progress)) => pending::answer(py, core, progress).map(Some),
            None => Ok(None),
        }
    }

    fn _settle_now(
        &self,
        reservation: &Bound<'_, PyAny>,
        quantity: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        self.settle(reservation, quantity)
    }
}

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
        slf.call_method1(wait, (flag_key, company, user, options))?
            .getattr(intern!(py, "value"))
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
        let subject = Subject {
            flag_key,
            company,
            user,
        };
        let asked = Asked {
            usage,
            event_subtype,
            on_acquire_failure,
            default_value,
            timeout,
        };
        let memory = slf.as_super().get();
        let waiting = match memory.begin(py, &subject, asked, options, None)? {
            Some((_, Progress::Done(answer))) => {
                return CheckResult::from(answer).into_py_any(py);
            }
            Some((core, progress)) => Some(pending::answer(py, core, progress)?),
            None => None,
        };
        let arguments = (
            flag_key,
            company,
            user,
            options,
            usage,
            event_subtype,
            on_acquire_failure,
            default_value,
            timeout,
        );
        slf.call_method1(intern!(py, "_check_waiting"), (arguments, waiting))
            .map(Bound::unbind)
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
        slf.call_method1(wait, (reservation, actual_quantity, options))
            .map(drop)
    }
}
