//! The half of a client that answers from memory, under its public methods. It must never wait: where memory
//! cannot tell, nothing is done and the client's other half is asked.
//!
//! A Python function with ten parameters costs as much as the check that it asks for. So the synchronous
//! client's hot methods are native ([`Synchronous`]): they answer, or else call the Python method that
//! waits. The asynchronous client's are coroutines, which ask [`Memory`] first; what makes a hold waits for
//! nothing, and is native ([`Asynchronous`]).

mod asynchronous;
mod call;
mod hold_call;
mod hold_lock;
mod hold_state;
mod hold_terms;
mod open_hold;
mod open_holds;
mod synchronous;

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU8, Ordering::Relaxed},
};

use pyo3::{
    PyTraverseError, PyVisit,
    prelude::*,
    types::{PyDict, PyTuple},
};
use schematic_core::{decider::Progress, leases::Reservation as Held};

pub(crate) use asynchronous::Asynchronous;
use call::{CheckCall, Keywords, Options};
pub(crate) use hold_lock::HoldLock;
pub(crate) use open_hold::OpenHold;
pub(crate) use open_holds::OpenHolds;
pub(crate) use synchronous::Synchronous;

use crate::{
    arguments::plain_number,
    core::{Core, outcome},
    defaults::UNBILLABLE,
    results::Reservation,
    wake::uninterrupted,
};

type Argument<'a, 'py> = Option<&'a Bound<'py, PyAny>>;

/// What a client has in memory, and what of it may be used now.
#[pyclass(frozen, subclass, module = "schematic_native._native")]
pub(crate) struct Memory {
    cores: Place,
    open: AtomicU8,
}

/// A core with its open holds, and the one that took its place after a fork. The earlier one is kept as it
/// is: in the child, what is the parent's must not be taken apart.
struct Link {
    core: Py<Core>,
    holds: Option<Py<OpenHolds>>,
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

impl Memory {
    /// The core, if this may be asked of it and if it is not that of a process this one forked from.
    fn core(&self, what: u8) -> Option<&Py<Core>> {
        if self.open.load(Relaxed) & what == 0 {
            return None;
        }
        Some(&self.last()?.core).filter(|core| !core.get().is_forked())
    }

    fn last(&self) -> Option<&Link> {
        let mut link = self.cores.get()?;
        while let Some(next) = link.next.get() {
            link = next;
        }
        Some(link)
    }

    /// Whether the core is that of a process this one forked from.
    fn is_forked(&self) -> bool {
        self.last().is_some_and(|link| link.core.get().is_forked())
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
        call: &CheckCall<'_, 'py>,
        ttl: Option<f64>,
    ) -> PyResult<Option<(&Py<Core>, Progress)>> {
        let Some(core) = self.core(LEASING) else {
            return Ok(None);
        };
        if !(self.knows(call.company) && self.knows(call.user)) {
            return Ok(None);
        }
        let options = Options::of(call.options)?;
        let Some(arguments) = call.arguments(&options, ttl) else {
            return Ok(None);
        };
        let progress = core.get().begin(py, &arguments)?;
        Ok(Some((core, progress)))
    }

    /// Settles what can be settled without a wait or a word; `false` if nothing was done.
    fn settle(
        &self,
        reservation: &Bound<'_, PyAny>,
        quantity: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let (Ok(reservation), Some(quantity)) = (
            reservation.cast_exact::<Reservation>(),
            plain_number(quantity),
        ) else {
            return Ok(false);
        };
        self.settle_held(&reservation.get().0, quantity)
    }

    /// Settles as [`Self::settle`] does.
    #[inline]
    fn settle_held(&self, reservation: &Arc<Held>, quantity: f64) -> PyResult<bool> {
        let Some(core) = self.core(SETTLING).filter(|_| quantity < UNBILLABLE) else {
            return Ok(false);
        };
        let client = core.get().client();
        uninterrupted(if client.is_shared() {
            // A hold that is not in this process must be claimed elsewhere, which takes a wait.
            client.settle_held(reservation, quantity)
        } else {
            client.settle(reservation, quantity, None).is_some()
        })
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

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let mut place = &self.cores;
        while let Some(link) = place.get() {
            visit.call(&link.core)?;
            visit.call(&link.holds)?;
            place = &link.next;
        }
        Ok(())
    }

    #[pyo3(signature = (core, holds=None))]
    fn _take_core(&self, core: Py<Core>, holds: Option<Py<OpenHolds>>) {
        self.open.store(0, Relaxed);
        let mut place = &self.cores;
        let mut link = Box::new(Link {
            core,
            holds,
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
        match self.begin(py, &call, ttl)? {
            Some((core, progress)) => outcome(py, core, progress).map(Some),
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
