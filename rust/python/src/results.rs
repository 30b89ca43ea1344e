//! The frozen result classes. Their Python objects are built when they are read, not when a check
//! answers.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
use pyo3::{
    IntoPyObjectExt,
    exceptions::{PyKeyError, PyTypeError, PyValueError},
    prelude::*,
    types::{PyDict, PyMapping, PyTuple},
};
use schematic_core::{
    decider::{CheckAnswer, FlagAnswer, Judgement},
    engine::{
        self, Entitlement, FlagName, KeptReason, MetricPeriod, MonthReset, QuantityRates, RuleName,
        RuleType, Terms, ValueType,
    },
    leases::{Exported, Holder, Keys, Mode, Reservation as Held, ReservationId},
    text::Text,
};

use crate::arguments;

/// A result's fields by name, in the order of its constructor.
type Fields<'py> = Vec<(&'static str, Bound<'py, PyAny>)>;

fn field<'py, T>(
    py: Python<'py>,
    name: &'static str,
    value: T,
) -> PyResult<(&'static str, Bound<'py, PyAny>)>
where
    T: IntoPyObject<'py>,
{
    Ok((name, value.into_bound_py_any(py)?))
}

fn show(class: &str, fields: &Fields<'_>) -> PyResult<String> {
    let mut texts = Vec::with_capacity(fields.len());
    for (name, value) in fields {
        texts.push(format!("{name}={}", value.repr()?));
    }
    Ok(format!("{class}({})", texts.join(", ")))
}

fn to_dict<'py>(py: Python<'py>, fields: &Fields<'py>) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, value) in fields {
        dict.set_item(name, value)?;
    }
    Ok(dict)
}

fn equal(a: &Fields<'_>, b: &Fields<'_>) -> PyResult<bool> {
    for ((_, a), (_, b)) in a.iter().zip(b) {
        if !a.eq(b)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Gives a class its `==`, `repr`, pickling and copying, all from its fields.
macro_rules! record {
    ($class:ident $(, $before_copy:ident)?) => {
        #[pymethods]
        impl $class {
            fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
                show(stringify!($class), &self.fields(py)?)
            }

            fn __eq__(&self, py: Python<'_>, other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
                match other.cast_exact::<Self>() {
                    Ok(other) => {
                        equal(&self.fields(py)?, &other.get().fields(py)?)?.into_py_any(py)
                    }
                    Err(_) => Ok(py.NotImplemented()),
                }
            }

            fn __getnewargs_ex__<'py>(
                &self,
                py: Python<'py>,
            ) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
                $(self.$before_copy();)?
                Ok((PyTuple::empty(py), to_dict(py, &self.fields(py)?)?))
            }
        }
    };
}

fn shared(text: &Arc<str>) -> Text {
    Text::Shared(Arc::clone(text))
}

fn arc(text: &Text) -> Arc<str> {
    match text {
        Text::Shared(text) => Arc::clone(text),
        text => (**text).into(),
    }
}

fn owned(text: Option<String>) -> Option<Text> {
    text.map(Text::from)
}

/// One usage warning of an entitlement.
#[pyclass(frozen, module = "schematic_native")]
pub(crate) struct WarningTier(engine::WarningTier);

#[pymethods]
impl WarningTier {
    #[new]
    fn new(key: &str, value: i64) -> Self {
        Self(engine::WarningTier {
            key: key.into(),
            value,
        })
    }

    #[getter]
    fn key(&self) -> &str {
        &self.0.key
    }

    #[getter]
    fn value(&self) -> i64 {
        self.0.value
    }
}

impl WarningTier {
    fn fields<'py>(&self, py: Python<'py>) -> PyResult<Fields<'py>> {
        Ok(vec![
            field(py, "key", self.key())?,
            field(py, "value", self.value())?,
        ])
    }
}

record!(WarningTier);

/// What a company is entitled to for one feature.
#[pyclass(frozen, module = "schematic_native")]
pub(crate) struct FeatureEntitlement(Arc<Entitlement>);

impl FeatureEntitlement {
    pub fn of(entitlement: &Arc<Entitlement>) -> Self {
        Self(Arc::clone(entitlement))
    }
}

/// The variant that a text names.
fn named<T: Copy, const N: usize>(
    name: &str,
    text: &str,
    variants: [T; N],
    spell: fn(T) -> &'static str,
) -> PyResult<T> {
    variants
        .into_iter()
        .find(|variant| spell(*variant) == text)
        .ok_or_else(|| {
            let known = variants.map(spell).join("', '");
            PyValueError::new_err(format!("{name} must be one of '{known}', not {text:?}"))
        })
}

fn value_type_of(text: &str) -> PyResult<ValueType> {
    use ValueType::{Boolean, Credit, Numeric, Trait, Unknown, Unlimited};
    let all = [Boolean, Credit, Numeric, Trait, Unlimited, Unknown];
    named("value_type", text, all, ValueType::as_str)
}

fn period_of(text: &str) -> PyResult<MetricPeriod> {
    use MetricPeriod::{AllTime, CurrentDay, CurrentMonth, CurrentWeek, Unknown};
    let all = [AllTime, CurrentDay, CurrentMonth, CurrentWeek, Unknown];
    named("metric_period", text, all, MetricPeriod::as_str)
}

fn reset_of(text: &str) -> PyResult<MonthReset> {
    let all = [
        MonthReset::FirstOfMonth,
        MonthReset::BillingCycle,
        MonthReset::Unknown,
    ];
    named("month_reset", text, all, MonthReset::as_str)
}

#[pymethods]
impl FeatureEntitlement {
    #[new]
    #[pyo3(signature = (
        feature_id, feature_key, value_type, allocation=None, soft_limit=None, usage=None,
        event_name=None, event_subtype=None, metric_period=None, month_reset=None,
        metric_reset_at=None, credit_id=None, credit_total=None, credit_used=None,
        credit_remaining=None, credit_reserved=None, credit_settled=None, consumption_rate=None,
        quantity_rates=None, warning_tiers=None,
    ))]
    #[allow(clippy::too_many_arguments, reason = "the fields as published")]
    fn new(
        feature_id: &str,
        feature_key: &str,
        value_type: &str,
        allocation: Option<i64>,
        soft_limit: Option<i64>,
        usage: Option<i64>,
        event_name: Option<&str>,
        event_subtype: Option<&str>,
        metric_period: Option<&str>,
        month_reset: Option<&str>,
        metric_reset_at: Option<&Bound<'_, PyAny>>,
        credit_id: Option<&str>,
        credit_total: Option<f64>,
        credit_used: Option<f64>,
        credit_remaining: Option<f64>,
        credit_reserved: Option<f64>,
        credit_settled: Option<f64>,
        consumption_rate: Option<f64>,
        quantity_rates: Option<BTreeMap<String, f64>>,
        warning_tiers: Option<Vec<Py<WarningTier>>>,
    ) -> PyResult<Self> {
        let reset_at = arguments::optional_datetime("metric_reset_at", metric_reset_at)?;
        let rates = quantity_rates.unwrap_or_default();
        let tiers = warning_tiers.unwrap_or_default();
        Ok(Self(Arc::new(Entitlement {
            feature_id: feature_id.into(),
            feature_key: feature_key.into(),
            value_type: value_type_of(value_type)?,
            allocation,
            soft_limit,
            usage,
            event_name: event_name.map(Into::into),
            event_subtype: event_subtype.map(Into::into),
            metric_period: metric_period.map(period_of).transpose()?,
            month_reset: month_reset.map(reset_of).transpose()?,
            metric_reset_at: reset_at.map(|at| at.to_rfc3339().into()),
            credit_id: credit_id.map(Into::into),
            credit_total,
            credit_used,
            credit_remaining,
            credit_reserved,
            credit_settled,
            consumption_rate,
            quantity_rates: QuantityRates(
                rates
                    .into_iter()
                    .map(|(name, rate)| (name.into(), rate))
                    .collect(),
            ),
            warning_tiers: tiers.iter().map(|tier| tier.get().0.clone()).collect(),
        })))
    }

    #[getter]
    fn feature_id(&self) -> &str {
        &self.0.feature_id
    }
    #[getter]
    fn feature_key(&self) -> &str {
        &self.0.feature_key
    }
    #[getter]
    fn value_type(&self) -> &'static str {
        self.0.value_type.as_str()
    }
    #[getter]
    fn allocation(&self) -> Option<i64> {
        self.0.allocation
    }
    #[getter]
    fn soft_limit(&self) -> Option<i64> {
        self.0.soft_limit
    }
    #[getter]
    fn usage(&self) -> Option<i64> {
        self.0.usage
    }
    #[getter]
    fn event_name(&self) -> Option<&str> {
        self.0.event_name.as_deref()
    }
    #[getter]
    fn event_subtype(&self) -> Option<&str> {
        self.0.event_subtype.as_deref()
    }
    #[getter]
    fn metric_period(&self) -> Option<&'static str> {
        self.0.metric_period.map(MetricPeriod::as_str)
    }
    #[getter]
    fn month_reset(&self) -> Option<&'static str> {
        self.0.month_reset.map(MonthReset::as_str)
    }
    #[getter]
    fn metric_reset_at(&self) -> Option<DateTime<Utc>> {
        let text = self.0.metric_reset_at.as_deref()?;
        DateTime::parse_from_rfc3339(text)
            .ok()
            .map(|at| arguments::shown(at.to_utc()))
    }
    #[getter]
    fn credit_id(&self) -> Option<&str> {
        self.0.credit_id.as_deref()
    }
    #[getter]
    fn credit_total(&self) -> Option<f64> {
        self.0.credit_total
    }
    #[getter]
    fn credit_used(&self) -> Option<f64> {
        self.0.credit_used
    }
    #[getter]
    fn credit_remaining(&self) -> Option<f64> {
        self.0.credit_remaining
    }
    #[getter]
    fn credit_reserved(&self) -> Option<f64> {
        self.0.credit_reserved
    }
    #[getter]
    fn credit_settled(&self) -> Option<f64> {
        self.0.credit_settled
    }
    #[getter]
    fn consumption_rate(&self) -> Option<f64> {
        self.0.consumption_rate
    }
    #[getter]
    fn quantity_rates<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let rates = &self.0.quantity_rates.0;
        if rates.is_empty() {
            return Ok(None);
        }
        let dict = PyDict::new(py);
        for (name, rate) in rates {
            dict.set_item(&**name, rate)?;
        }
        Ok(Some(dict))
    }
    #[getter]
    fn warning_tiers(&self) -> Option<Vec<WarningTier>> {
        let tiers = &self.0.warning_tiers;
        (!tiers.is_empty()).then(|| tiers.iter().cloned().map(WarningTier).collect())
    }
}

impl FeatureEntitlement {
    fn fields<'py>(&self, py: Python<'py>) -> PyResult<Fields<'py>> {
        Ok(vec![
            field(py, "feature_id", self.feature_id())?,
            field(py, "feature_key", self.feature_key())?,
            field(py, "value_type", self.value_type())?,
            field(py, "allocation", self.allocation())?,
            field(py, "soft_limit", self.soft_limit())?,
            field(py, "usage", self.usage())?,
            field(py, "event_name", self.event_name())?,
            field(py, "event_subtype", self.event_subtype())?,
            field(py, "metric_period", self.metric_period())?,
            field(py, "month_reset", self.month_reset())?,
            field(py, "metric_reset_at", self.metric_reset_at())?,
            field(py, "credit_id", self.credit_id())?,
            field(py, "credit_total", self.credit_total())?,
            field(py, "credit_used", self.credit_used())?,
            field(py, "credit_remaining", self.credit_remaining())?,
            field(py, "credit_reserved", self.credit_reserved())?,
            field(py, "credit_settled", self.credit_settled())?,
            field(py, "consumption_rate", self.consumption_rate())?,
            field(py, "quantity_rates", self.quantity_rates(py)?)?,
            field(py, "warning_tiers", self.warning_tiers())?,
        ])
    }
}

record!(FeatureEntitlement);

/// The answer of a flag check.
#[pyclass(frozen, module = "schematic_native")]
pub(crate) struct CheckFlagResult {
    pub flag: Text,
    pub flag_id: Option<Text>,
    pub value: bool,
    pub reason: Text,
    pub rule_id: Option<Text>,
    pub rule_type: Option<Text>,
    pub company_id: Option<Text>,
    pub user_id: Option<Text>,
    pub error: Option<Text>,
    entitlement: Option<Arc<Entitlement>>,
    feature_allocation: Option<i64>,
    feature_usage: Option<i64>,
    feature_usage_event: Option<Text>,
    feature_usage_period: Option<Text>,
    feature_usage_reset_at: Option<DateTime<Utc>>,
}

impl CheckFlagResult {
    /// The answer as an engine's: one that tells an error has failed.
    pub fn judgement(&self) -> Judgement {
        Judgement {
            value: self.value,
            failed: self.error.is_some(),
            reason: KeptReason::Text(self.reason.clone()),
            entitlement: self.entitlement.clone(),
        }
    }

    /// What the flag goes by.
    pub fn flag_name(&self) -> Arc<FlagName> {
        Arc::new(FlagName {
            id: self.flag_id.as_ref().map(arc),
            key: arc(&self.flag),
        })
    }

    /// The reason with the rule that matched. What kind of rule that was no event tells.
    pub fn kept_reason(&self) -> KeptReason {
        match &self.rule_id {
            Some(id) => KeptReason::Rule(Arc::new(RuleName {
                id: arc(id),
                kind: RuleType::Unknown,
                reason: arc(&self.reason),
            })),
            None => KeptReason::Text(self.reason.clone()),
        }
    }
}

impl From<FlagAnswer> for CheckFlagResult {
    fn from(answer: FlagAnswer) -> Self {
        let usage = answer.usage.as_ref();
        let rule = answer.reason.rule();
        Self {
            flag: shared(&answer.flag.key),
            flag_id: answer.flag.id.as_ref().map(shared),
            value: answer.value,
            rule_id: rule.map(|rule| shared(&rule.id)),
            rule_type: rule.map(|rule| Text::Static(rule.kind.as_str())),
            reason: match answer.reason {
                KeptReason::Rule(rule) => shared(&rule.reason),
                KeptReason::Text(text) => text,
            },
            company_id: answer.company_id.map(Text::Shared),
            user_id: answer.user_id.map(Text::Shared),
            error: answer.error,
            entitlement: answer.entitlement,
            feature_allocation: usage.map(|usage| usage.allocation),
            feature_usage: usage.map(|usage| usage.usage),
            feature_usage_event: usage.and_then(|usage| usage.event.as_ref().map(shared)),
            feature_usage_period: usage
                .and_then(|usage| usage.period)
                .map(|period| Text::Static(period.as_str())),
            feature_usage_reset_at: usage.and_then(|usage| usage.reset_at),
        }
    }
}

#[pymethods]
impl CheckFlagResult {
    #[new]
    #[pyo3(signature = (
        flag, value, reason, flag_id=None, rule_id=None, rule_type=None, company_id=None,
        user_id=None, entitlement=None, error=None, feature_allocation=None, feature_usage=None,
        feature_usage_event=None, feature_usage_period=None, feature_usage_reset_at=None,
    ))]
    #[allow(clippy::too_many_arguments, reason = "the fields as published")]
    fn new(
        flag: String,
        value: bool,
        reason: String,
        flag_id: Option<String>,
        rule_id: Option<String>,
        rule_type: Option<String>,
        company_id: Option<String>,
        user_id: Option<String>,
        entitlement: Option<Py<FeatureEntitlement>>,
        error: Option<String>,
        feature_allocation: Option<i64>,
        feature_usage: Option<i64>,
        feature_usage_event: Option<String>,
        feature_usage_period: Option<String>,
        feature_usage_reset_at: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        Ok(Self {
            flag: flag.into(),
            flag_id: owned(flag_id),
            value,
            reason: reason.into(),
            rule_id: owned(rule_id),
            rule_type: owned(rule_type),
            company_id: owned(company_id),
            user_id: owned(user_id),
            error: owned(error),
            entitlement: entitlement.map(|entitlement| Arc::clone(&entitlement.get().0)),
            feature_allocation,
            feature_usage,
            feature_usage_event: owned(feature_usage_event),
            feature_usage_period: owned(feature_usage_period),
            feature_usage_reset_at: arguments::optional_datetime(
                "feature_usage_reset_at",
                feature_usage_reset_at,
            )?,
        })
    }

    #[getter]
    fn flag(&self) -> &str {
        &self.flag
    }
    #[getter]
    fn value(&self) -> bool {
        self.value
    }
    #[getter]
    fn reason(&self) -> &str {
        &self.reason
    }
    #[getter]
    fn flag_id(&self) -> Option<&str> {
        self.flag_id.as_deref()
    }
    #[getter]
    fn rule_id(&self) -> Option<&str> {
        self.rule_id.as_deref()
    }
    #[getter]
    fn rule_type(&self) -> Option<&str> {
        self.rule_type.as_deref()
    }
    #[getter]
    fn company_id(&self) -> Option<&str> {
        self.company_id.as_deref()
    }
    #[getter]
    fn user_id(&self) -> Option<&str> {
        self.user_id.as_deref()
    }
    #[getter]
    fn entitlement(&self) -> Option<FeatureEntitlement> {
        self.entitlement.as_ref().map(FeatureEntitlement::of)
    }
    #[getter]
    fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }
    #[getter]
    fn feature_allocation(&self) -> Option<i64> {
        self.feature_allocation
    }
    #[getter]
    fn feature_usage(&self) -> Option<i64> {
        self.feature_usage
    }
    #[getter]
    fn feature_usage_event(&self) -> Option<&str> {
        self.feature_usage_event.as_deref()
    }
    #[getter]
    fn feature_usage_period(&self) -> Option<&str> {
        self.feature_usage_period.as_deref()
    }
    #[getter]
    fn feature_usage_reset_at(&self) -> Option<DateTime<Utc>> {
        self.feature_usage_reset_at.map(arguments::shown)
    }
}

impl CheckFlagResult {
    fn fields<'py>(&self, py: Python<'py>) -> PyResult<Fields<'py>> {
        Ok(vec![
            field(py, "flag", self.flag())?,
            field(py, "value", self.value)?,
            field(py, "reason", self.reason())?,
            field(py, "flag_id", self.flag_id())?,
            field(py, "rule_id", self.rule_id())?,
            field(py, "rule_type", self.rule_type())?,
            field(py, "company_id", self.company_id())?,
            field(py, "user_id", self.user_id())?,
            field(py, "entitlement", self.entitlement())?,
            field(py, "error", self.error())?,
            field(py, "feature_allocation", self.feature_allocation)?,
            field(py, "feature_usage", self.feature_usage)?,
            field(py, "feature_usage_event", self.feature_usage_event())?,
            field(py, "feature_usage_period", self.feature_usage_period())?,
            field(py, "feature_usage_reset_at", self.feature_usage_reset_at())?,
        ])
    }
}

record!(CheckFlagResult);

/// What a reservation cannot do without.
const REQUIRED: [&str; 10] = [
    "id",
    "lease_id",
    "mode",
    "company_id",
    "credit_type_id",
    "event_subtype",
    "quantity_reserved",
    "credits_reserved",
    "consumption_rate",
    "expires_at",
];

/// Credits held for one check until they are settled, cancelled or swept.
#[pyclass(frozen, module = "schematic_native")]
pub(crate) struct Reservation(pub Arc<Held>);

fn held_amount(name: &str, value: &Bound<'_, PyAny>) -> PyResult<f64> {
    let amount = arguments::quantity(name, value)?;
    if amount.is_finite() && amount >= 0.0 {
        return Ok(amount);
    }
    Err(PyValueError::new_err(format!(
        "{name} must be finite and not negative, not {amount}"
    )))
}

fn mode_of(text: &str) -> Option<Mode> {
    [Mode::Client, Mode::Server]
        .into_iter()
        .find(|mode| mode.as_str() == text)
}

fn keys_dict<'py>(py: Python<'py>, keys: Option<&Keys>) -> PyResult<Option<Bound<'py, PyDict>>> {
    let Some(keys) = keys else {
        return Ok(None);
    };
    let dict = PyDict::new(py);
    for (name, value) in keys.iter() {
        dict.set_item(name, value)?;
    }
    Ok(Some(dict))
}

#[pymethods]
impl Reservation {
    #[new]
    #[pyo3(signature = (
        id, lease_id, mode, company_id, credit_type_id, event_subtype, quantity_reserved,
        credits_reserved, consumption_rate, expires_at, company=None, user=None,
    ))]
    #[allow(clippy::too_many_arguments, reason = "the fields as published")]
    fn new(
        id: &Bound<'_, PyAny>,
        lease_id: &Bound<'_, PyAny>,
        mode: &Bound<'_, PyAny>,
        company_id: &Bound<'_, PyAny>,
        credit_type_id: &Bound<'_, PyAny>,
        event_subtype: &Bound<'_, PyAny>,
        quantity_reserved: &Bound<'_, PyAny>,
        credits_reserved: &Bound<'_, PyAny>,
        consumption_rate: &Bound<'_, PyAny>,
        expires_at: &Bound<'_, PyAny>,
        company: Option<&Bound<'_, PyAny>>,
        user: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let mode = arguments::text("mode", mode)?;
        let mode = mode_of(mode).ok_or_else(|| {
            PyValueError::new_err(format!("mode must be 'client' or 'server', not {mode:?}"))
        })?;
        Ok(Self(Arc::new(Held {
            id: ReservationId::parse(arguments::text("id", id)?),
            lease_id: arguments::text("lease_id", lease_id)?.into(),
            mode,
            holder: Holder::new(
                arguments::text("company_id", company_id)?,
                arguments::keys("company", company)?,
                arguments::keys("user", user)?,
            ),
            terms: Arc::new(Terms {
                credit_id: arguments::text("credit_type_id", credit_type_id)?.into(),
                event_subtype: arguments::text("event_subtype", event_subtype)?.into(),
                rate: held_amount("consumption_rate", consumption_rate)?,
            }),
            quantity_reserved: held_amount("quantity_reserved", quantity_reserved)?,
            credits_reserved: held_amount("credits_reserved", credits_reserved)?,
            expires_at: arguments::datetime("expires_at", expires_at)?.timestamp_millis(),
            exported: Exported::default(),
        })))
    }

    #[getter]
    fn id(&self) -> String {
        self.0.id.to_string()
    }
    #[getter]
    fn lease_id(&self) -> &str {
        &self.0.lease_id
    }
    #[getter]
    fn mode(&self) -> &'static str {
        self.0.mode.as_str()
    }
    #[getter]
    fn company_id(&self) -> &str {
        self.0.holder.company_id()
    }
    #[getter]
    fn credit_type_id(&self) -> &str {
        &self.0.terms.credit_id
    }
    #[getter]
    fn event_subtype(&self) -> &str {
        &self.0.terms.event_subtype
    }
    #[getter]
    fn quantity_reserved(&self) -> f64 {
        self.0.quantity_reserved
    }
    #[getter]
    fn credits_reserved(&self) -> f64 {
        self.0.credits_reserved
    }
    #[getter]
    fn consumption_rate(&self) -> f64 {
        self.0.terms.rate
    }
    #[getter]
    fn expires_at(&self) -> DateTime<Utc> {
        let at = DateTime::from_timestamp_millis(self.0.expires_at);
        arguments::shown(at.unwrap_or(DateTime::<Utc>::MAX_UTC))
    }
    #[getter]
    fn company<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        keys_dict(py, self.0.company())
    }
    #[getter]
    fn user<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        keys_dict(py, self.0.user())
    }

    /// Plain values, for example to settle in another process; `expires_at` in RFC 3339.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.leave();
        let dict = to_dict(py, &self.fields(py)?)?;
        dict.set_item("expires_at", self.expires_at().to_rfc3339())?;
        Ok(dict)
    }

    /// The reservation that `to_dict` described.
    #[staticmethod]
    fn from_dict(py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let data = data.cast::<PyMapping>().map_err(|_| {
            let kind = arguments::kind_of(data);
            PyTypeError::new_err(format!(
                "data must be a mapping such as to_dict gives, not {kind}"
            ))
        })?;
        let fields = PyDict::from_sequence(data.items()?.as_any())?;
        let mut missing = Vec::new();
        for name in REQUIRED {
            if !fields.contains(name)? {
                missing.push(name);
            }
        }
        if !missing.is_empty() {
            let missing = missing.join("', '");
            return Err(PyKeyError::new_err(format!("data has no '{missing}'")));
        }
        let expires_at = fields.get_item("expires_at")?;
        if let Some(at) = &expires_at
            && let Ok(text) = at.extract::<&str>()
        {
            let at = DateTime::parse_from_rfc3339(text).map_err(|fault| {
                PyValueError::new_err(format!(
                    "data['expires_at'] must be RFC 3339, not {text:?}: {fault}"
                ))
            })?;
            fields.set_item("expires_at", arguments::shown(at.to_utc()))?;
        }
        py.get_type::<Self>()
            .call((), Some(&fields))
            .map(Bound::unbind)
            .map_err(|fault| {
                let error = PyTypeError::new_err(format!("data is not a reservation's: {fault}"));
                if fault.is_instance_of::<PyValueError>(py) {
                    fault
                } else {
                    error
                }
            })
    }
}

impl Reservation {
    fn leave(&self) {
        self.0.exported.set();
    }

    fn fields<'py>(&self, py: Python<'py>) -> PyResult<Fields<'py>> {
        Ok(vec![
            field(py, "id", self.id())?,
            field(py, "lease_id", self.lease_id())?,
            field(py, "mode", self.mode())?,
            field(py, "company_id", self.company_id())?,
            field(py, "credit_type_id", self.credit_type_id())?,
            field(py, "event_subtype", self.event_subtype())?,
            field(py, "quantity_reserved", self.quantity_reserved())?,
            field(py, "credits_reserved", self.credits_reserved())?,
            field(py, "consumption_rate", self.consumption_rate())?,
            field(py, "expires_at", self.expires_at())?,
            field(py, "company", self.company(py)?)?,
            field(py, "user", self.user(py)?)?,
        ])
    }
}

record!(Reservation, leave);

/// The answer of a lease-backed check.
#[pyclass(frozen, module = "schematic_native")]
pub(crate) struct CheckResult {
    allowed: bool,
    value: bool,
    reason: KeptReason,
    flag: Arc<FlagName>,
    error: Option<Text>,
    reservation: Option<Arc<Held>>,
    entitlement: Option<Arc<Entitlement>>,
}

impl From<CheckAnswer> for CheckResult {
    fn from(answer: CheckAnswer) -> Self {
        Self {
            allowed: answer.allowed,
            value: answer.value,
            reason: answer.reason,
            flag: answer.flag,
            error: answer.error.map(|failure| Text::Static(failure.as_str())),
            reservation: answer.reservation,
            entitlement: answer.entitlement,
        }
    }
}

#[pymethods]
impl CheckResult {
    #[new]
    #[pyo3(signature = (
        allowed, value, reason, flag_key, reservation=None, entitlement=None, flag_id=None, error=None
    ))]
    #[allow(clippy::too_many_arguments, reason = "the fields as published")]
    fn new(
        allowed: bool,
        value: bool,
        reason: String,
        flag_key: String,
        reservation: Option<Py<Reservation>>,
        entitlement: Option<Py<FeatureEntitlement>>,
        flag_id: Option<String>,
        error: Option<String>,
    ) -> Self {
        Self {
            allowed,
            value,
            reason: KeptReason::Text(reason.into()),
            flag: Arc::new(FlagName {
                id: flag_id.map(Into::into),
                key: flag_key.into(),
            }),
            error: owned(error),
            reservation: reservation.map(|held| Arc::clone(&held.get().0)),
            entitlement: entitlement.map(|entitlement| Arc::clone(&entitlement.get().0)),
        }
    }

    #[getter]
    fn allowed(&self) -> bool {
        self.allowed
    }
    #[getter]
    fn value(&self) -> bool {
        self.value
    }
    #[getter]
    fn reason(&self) -> &str {
        &self.reason
    }
    #[getter]
    fn flag_key(&self) -> &str {
        &self.flag.key
    }
    #[getter]
    fn reservation(&self) -> Option<Reservation> {
        self.reservation
            .as_ref()
            .map(|held| Reservation(Arc::clone(held)))
    }
    #[getter]
    fn entitlement(&self) -> Option<FeatureEntitlement> {
        self.entitlement.as_ref().map(FeatureEntitlement::of)
    }
    #[getter]
    fn flag_id(&self) -> Option<&str> {
        self.flag.id.as_deref()
    }
    #[getter]
    fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }
}

impl CheckResult {
    fn fields<'py>(&self, py: Python<'py>) -> PyResult<Fields<'py>> {
        Ok(vec![
            field(py, "allowed", self.allowed)?,
            field(py, "value", self.value)?,
            field(py, "reason", self.reason())?,
            field(py, "flag_key", self.flag_key())?,
            field(py, "reservation", self.reservation())?,
            field(py, "entitlement", self.entitlement())?,
            field(py, "flag_id", self.flag_id())?,
            field(py, "error", self.error())?,
        ])
    }
}

record!(CheckResult);
