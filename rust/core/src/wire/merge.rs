//! Partial updates of cached entities.

use std::sync::Arc;

use super::models::{CompanyPartial, LeaseBalance, UserPartial};
use super::text::{Map, Text};
use super::{WireError, compile, read};
use crate::engine::{
    Balance, Company, CompanyParts, Entitlement, Feature, Key, Metric, MetricPeriod, MonthReset,
    PolicyScope, RowKey, Table, User,
};

impl Company {
    /// The company with what a partial message changes: keys and balances merge name by name, metrics
    /// row by row, and everything else in the message replaces what was there. Entitlements follow the balances
    /// and metrics, unless the message brings entitlements of its own. What did not change is shared.
    ///
    /// # Errors
    /// The message cannot be read, or names another company.
    pub fn merge(&self, partial: &[u8]) -> Result<Company, WireError> {
        const WHAT: &str = "partial company";
        let mut partial: CompanyPartial<'_> = read(WHAT, partial)?;
        check_id(WHAT, partial.id.as_ref(), self.id())?;
        let follows = partial.entitlements.is_none();
        let moves_metrics = partial.metrics.is_some();
        let mut parts = self.parts.clone();
        let moved = moved_balances(
            partial.credit_balances.take(),
            partial.credit_lease_balance.take(),
        );
        if !moved.entries().is_empty() {
            let balances = moved.entries().iter().chain(parts.balances.entries());
            parts.balances = Table::first_wins(balances.cloned());
        }
        replace(&mut parts, partial);
        if follows && (moves_metrics || !moved.entries().is_empty()) {
            let metrics = if moves_metrics {
                parts.metrics.clone()
            } else {
                Table::default()
            };
            parts.features = followed(&parts.features, &moved, &metrics);
        }
        Ok(self.with(parts))
    }
}

impl User {
    /// The user with what a partial message changes: keys merge name by name, and everything else in the message
    /// replaces what was there. What did not change is shared.
    ///
    /// # Errors
    /// The message cannot be read, or names another user.
    pub fn merge(&self, partial: &[u8]) -> Result<User, WireError> {
        const WHAT: &str = "partial user";
        let partial: UserPartial<'_> = read(WHAT, partial)?;
        check_id(WHAT, partial.id.as_ref(), self.id())?;
        let mut parts = self.parts.clone();
        if let Some(keys) = partial.keys {
            parts.keys = merged_keys(&parts.keys, keys);
        }
        if let Some(traits) = partial.traits {
            parts.traits = compile::traits(&traits);
        }
        if let Some(rules) = partial.rules {
            parts.rules = compile::rules_by_flag(&rules);
        }
        if let Some(policies) = partial.credit_spend_policies {
            parts.policies = compile::policies(&policies, PolicyScope::Company);
        }
        Ok(self.with(parts))
    }
}

fn check_id(what: &'static str, found: Option<&Text<'_>>, expected: &str) -> Result<(), WireError> {
    match found {
        Some(found) if **found != *expected => Err(WireError::OtherEntity {
            what,
            found: found.to_string(),
            expected: expected.to_owned(),
        }),
        _ => Ok(()),
    }
}

fn replace(parts: &mut CompanyParts, partial: CompanyPartial<'_>) {
    if let Some(keys) = partial.keys {
        parts.keys = merged_keys(&parts.keys, keys);
    }
    if let Some(metrics) = partial.metrics {
        let pushed = compile::metrics(&metrics);
        let rows = pushed.entries().iter().chain(parts.metrics.entries());
        parts.metrics = Table::first_wins(rows.cloned());
    }
    if let Some(id) = partial.base_plan_id {
        parts.base_plan = id.as_deref().map(Key::new);
    }
    if let Some(ids) = partial.plan_ids {
        parts.plans = compile::ids(&ids);
    }
    if let Some(ids) = partial.plan_version_ids {
        parts.plan_versions = compile::ids(&ids);
    }
    if let Some(ids) = partial.billing_product_ids {
        parts.billing_products = compile::ids(&ids);
    }
    if let Some(postpaid) = partial.credit_postpaid {
        parts.postpaid = compile::postpaid(postpaid);
    }
    if let Some(policies) = partial.credit_spend_policies {
        parts.policies = compile::policies(&policies, PolicyScope::User);
    }
    if let Some(entitlements) = partial.entitlements {
        parts.features = compile::features(entitlements);
    }
    if let Some(rules) = partial.rules {
        parts.rules = compile::rules_by_flag(&rules);
    }
    if let Some(subscription) = partial.subscription {
        parts.subscription = subscription.as_ref().map(compile::subscription);
    }
    if let Some(traits) = partial.traits {
        parts.traits = compile::traits(&traits);
    }
}

type Keys = Arc<[(Box<str>, Box<str>)]>;

fn merged_keys(known: &Keys, pushed: Map<'_, Text<'_>>) -> Keys {
    let mut merged = known.to_vec();
    for (name, value) in &*compile::keys(pushed) {
        match merged.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => known.clone_from(value),
            None => merged.push((name.clone(), value.clone())),
        }
    }
    merged.into()
}

/// The balances in a message. What leases leave of a credit takes precedence over its plain balance.
fn moved_balances(
    balances: Option<Map<'_, f64>>,
    leased: Option<Map<'_, LeaseBalance>>,
) -> Table<Balance> {
    let leased = leased.map(compile::lease_balances).unwrap_or_default();
    let balances = balances.map(compile::balances).unwrap_or_default();
    Table::first_wins(leased.entries().iter().chain(balances.entries()).cloned())
}

/// The entitlements with the changed balances and metrics. An entitlement that did not change stays shared.
fn followed(
    features: &Table<Feature>,
    moved: &Table<Balance>,
    metrics: &Table<Metric>,
) -> Table<Feature> {
    features.map(|feature| {
        let was = &*feature.entitlement;
        let credit_remaining = remaining_credits(moved, was).or(was.credit_remaining);
        let usage = metered_usage(metrics, was).or(was.usage);
        if credit_remaining == was.credit_remaining && usage == was.usage {
            return feature.clone();
        }
        let entitlement = Arc::new(Entitlement {
            usage,
            credit_remaining,
            ..was.clone()
        });
        Feature {
            key: feature.key.clone(),
            entitlement,
            terms: feature.terms.clone(),
        }
    })
}

fn remaining_credits(moved: &Table<Balance>, entitlement: &Entitlement) -> Option<f64> {
    let credit = entitlement.credit_id.as_deref()?;
    Some(moved.named_by(credit)?.amount)
}

fn metered_usage(metrics: &Table<Metric>, entitlement: &Entitlement) -> Option<i64> {
    let event = entitlement.event_name.as_deref()?;
    let period = entitlement.metric_period.unwrap_or(MetricPeriod::AllTime);
    let reset = entitlement.month_reset.unwrap_or(MonthReset::FirstOfMonth);
    let row = metrics.row(&RowKey::new(event, period, reset))?;
    Some(row.value())
}
