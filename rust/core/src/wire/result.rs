//! Result JSON, as the published engine writes it.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::text::Map;
use super::{WireError, compile, models, read};
use crate::Millis;
use crate::engine::{
    Company, Entitlement, FeatureUsage, Flag, MetricPeriod, Preflight, SpendPolicy, User, Verdict,
    Violation, evaluate,
};

const ENVELOPE: &str = "envelope";

/// Checks one flag: `{"flag", "company"?, "user"?, "options"?}` to a result.
///
/// # Errors
/// The envelope or anything in it cannot be read.
pub fn check_flag_json(envelope: &[u8], now: Option<Millis>) -> Result<String, WireError> {
    let Envelope(One {
        flag,
        company,
        user,
        options,
    }) = read(ENVELOPE, envelope)?;
    let flag = compile::flag(&flag);
    let company = company.map(compile::company);
    let user = user.map(compile::user);
    let options = options.map(Options::new).unwrap_or_default();
    let quantities = options
        .quantities
        .as_ref()
        .map(|(event, pairs)| (&**event, borrowed(pairs)));
    let credit_cost = borrowed(&options.credit_cost);
    let preflight = Preflight {
        usage: options.usage,
        event_usage: options
            .event_usage
            .as_ref()
            .map(|(event, quantity)| (&**event, *quantity)),
        event_quantities: quantities.as_ref().map(|(event, pairs)| (*event, &**pairs)),
        event_quantity: options.event_quantity,
        credit_cost: &credit_cost,
        balance: None,
    };
    let verdict = evaluate(&flag, company.as_ref(), user.as_ref(), &preflight, now);
    write(&FlagResult::new(
        &flag,
        company.as_ref(),
        user.as_ref(),
        &verdict,
    ))
}

/// Checks many flags: `{"flags", "company"?, "user"?}` to a list of results in the order of the flags. Options are
/// not read.
///
/// # Errors
/// The envelope or anything in it cannot be read.
pub fn check_flags_json(envelope: &[u8], now: Option<Millis>) -> Result<String, WireError> {
    let Envelope(Many {
        flags,
        company,
        user,
    }) = read(ENVELOPE, envelope)?;
    let flags: Vec<Flag> = flags.iter().map(compile::flag).collect();
    let company = company.map(compile::company);
    let user = user.map(compile::user);
    let preflight = Preflight::default();
    let verdicts: Vec<_> = flags
        .iter()
        .map(|flag| evaluate(flag, company.as_ref(), user.as_ref(), &preflight, now))
        .collect();
    let results = flags.iter().zip(&verdicts);
    let results: Vec<_> = results
        .map(|(flag, verdict)| FlagResult::new(flag, company.as_ref(), user.as_ref(), verdict))
        .collect();
    write(&results)
}

fn write<T: Serialize>(result: &T) -> Result<String, WireError> {
    serde_json::to_string(result).map_err(|source| WireError::Json {
        what: "result",
        source,
    })
}

/// A struct that must come as a map: the engine takes every struct as an array too, but not this one.
struct Envelope<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Envelope<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct EnvelopeVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for EnvelopeVisitor<T> {
            type Value = Envelope<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Self::Value, M::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Envelope)
            }
        }

        from.deserialize_map(EnvelopeVisitor(PhantomData))
    }
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
struct One<'a> {
    flag: models::Flag<'a>,
    #[serde(default)]
    company: Option<models::Company<'a>>,
    #[serde(default)]
    user: Option<models::User<'a>>,
    #[serde(default)]
    options: Option<models::Options<'a>>,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
struct Many<'a> {
    flags: Vec<models::Flag<'a>>,
    #[serde(default)]
    company: Option<models::Company<'a>>,
    #[serde(default)]
    user: Option<models::User<'a>>,
}

/// A preflight that owns its names, each of them once.
#[derive(Default)]
struct Options {
    usage: Option<i64>,
    event_usage: Option<(Box<str>, i64)>,
    event_quantity: Option<f64>,
    quantities: Option<(Box<str>, Amounts)>,
    credit_cost: Amounts,
}

type Amounts = Vec<(Box<str>, f64)>;

impl Options {
    fn new(options: models::Options<'_>) -> Self {
        Self {
            usage: options.usage,
            event_quantity: options.event_quantities.as_ref().and_then(|it| it.quantity),
            event_usage: options
                .event_usage
                .map(|it| (Box::from(&*it.event_subtype), it.quantity)),
            quantities: options.event_quantities.map(|it| {
                (
                    Box::from(&*it.event_subtype),
                    distinct(it.quantities, |value| value),
                )
            }),
            credit_cost: distinct(options.credit_cost, Some),
        }
    }
}

fn distinct<T>(map: Map<'_, T>, value: impl Fn(T) -> Option<f64>) -> Amounts {
    let pairs = map.into_distinct().into_iter();
    pairs
        .filter_map(|(name, it)| Some((Box::from(&*name), value(it)?)))
        .collect()
}

fn borrowed(pairs: &[(Box<str>, f64)]) -> Vec<(&str, f64)> {
    pairs
        .iter()
        .map(|(name, value)| (&**name, *value))
        .collect()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FlagResult<'a> {
    value: bool,
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    err: Option<String>,
    rule_id: Option<&'a str>,
    rule_type: Option<&'static str>,
    company_id: Option<&'a str>,
    user_id: Option<&'a str>,
    entitlement: Option<&'a Entitlement>,
    flag_id: &'a str,
    flag_key: &'a str,
    feature_allocation: Option<i64>,
    feature_usage: Option<i64>,
    feature_usage_event: Option<&'a Arc<str>>,
    feature_usage_period: Option<MetricPeriod>,
    feature_usage_reset_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credit_spend_policy: Option<SpendDenial<'a>>,
}

#[derive(Serialize)]
struct SpendDenial<'a> {
    cost: f64,
    policy: &'a SpendPolicy,
}

impl<'a> FlagResult<'a> {
    fn new(
        flag: &'a Flag,
        company: Option<&'a Company>,
        user: Option<&'a User>,
        verdict: &Verdict<'a>,
    ) -> Self {
        let usage = verdict.usage.as_ref();
        Self {
            value: verdict.value,
            reason: verdict.reason.to_string(),
            err: verdict.error.map(|error| error.to_string()),
            rule_id: verdict.rule.map(|rule| &*rule.id),
            rule_type: verdict.rule.map(|rule| rule.kind.as_str()),
            company_id: company.map(|company| &**company.id()),
            user_id: user.map(|user| &**user.id()),
            entitlement: verdict.entitlement.map(|entitlement| &**entitlement),
            flag_id: flag.id(),
            flag_key: flag.key(),
            feature_allocation: usage.map(|usage| usage.allocation),
            feature_usage: usage.map(|usage| usage.usage),
            feature_usage_event: usage.and_then(|usage| usage.event),
            feature_usage_period: usage.and_then(|usage| usage.period),
            feature_usage_reset_at: usage
                .and_then(FeatureUsage::reset_at)
                .map(|instant| instant.to_rfc3339()),
            credit_spend_policy: verdict
                .violation
                .map(|Violation { policy, cost }| SpendDenial { cost, policy }),
        }
    }
}
