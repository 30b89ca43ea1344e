//! The client's whole state, as Python holds it.

use std::{
    cell::Cell,
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::{PyBytes, PyDict, PyMapping, PyString},
};
use schematic_core::{
    Millis, Now,
    cache::{Entity, Lookup, Table},
    decider::{
        CheckRequest, Decider, DeciderSettings, FlagRequest, Missing, Progress, Topic, Wake,
    },
    events::{FlagCheck, IdempotencyKey, Identify, Track},
    leases::{
        Keys, Knobs, LeaseKnobs, NewLease, Party, ReservationId, SharedBalance, SlabKnobs, SlabUse,
        SlotKey,
    },
    text::Text,
};

use crate::{
    arguments::{self, BorrowedKeys, BorrowedPreflight, millis},
    clock,
    defaults::{
        LARGEST_LEASE, LEASE_DURATION, LEASE_SIZE, LONGEST_TERM, LOW_WATER_MARK, RESERVATION_TTL,
    },
    events::EventBatch,
    fork,
    leases::{AcquirePlan, ExtendPlan, Lease, OwedClaim, SlabPlan},
    pending,
    results::{CheckFlagResult, CheckResult, Reservation},
    scripted::ScriptedEngine,
};

/// A message of this size is worth letting other threads run while it is parsed.
const DETACH_FROM: usize = 2048;

/// Everything one client decides.
#[pyclass(frozen, module = "schematic_native._native")]
pub(crate) struct Core {
    client: Arc<Decider>,
    clock: Option<Py<PyAny>>,
    /// A clock that does not step, in place of the system's.
    steady: Option<Py<PyAny>>,
    /// Forks before this core was made.
    forks: u32,
}

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

impl Core {
    pub fn client(&self) -> &Decider {
        &self.client
    }

    /// Now by both clocks; by the wall clock alone where no slab is there to go by the other.
    pub fn both(&self, py: Python<'_>) -> PyResult<Now> {
        let wall = self.now(py)?;
        if self.client.ledger().knobs().slabs().is_none() {
            return Ok(Now::from(wall));
        }
        let steady = match &self.steady {
            None => clock::steady(),
            Some(clock) => arguments::instant("steady()", clock.call0(py)?.extract(py)?)?,
        };
        Ok(Now { wall, steady })
    }

    /// Lets the ledger compare the clocks, if both are the system's or both are given.
    fn compare_clocks(&self, py: Python<'_>) -> PyResult<()> {
        let steady = match (&self.clock, &self.steady) {
            (None, None) => clock::steady(),
            (Some(_), Some(clock)) => {
                arguments::instant("steady()", clock.call0(py)?.extract(py)?)?
            }
            _ => return Ok(()),
        };
        let wall = self.now(py)?;
        self.client.ledger().compare_clocks(Now { wall, steady });
        Ok(())
    }

    pub fn now(&self, py: Python<'_>) -> PyResult<Millis> {
        match &self.clock {
            None => Ok(clock::wall()),
            Some(clock) => arguments::instant("clock()", clock.call0(py)?.extract(py)?),
        }
    }

    fn seed(py: Python<'_>) -> PyResult<[u64; 2]> {
        let random = py.import("os")?.call_method1("urandom", (16,))?;
        let bytes: [u8; 16] = random.extract()?;
        let seed = u128::from_ne_bytes(bytes);
        #[allow(clippy::cast_possible_truncation, reason = "two halves")]
        Ok([seed as u64, (seed >> 64) as u64])
    }

    pub fn is_forked(&self) -> bool {
        self.forks != fork::forks()
    }

    /// The value of a flag that memory knows everything about; `None` otherwise.
    pub fn flag_value(
        &self,
        py: Python<'_>,
        flag_key: &Bound<'_, PyAny>,
        company: Option<&Bound<'_, PyAny>>,
        user: Option<&Bound<'_, PyAny>>,
        record: bool,
    ) -> PyResult<Option<bool>> {
        let (company, user) = (
            BorrowedKeys::of("company", company)?,
            BorrowedKeys::of("user", user)?,
        );
        let company = company.as_ref().map(BorrowedKeys::pairs).transpose()?;
        let user = user.as_ref().map(BorrowedKeys::pairs).transpose()?;
        let request = FlagRequest {
            flag_key: arguments::text("flag_key", flag_key)?,
            company: company.as_deref(),
            user: user.as_deref(),
            partial: false,
            record,
        };
        // A clock of Python's may fail, so it is read in any case.
        let given = self.clock.is_some().then(|| self.now(py)).transpose()?;
        let clock = || given.unwrap_or_else(clock::wall);
        uninterrupted(self.client.flag_value(&request, clock).ok())
    }

    /// Begins a lease-backed check and takes it as far as memory allows.
    pub fn begin(&self, py: Python<'_>, asked: &AskedCheck<'_, '_>) -> PyResult<Progress> {
        self.read_check(py, asked, Decider::check)
    }

    /// Reads the arguments of a check and works with them.
    fn read_check<T>(
        &self,
        py: Python<'_>,
        asked: &AskedCheck<'_, '_>,
        work: impl FnOnce(&Decider, &CheckRequest<'_>, Now) -> T,
    ) -> PyResult<T> {
        let (company, user) = (
            BorrowedKeys::of("company", asked.company)?,
            BorrowedKeys::of("user", asked.user)?,
        );
        let company = company.as_ref().map(BorrowedKeys::pairs).transpose()?;
        let user = user.as_ref().map(BorrowedKeys::pairs).transpose()?;
        let request = CheckRequest {
            flag_key: arguments::text("flag_key", asked.flag_key)?,
            company: company.as_deref(),
            user: user.as_deref(),
            usage: arguments::quantity("usage", asked.usage)?,
            // An empty name is none, as in the published SDK: the entitlement's event is billed.
            event_subtype: arguments::optional_text("event_subtype", asked.event_subtype)?
                .filter(|event| !event.is_empty()),
            mode: arguments::failure_mode(asked.on_acquire_failure)?,
            ttl: asked.ttl.map(millis),
        };
        uninterrupted(work(&self.client, &request, self.both(py)?))
    }
}

/// The arguments of a lease-backed check, as Python gave them.
pub(crate) struct AskedCheck<'a, 'py> {
    pub flag_key: &'a Bound<'py, PyAny>,
    pub company: Option<&'a Bound<'py, PyAny>>,
    pub user: Option<&'a Bound<'py, PyAny>>,
    pub usage: &'a Bound<'py, PyAny>,
    pub event_subtype: Option<&'a Bound<'py, PyAny>>,
    pub on_acquire_failure: Option<&'a Bound<'py, PyAny>>,
    /// Seconds that the hold may live, if not as configured.
    pub ttl: Option<f64>,
}

fn slot<'a>(company_id: &'a str, credit_type_id: &'a str) -> SlotKey<'a> {
    SlotKey {
        company_id,
        credit_type_id,
    }
}

/// Whom an answer from elsewhere is about; `None` where nobody was asked for and nobody found.
fn party(id: Option<&Text>, keys: Option<Keys>) -> Option<Arc<Party>> {
    (id.is_some() || keys.is_some()).then(|| {
        Arc::new(Party {
            id: id.map(|id| (**id).into()),
            keys,
        })
    })
}

/// A slab's row, the credits used of it, and the holds that are still open, with their credits.
type ClosedSlab = (Reservation, f64, Vec<(String, f64)>);

fn uses(slabs: Vec<SlabUse>) -> Vec<(Reservation, f64)> {
    slabs
        .into_iter()
        .map(|slab| (Reservation(slab.row), slab.used))
        .collect()
}

thread_local! {
    /// What a signal handler raised while the core called its waker.
    static INTERRUPTION: Cell<Option<PyErr>> = const { Cell::new(None) };
}
/// Whether any thread has such an exception: far cheaper to ask than each thread's own.
static IS_INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Raises what a signal handler raised during a call of the core, which is done by then.
///
/// Python runs handlers wherever its code is run, and so within the waker, too.
#[inline]
pub(crate) fn uninterrupted<T>(done: T) -> PyResult<T> {
    if IS_INTERRUPTED.load(Relaxed)
        && let Some(raised) = INTERRUPTION.take()
    {
        // Handlers run on the main thread alone, so no other thread's is forgotten.
        IS_INTERRUPTED.store(false, Relaxed);
        return Err(raised);
    }
    Ok(done)
}

fn wake_with(callable: Option<Py<PyAny>>) -> Wake {
    Box::new(move |topic| {
        let Some(callable) = &callable else {
            return;
        };
        let topic = match topic {
            Topic::Events => "events",
            Topic::Extend => "extend",
        };
        Python::attach(|py| {
            if let Err(raised) = callable.call1(py, (topic,)) {
                INTERRUPTION.set(Some(raised));
                IS_INTERRUPTED.store(true, Relaxed);
                // The call was cut short, and the topic is called for only once.
                if let Err(raised) = callable.call1(py, (topic,)) {
                    INTERRUPTION.set(Some(raised));
                }
            }
        });
    })
}

/// A knob of a lease, checked.
fn knob(name: &str, value: f64, least: f64, most: f64) -> PyResult<f64> {
    if value >= least && value <= most {
        return Ok(value);
    }
    Err(PyValueError::new_err(format!(
        "{name} must be a number from {least} to {most}, not {value}"
    )))
}

fn knobs_of(size: f64, duration: f64, ttl: f64, mark: f64) -> PyResult<LeaseKnobs> {
    Ok(LeaseKnobs {
        lease_size: knob("lease_size", size, 0.0, LARGEST_LEASE)?,
        lease_duration: millis(knob("lease_duration", duration, 0.0, LONGEST_TERM)?),
        reservation_ttl: millis(knob("reservation_ttl", ttl, 0.0, LONGEST_TERM)?),
        low_water_mark: knob("low_water_mark", mark, 0.0, 1.0)?,
    })
}

fn slab_knobs((smallest, largest, lifetime): (f64, f64, f64)) -> PyResult<SlabKnobs> {
    let smallest = knob("smallest slab", smallest, 1.0, LARGEST_LEASE)?;
    Ok(SlabKnobs {
        smallest,
        largest: knob("largest slab", largest, smallest, LARGEST_LEASE)?,
        lifetime: millis(knob("slab lifetime", lifetime, 0.0, LONGEST_TERM)?),
    })
}

fn override_knobs(common: LeaseKnobs, given: &Bound<'_, PyAny>) -> PyResult<LeaseKnobs> {
    let given = given.cast::<PyMapping>()?;
    let mut values = [
        ("lease_size", common.lease_size),
        ("lease_duration", arguments::seconds(common.lease_duration)),
        (
            "reservation_ttl",
            arguments::seconds(common.reservation_ttl),
        ),
        ("low_water_mark", common.low_water_mark),
    ];
    for (name, value) in &mut values {
        if given.contains(*name)? {
            let item = given.get_item(*name)?;
            if !item.is_none() {
                *value = item.extract()?;
            }
        }
    }
    let [(_, size), (_, duration), (_, ttl), (_, mark)] = values;
    knobs_of(size, duration, ttl, mark)
}

fn all_knobs(common: LeaseKnobs, overrides: Option<&Bound<'_, PyMapping>>) -> PyResult<Knobs> {
    let mut knobs = Knobs::new(common);
    if let Some(overrides) = overrides {
        for item in overrides.items()?.iter() {
            let (credit_type_id, given): (String, Bound<'_, PyAny>) = item.extract()?;
            knobs.set(&credit_type_id, override_knobs(common, &given)?);
        }
    }
    Ok(knobs)
}

fn find_id<E: Entity>(
    table: &Table<E>,
    name: &'static str,
    keys: &Bound<'_, PyAny>,
) -> PyResult<Option<String>> {
    let keys = BorrowedKeys::of(name, Some(keys))?;
    let Some(keys) = &keys else {
        return Ok(None);
    };
    Ok(match table.find(&keys.pairs()?) {
        Lookup::Found(entity, _) => Some(entity.id().to_string()),
        Lookup::Missing | Lookup::Conflict => None,
    })
}

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

const fn what_is_missing(missing: Missing) -> &'static str {
    match missing {
        Missing::Flag => "flag",
        Missing::Company => "company",
        Missing::User => "user",
        Missing::Both => "company+user",
        Missing::Conflict => "conflict",
    }
}

#[pymethods]
impl Core {
    #[new]
    #[pyo3(signature = (
        *, api_key, max_companies=100_000, max_users=100_000, max_billing_events=1_000_000,
        max_flag_check_events=10_000, lease_size=LEASE_SIZE, lease_duration=LEASE_DURATION,
        reservation_ttl=RESERVATION_TTL, low_water_mark=LOW_WATER_MARK, overrides=None, clock=None, wake=None, seed=None,
        shared=false, engine=None, slabs=None, steady=None,
    ))]
    #[allow(clippy::too_many_arguments, reason = "each is a setting with a name")]
    fn new(
        py: Python<'_>,
        api_key: String,
        max_companies: usize,
        max_users: usize,
        max_billing_events: usize,
        max_flag_check_events: usize,
        lease_size: f64,
        lease_duration: f64,
        reservation_ttl: f64,
        low_water_mark: f64,
        overrides: Option<&Bound<'_, PyMapping>>,
        clock: Option<Py<PyAny>>,
        wake: Option<Py<PyAny>>,
        seed: Option<u64>,
        shared: bool,
        engine: Option<Py<PyAny>>,
        slabs: Option<(f64, f64, f64)>,
        steady: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let common = knobs_of(lease_size, lease_duration, reservation_ttl, low_water_mark)?;
        let seed = match seed {
            Some(seed) => [seed, !seed],
            None => Self::seed(py)?,
        };
        let client = Decider::new(DeciderSettings {
            api_key,
            max_companies,
            max_users,
            max_billing_events,
            max_flag_check_events,
            knobs: all_knobs(common, overrides)?.with_slabs(slabs.map(slab_knobs).transpose()?),
            seed,
            wake: wake_with(wake),
            shared,
            engine: engine.map(ScriptedEngine::boxed),
        });
        fork::watch();
        let core = Self {
            client: Arc::new(client),
            clock,
            steady,
            forks: fork::forks(),
        };
        core.compare_clocks(py)?;
        Ok(core)
    }

    // The cache

    fn ingest(&self, py: Python<'_>, message: &Bound<'_, PyAny>) -> PyResult<Ingested> {
        let bytes = if let Ok(bytes) = message.cast::<PyBytes>() {
            bytes.as_bytes()
        } else if let Ok(text) = message.cast::<PyString>() {
            text.to_str()?.as_bytes()
        } else {
            let kind = arguments::kind_of(message);
            return Err(PyTypeError::new_err(format!(
                "message must be bytes or str, not {kind}"
            )));
        };
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
        find_id(self.client.cache().companies(), "keys", keys)
    }

    fn user_id(&self, keys: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
        find_id(self.client.cache().users(), "keys", keys)
    }

    fn company_subscriptions<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        subscriptions(py, self.client.cache().companies())
    }

    fn user_subscriptions<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        subscriptions(py, self.client.cache().users())
    }

    fn company_balance(&self, company_id: &str, credit_type_id: &str) -> Option<f64> {
        self.client
            .cache()
            .companies()
            .get(company_id)?
            .balance(credit_type_id)
    }

    // Plain checks

    #[pyo3(signature = (
        flag_key, company=None, user=None, *, usage=None, event_usage=None, event_quantities=None,
        credit_cost=None, partial=false, record=true,
    ))]
    #[allow(clippy::too_many_arguments, reason = "the options of a check")]
    fn check_flag(
        &self,
        py: Python<'_>,
        flag_key: &Bound<'_, PyAny>,
        company: Option<&Bound<'_, PyAny>>,
        user: Option<&Bound<'_, PyAny>>,
        usage: Option<&Bound<'_, PyAny>>,
        event_usage: Option<(String, Bound<'_, PyAny>)>,
        event_quantities: Option<(String, Bound<'_, PyAny>, Option<f64>)>,
        credit_cost: Option<&Bound<'_, PyAny>>,
        partial: bool,
        record: bool,
    ) -> PyResult<Py<PyAny>> {
        if self.is_forked() {
            return Ok(PyString::intern(py, "forked").into_any().unbind());
        }
        let (company, user) = (
            BorrowedKeys::of("company", company)?,
            BorrowedKeys::of("user", user)?,
        );
        let company = company.as_ref().map(BorrowedKeys::pairs).transpose()?;
        let user = user.as_ref().map(BorrowedKeys::pairs).transpose()?;
        let preflight = BorrowedPreflight::of(usage, event_usage, event_quantities, credit_cost)?;
        let request = FlagRequest {
            flag_key: arguments::text("flag_key", flag_key)?,
            company: company.as_deref(),
            user: user.as_deref(),
            partial,
            record,
        };
        let now = self.now(py)?;
        let answer = preflight.ask(|preflight| self.client.check_flag(&request, preflight, now))?;
        match uninterrupted(answer)? {
            Ok(answer) => Ok(Py::new(py, CheckFlagResult::from(answer))?.into_any()),
            Err(missing) => Ok(PyString::intern(py, what_is_missing(missing))
                .into_any()
                .unbind()),
        }
    }

    fn record_flag_check(
        &self,
        result: &Bound<'_, CheckFlagResult>,
        company: Option<&Bound<'_, PyAny>>,
        user: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let company = arguments::keys("company", company)?;
        let user = arguments::keys("user", user)?;
        let result = result.get();
        self.client.record_event(|| FlagCheck {
            flag: result.flag_name(),
            value: result.value,
            reason: result.kept_reason(),
            company: party(result.company_id.as_ref(), company),
            user: party(result.user_id.as_ref(), user),
            error: result.error.clone(),
            preflight: false,
        });
        uninterrupted(())
    }

    // Lease-backed checks

    #[pyo3(signature = (
        flag_key, company, user, usage, event_subtype=None, on_acquire_failure=None, ttl=None,
    ))]
    #[allow(clippy::too_many_arguments, reason = "the arguments of a check")]
    fn check(
        slf: &Bound<'_, Self>,
        flag_key: &Bound<'_, PyAny>,
        company: Option<&Bound<'_, PyAny>>,
        user: Option<&Bound<'_, PyAny>>,
        usage: &Bound<'_, PyAny>,
        event_subtype: Option<&Bound<'_, PyAny>>,
        on_acquire_failure: Option<&Bound<'_, PyAny>>,
        ttl: Option<f64>,
    ) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let core = slf.get();
        if core.is_forked() {
            return Ok(py.None());
        }
        let progress = core.begin(
            py,
            &AskedCheck {
                flag_key,
                company,
                user,
                usage,
                event_subtype,
                on_acquire_failure,
                ttl,
            },
        )?;
        pending::answer(py, slf.as_unbound(), progress)
    }

    /// Decides a check for which credits cannot be asked for any more; `None` if memory cannot.
    #[pyo3(signature = (flag_key, company, user, usage, event_subtype, on_acquire_failure, *, record))]
    #[allow(clippy::too_many_arguments, reason = "the arguments of a check")]
    fn check_unheld(
        &self,
        py: Python<'_>,
        flag_key: &Bound<'_, PyAny>,
        company: Option<&Bound<'_, PyAny>>,
        user: Option<&Bound<'_, PyAny>>,
        usage: &Bound<'_, PyAny>,
        event_subtype: Option<&Bound<'_, PyAny>>,
        on_acquire_failure: Option<&Bound<'_, PyAny>>,
        record: bool,
    ) -> PyResult<Option<CheckResult>> {
        let asked = AskedCheck {
            flag_key,
            company,
            user,
            usage,
            event_subtype,
            on_acquire_failure,
            ttl: None,
        };
        let answer = self.read_check(py, &asked, |client, request, now| {
            client.check_unheld(request, record, now)
        })?;
        Ok(answer.map(CheckResult::from))
    }

    /// Whether this process is a fork of the one that made this core, whoever forked it.
    #[getter]
    fn forked(&self) -> bool {
        self.is_forked()
    }

    #[pyo3(signature = (reservation, actual_quantity, traits=None))]
    fn settle(
        &self,
        reservation: &Bound<'_, PyAny>,
        actual_quantity: &Bound<'_, PyAny>,
        traits: Option<&[u8]>,
    ) -> PyResult<Option<bool>> {
        let reservation = reservation.cast::<Reservation>().map_err(|_| {
            let kind = arguments::kind_of(reservation);
            PyTypeError::new_err(format!("reservation must be a Reservation, not {kind}"))
        })?;
        let quantity = arguments::quantity("actual_quantity", actual_quantity)?;
        let traits = arguments::json("traits", traits)?;
        uninterrupted(self.client.settle(&reservation.get().0, quantity, traits))
    }

    #[pyo3(name = "now")]
    fn py_now(&self, py: Python<'_>) -> PyResult<f64> {
        Ok(arguments::seconds(self.now(py)?))
    }

    #[pyo3(signature = (reservation, actual_quantity, traits=None))]
    fn settle_shared(
        &self,
        reservation: &Bound<'_, Reservation>,
        actual_quantity: f64,
        traits: Option<&[u8]>,
    ) -> PyResult<Option<OwedClaim>> {
        let traits = arguments::json("traits", traits)?;
        let owed = self
            .client
            .settle_shared(&reservation.get().0, actual_quantity, traits);
        uninterrupted(owed.map(OwedClaim))
    }

    #[pyo3(signature = (reservation, actual_quantity, traits=None, key=None))]
    fn settle_part(
        &self,
        reservation: &Bound<'_, Reservation>,
        actual_quantity: f64,
        traits: Option<&[u8]>,
        key: Option<&str>,
    ) -> PyResult<Option<OwedClaim>> {
        let traits = arguments::json("traits", traits)?;
        let owed = self
            .client
            .settle_part(&reservation.get().0, actual_quantity, traits, key);
        uninterrupted(owed.map(OwedClaim))
    }

    fn release(&self, reservation: &Bound<'_, Reservation>) -> PyResult<Option<OwedClaim>> {
        uninterrupted(self.client.release(&reservation.get().0).map(OwedClaim))
    }

    fn owed_claims(&self) -> Vec<OwedClaim> {
        self.client
            .owed_claims()
            .into_iter()
            .map(OwedClaim)
            .collect()
    }

    fn claim_ended(&self, claim: &Bound<'_, OwedClaim>, has_ended_hold: bool) {
        self.client.claim_ended(&claim.get().0, has_ended_hold);
    }

    // Leases

    fn lease(&self, company_id: &str, credit_type_id: &str) -> Option<Lease> {
        self.client
            .ledger()
            .lease(slot(company_id, credit_type_id))
            .map(Lease::from)
    }

    fn plan_acquire(
        &self,
        py: Python<'_>,
        company_id: &str,
        credit_type_id: &str,
    ) -> PyResult<Option<AcquirePlan>> {
        let plan = self
            .client
            .ledger()
            .plan_acquire(slot(company_id, credit_type_id), self.now(py)?);
        Ok(plan.map(AcquirePlan::from))
    }

    fn install_lease(
        &self,
        py: Python<'_>,
        company_id: &str,
        credit_type_id: &str,
        lease_id: &str,
        granted: f64,
        expires_at: f64,
    ) -> PyResult<String> {
        if !(0.0..=LARGEST_LEASE).contains(&granted) {
            return Err(PyValueError::new_err(format!(
                "granted must be credits from 0 to {LARGEST_LEASE:e}, not {granted}"
            )));
        }
        let lease = NewLease {
            lease_id,
            granted,
            expires_at: arguments::instant("expires_at", expires_at)?,
        };
        let slot = slot(company_id, credit_type_id);
        let installed = self.client.ledger().install(slot, &lease, self.now(py)?);
        Ok(installed
            .lease_id
            .map_or_else(|| lease_id.to_owned(), |there| there.to_string()))
    }

    #[pyo3(signature = (company_id, credit_type_id, required_credits=None))]
    fn plan_extend(
        &self,
        py: Python<'_>,
        company_id: &str,
        credit_type_id: &str,
        required_credits: Option<f64>,
    ) -> PyResult<Option<ExtendPlan>> {
        let slot = slot(company_id, credit_type_id);
        let plan = self
            .client
            .ledger()
            .plan_extend(slot, required_credits, self.now(py)?);
        Ok(plan.map(ExtendPlan::from))
    }

    fn apply_extend(
        &self,
        company_id: &str,
        credit_type_id: &str,
        lease_id: Option<&str>,
        granted_total: f64,
        expires_at: Option<f64>,
    ) -> PyResult<bool> {
        let slot = slot(company_id, credit_type_id);
        let expires_at = expires_at
            .map(|at| arguments::instant("expires_at", at))
            .transpose()?;
        Ok(self
            .client
            .ledger()
            .extend(slot, granted_total, expires_at, lease_id))
    }

    fn plan_shared_acquire(&self, py: Python<'_>, credit_type_id: &str) -> PyResult<AcquirePlan> {
        let knobs = self.client.ledger().knobs().of(credit_type_id);
        Ok(AcquirePlan::from(knobs.acquire(self.now(py)?)))
    }

    #[pyo3(signature = (credit_type_id, lease_id, granted, remaining, required_credits=None))]
    fn plan_shared_extend(
        &self,
        py: Python<'_>,
        credit_type_id: &str,
        lease_id: &str,
        granted: f64,
        remaining: f64,
        required_credits: Option<f64>,
    ) -> PyResult<Option<ExtendPlan>> {
        let knobs = self.client.ledger().knobs().of(credit_type_id);
        let lease = SharedBalance {
            lease_id,
            granted,
            remaining,
        };
        let plan = lease.plan_extend(required_credits, knobs, self.now(py)?);
        Ok(plan.map(ExtendPlan::from))
    }

    #[pyo3(signature = (company_id, credit_type_id, credits, balance))]
    fn note_spent(
        &self,
        py: Python<'_>,
        company_id: &str,
        credit_type_id: &str,
        credits: f64,
        balance: Option<f64>,
    ) -> PyResult<()> {
        let slot = slot(company_id, credit_type_id);
        let now = self.now(py)?;
        self.client.ledger().note_spent(slot, credits, balance, now);
        Ok(())
    }

    fn forget_spent(&self, company_id: &str, credit_type_id: &str) {
        let slot = slot(company_id, credit_type_id);
        self.client.ledger().forget_spent(slot);
    }

    fn was_refused(
        &self,
        py: Python<'_>,
        company_id: &str,
        credit_type_id: &str,
        credits: f64,
    ) -> PyResult<bool> {
        let slot = slot(company_id, credit_type_id);
        let now = self.now(py)?;
        Ok(self.client.ledger().was_refused(slot, credits, now))
    }

    fn take_low_slots(&self) -> Vec<(String, String)> {
        let low = self.client.ledger().take_low();
        low.iter()
            .map(|(company, credit)| (company.to_string(), credit.to_string()))
            .collect()
    }

    fn drop_lease(&self, company_id: &str, credit_type_id: &str) {
        self.client
            .ledger()
            .drop_lease(slot(company_id, credit_type_id));
    }

    fn live_leases(&self, py: Python<'_>) -> PyResult<Vec<Lease>> {
        let leases = self.client.ledger().live_leases(self.both(py)?);
        Ok(leases.into_iter().map(Lease::from).collect())
    }

    fn sweep(&self, py: Python<'_>) -> PyResult<usize> {
        self.compare_clocks(py)?;
        let now = self.both(py)?;
        Ok(py.detach(|| self.client.ledger().sweep(now)))
    }

    // Slabs: parts of a shared lease, taken to serve checks from memory

    fn plan_slab(
        &self,
        py: Python<'_>,
        company_id: &str,
        credit_type_id: &str,
    ) -> PyResult<Option<SlabPlan>> {
        let slot = slot(company_id, credit_type_id);
        let now = self.both(py)?;
        let plan = self.client.ledger().plan_slab(slot, now);
        Ok(plan.map(|plan| SlabPlan::new(plan, now)))
    }

    fn slab_row(
        &self,
        company_id: &str,
        credit_type_id: &str,
        lease_id: &str,
        credits: f64,
        expires_at: f64,
    ) -> PyResult<Reservation> {
        let slot = slot(company_id, credit_type_id);
        let expires_at = arguments::instant("expires_at", expires_at)?;
        let row = self.client.slab_row(slot, lease_id, credits, expires_at);
        Ok(Reservation(Arc::new(row)))
    }

    fn open_slab(
        &self,
        row: &Bound<'_, Reservation>,
        plan: &Bound<'_, SlabPlan>,
        usable_for: f64,
    ) -> PyResult<bool> {
        let usable_for = arguments::instant("usable_for", usable_for)?;
        let ledger = self.client.ledger();
        Ok(ledger.open_slab(&row.get().0, usable_for, plan.get().made))
    }

    fn take_slab_uses(&self) -> Vec<(Reservation, f64)> {
        uses(self.client.ledger().take_slab_uses())
    }

    fn take_slabs_in_use(&self) -> Vec<Reservation> {
        let rows = self.client.ledger().take_slabs_in_use();
        rows.into_iter().map(Reservation).collect()
    }

    fn lose_slab(
        &self,
        py: Python<'_>,
        row: &Bound<'_, Reservation>,
    ) -> PyResult<Option<(f64, f64)>> {
        let lost = self.client.ledger().lose_slab(&row.get().0, self.both(py)?);
        Ok(lost.map(|loss| (loss.taken, loss.left)))
    }

    fn take_closed_slabs(&self) -> Vec<(Reservation, f64)> {
        uses(self.client.ledger().take_closed_slabs())
    }

    fn close_slabs(&self, py: Python<'_>) -> PyResult<Vec<ClosedSlab>> {
        let now = self.both(py)?;
        let closed = self.client.ledger().close_slabs(now);
        let held = |held: Vec<(ReservationId, f64)>| {
            held.into_iter()
                .map(|(id, credits)| (id.to_string(), credits))
                .collect()
        };
        Ok(closed
            .into_iter()
            .map(|slab| (Reservation(slab.row), slab.used, held(slab.held)))
            .collect())
    }

    fn lapsed(&self) -> Vec<(Reservation, Reservation, bool)> {
        let lapsed = self.client.ledger().lapsed();
        lapsed
            .into_iter()
            .map(|lapsed| {
                let has_left = lapsed.hold.exported.get();
                (Reservation(lapsed.row), Reservation(lapsed.hold), has_left)
            })
            .collect()
    }

    fn end_lapsed(&self, hold: &Bound<'_, Reservation>, credits: f64) {
        self.client.ledger().end_lapsed(&hold.get().0, credits);
    }

    #[staticmethod]
    fn slab_of(hold: &Bound<'_, Reservation>) -> Option<String> {
        hold.get().0.id.slab().map(|id| id.to_string())
    }

    // The ledger's own operations, as a shared store has them

    fn try_reserve(
        &self,
        py: Python<'_>,
        company_id: &str,
        credit_type_id: &str,
        credits: f64,
    ) -> PyResult<Option<(f64, String)>> {
        let slot = slot(company_id, credit_type_id);
        let now = self.both(py)?;
        let debit = self.client.ledger().try_reserve(slot, credits, now);
        Ok(debit
            .ok()
            .map(|debit| (debit.remaining, debit.lease_id.to_string())))
    }

    #[pyo3(signature = (company_id, credit_type_id, credits, lease_id=None))]
    fn refund(&self, company_id: &str, credit_type_id: &str, credits: f64, lease_id: Option<&str>) {
        self.client
            .ledger()
            .refund(slot(company_id, credit_type_id), credits, lease_id);
    }

    fn add_hold(&self, py: Python<'_>, reservation: &Bound<'_, Reservation>) -> PyResult<bool> {
        let now = self.both(py)?;
        Ok(self.client.ledger().add(&reservation.get().0, None, now))
    }

    fn consume(&self, reservation_id: &str, credits: f64) -> Option<f64> {
        let id = ReservationId::parse(reservation_id);
        self.client.ledger().consume_by_id(&id, credits)
    }

    fn has_hold(&self, reservation_id: &str) -> bool {
        self.client
            .ledger()
            .holds(&ReservationId::parse(reservation_id))
    }

    fn reserved_credits(&self, company_id: &str, credit_type_id: &str) -> f64 {
        self.client
            .ledger()
            .reserved_credits(slot(company_id, credit_type_id))
    }

    // Events

    #[pyo3(signature = (
        event, company=None, user=None, traits=None, quantity=None, idempotency_key=None,
        sent_at=None, trusted_client_clock=None, backfill=None,
    ))]
    #[allow(clippy::too_many_arguments, reason = "the fields of a track event")]
    fn track(
        &self,
        event: &Bound<'_, PyAny>,
        company: Option<&Bound<'_, PyAny>>,
        user: Option<&Bound<'_, PyAny>>,
        traits: Option<&[u8]>,
        quantity: Option<i64>,
        idempotency_key: Option<&str>,
        sent_at: Option<&str>,
        trusted_client_clock: Option<bool>,
        backfill: Option<bool>,
    ) -> PyResult<()> {
        self.client.track(Track {
            event: arguments::text("event", event)?.into(),
            company: arguments::keys("company", company)?,
            user: arguments::keys("user", user)?,
            quantity,
            traits: arguments::json("traits", traits)?.map(Into::into),
            idempotency_key: IdempotencyKey::given(idempotency_key),
            sent_at: sent_at.map(Into::into),
            trusted_client_clock,
            backfill,
        });
        uninterrupted(())
    }

    #[pyo3(signature = (keys, company=None, name=None, traits=None, idempotency_key=None))]
    fn identify(
        &self,
        keys: &Bound<'_, PyAny>,
        company: Option<&[u8]>,
        name: Option<&Bound<'_, PyAny>>,
        traits: Option<&[u8]>,
        idempotency_key: Option<&str>,
    ) -> PyResult<()> {
        self.client.identify(Identify {
            keys: arguments::keys("keys", Some(keys))?.unwrap_or_default(),
            company: arguments::json("company", company)?.map(Into::into),
            name: arguments::optional_text("name", name)?.map(Into::into),
            traits: arguments::json("traits", traits)?.map(Into::into),
            idempotency_key: IdempotencyKey::given(idempotency_key),
        });
        uninterrupted(())
    }

    #[pyo3(signature = (*, full=false))]
    fn take_batch(&self, full: bool) -> Option<EventBatch> {
        let batch = if full {
            self.client.events().take_full_batch()
        } else {
            self.client.take_batch()
        };
        batch.map(EventBatch)
    }

    fn expect_batch(&self) -> bool {
        self.client.events().expect_batch()
    }

    // Counts

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
