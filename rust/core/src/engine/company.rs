//! Companies.
//!
//! A company is read by evaluations and never changed by them. Only the values of its metrics grow in place, by usage
//! that this process reports.

use std::sync::Arc;

use super::entitlement::{Entitlement, Feature, Terms};
use super::facts::{Facts, TraitFacts};
use super::flag::Flag;
use super::metric::Metric;
use super::period::Subscription;
use super::rule::FlagRules;
use super::spend::CreditPolicies;
use super::table::{Ids, Key, Named, Table};
use super::traits::Trait;
use crate::name::Name;

/// A compiled company. A partial update builds a new one that shares what did not change.
#[derive(Debug)]
pub struct Company {
    pub(crate) parts: CompanyParts,
    pub(super) key: Key,
    pub(super) facts: Facts,
}

/// What a company is made of. Cloning shares.
#[derive(Debug, Clone)]
pub(crate) struct CompanyParts {
    pub id: Arc<str>,
    pub keys: Arc<[(Box<str>, Box<str>)]>,
    pub base_plan: Option<Key>,
    pub plans: Ids,
    pub plan_versions: Ids,
    pub billing_products: Ids,
    pub balances: Table<Balance>,
    pub postpaid: Table<Postpaid>,
    pub policies: Table<CreditPolicies>,
    pub features: Table<Feature>,
    pub metrics: Table<Metric>,
    pub rules: Table<FlagRules>,
    pub subscription: Option<Subscription>,
    pub traits: Table<Trait>,
}

/// The credits that a company has.
#[derive(Debug, Clone)]
pub(crate) struct Balance {
    pub credit: Name,
    pub amount: f64,
}

impl Named for Balance {
    fn name(&self) -> &Name {
        &self.credit
    }
}

/// A credit that is paid for after it was used.
#[derive(Debug)]
pub(crate) struct Postpaid {
    pub credit: Name,
    /// How far below zero the balance may go; `None`: without an end.
    pub overdraft_limit: Option<f64>,
}

impl Named for Postpaid {
    fn name(&self) -> &Name {
        &self.credit
    }
}

impl Company {
    pub(crate) fn new(parts: CompanyParts) -> Self {
        let traits = TraitFacts::new(&parts.traits);
        Self::of(parts, traits)
    }

    /// The same company with other parts, most of which are shared.
    pub(crate) fn with(&self, parts: CompanyParts) -> Self {
        if parts.traits.is(&self.parts.traits) {
            Self::of(parts, self.facts.of_traits())
        } else {
            Self::new(parts)
        }
    }

    fn of(parts: CompanyParts, traits: TraitFacts) -> Self {
        let key = Key::new(&parts.id);
        Self {
            facts: Facts::new(&key, traits).with_plans(
                &parts.plans,
                &parts.plan_versions,
                &parts.billing_products,
                parts.base_plan.as_ref(),
            ),
            key,
            parts,
        }
    }

    /// Whether there are policies that limit what the company spends.
    pub(crate) fn limits_spend(&self) -> bool {
        !self.parts.policies.entries().is_empty()
    }

    /// The company's id.
    #[must_use]
    pub fn id(&self) -> &Arc<str> {
        &self.parts.id
    }

    /// The lookup keys, as (name, value).
    pub fn keys(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parts
            .keys
            .iter()
            .map(|(name, value)| (&**name, &**value))
    }

    /// The credits left of one credit; `None` if the company has none of it.
    #[must_use]
    pub fn balance(&self, credit_id: &str) -> Option<f64> {
        let balance = self.parts.balances.named_by(credit_id)?;
        Some(balance.amount)
    }

    /// What the company is entitled to for the feature with this key.
    #[must_use]
    pub fn entitlement(&self, feature_key: &str) -> Option<&Arc<Entitlement>> {
        let feature = self.parts.features.named_by(feature_key)?;
        Some(&feature.entitlement)
    }

    /// What the company is entitled to for the flag's feature: what an evaluation tells, whichever
    /// rule matches.
    #[must_use]
    pub fn entitlement_to(&self, flag: &Flag) -> Option<&Arc<Entitlement>> {
        Some(&self.feature_of(flag)?.entitlement)
    }

    /// How the flag's feature is metered by credits, if that entitlement says so.
    #[must_use]
    pub fn terms_of(&self, flag: &Flag) -> Option<&Arc<Terms>> {
        self.feature_of(flag)?.terms.as_ref()
    }

    fn feature_of(&self, flag: &Flag) -> Option<&Feature> {
        if flag.id().is_empty() {
            return None;
        }
        self.parts.features.named(&flag.feature)
    }

    /// Grows the value of every metric of the event by `quantity`, in place and wrapping. Any thread may.
    pub fn add_usage(&self, event_subtype: &str, quantity: i64) {
        self.parts.metrics.add(event_subtype, quantity);
    }
}
