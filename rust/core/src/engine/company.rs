//! Companies.

use std::sync::Arc;

use super::entitlement::{Entitlement, Feature};
use super::flag::Flag;
use super::metric::Metric;
use super::period::Subscription;
use super::rule::FlagRules;
use super::spend::CreditPolicies;
use super::table::{Entry, Ids, Key, Table, hash, same};
use super::user::Trait;

/// A compiled company. A partial update builds a new one that shares what did not change.
#[derive(Debug)]
pub struct Company {
    pub(crate) parts: CompanyParts,
    pub(super) id_hash: u64,
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
    pub metrics: Table<Arc<Metric>>,
    pub rules: Table<FlagRules>,
    pub subscription: Option<Subscription>,
    pub traits: Table<Trait>,
}

/// The credits that a company has.
#[derive(Debug, Clone)]
pub(crate) struct Balance {
    pub credit: Key,
    pub amount: f64,
}

impl Entry for Balance {
    fn hash(&self) -> u64 {
        self.credit.hash
    }

    fn same_key(&self, other: &Self) -> bool {
        self.credit.same_key(&other.credit)
    }
}

/// A credit that is paid for after it was used.
#[derive(Debug)]
pub(crate) struct Postpaid {
    pub credit: Key,
    /// How far below zero the balance may go; `None`: without an end.
    pub overdraft_limit: Option<f64>,
}

impl Entry for Postpaid {
    fn hash(&self) -> u64 {
        self.credit.hash
    }

    fn same_key(&self, other: &Self) -> bool {
        self.credit.same_key(&other.credit)
    }
}

impl Company {
    pub(crate) fn new(parts: CompanyParts) -> Self {
        Self {
            id_hash: hash(&parts.id),
            parts,
        }
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
        self.balance_by(hash(credit_id), credit_id)
    }

    pub(super) fn balance_by(&self, hash: u64, credit_id: &str) -> Option<f64> {
        self.parts
            .balances
            .find(hash, |entry| same(&entry.credit.text, credit_id))
            .map(|entry| entry.amount)
    }

    pub(super) fn postpaid(&self, credit: &Key) -> Option<&Postpaid> {
        self.parts
            .postpaid
            .find(credit.hash, |entry| same(&entry.credit.text, &credit.text))
    }

    /// What the company is entitled to for the feature with this key.
    #[must_use]
    pub fn entitlement(&self, feature_key: &str) -> Option<&Arc<Entitlement>> {
        self.entitlement_by(hash(feature_key), feature_key)
    }

    /// What the company is entitled to for the flag's feature: what an evaluation tells, whichever
    /// rule matches.
    #[must_use]
    pub fn entitlement_to(&self, flag: &Flag) -> Option<&Arc<Entitlement>> {
        if flag.id().is_empty() {
            return None;
        }
        self.entitlement_by(flag.key_hash, flag.key())
    }

    pub(super) fn entitlement_by(&self, hash: u64, feature_key: &str) -> Option<&Arc<Entitlement>> {
        self.parts
            .features
            .find(hash, |feature| {
                same(&feature.entitlement.feature_key, feature_key)
            })
            .map(|feature| &feature.entitlement)
    }

    /// Grows the value of every metric of the event by `quantity`, in place and wrapping. Any thread may.
    pub fn add_usage(&self, event_subtype: &str, quantity: i64) {
        self.parts.metrics.add(event_subtype, quantity);
    }
}
