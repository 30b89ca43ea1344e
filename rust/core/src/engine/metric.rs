//! What a company used.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::period::{MetricPeriod, MonthReset};
use super::table::{Entry, Table, hash};
use crate::name::Name;

/// What tells the rows of a company apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RowKey {
    pub hash: u64,
    pub event: Name,
    period: MetricPeriod,
    reset: MonthReset,
}

impl RowKey {
    pub fn new(event: &str, period: MetricPeriod, reset: MonthReset) -> Self {
        Self {
            hash: row_hash(hash(event.as_bytes()), period, reset),
            event: Name::new(event),
            period,
            reset,
        }
    }
}

fn row_hash(event_hash: u64, period: MetricPeriod, reset: MonthReset) -> u64 {
    let row = period as u64 * 8 + reset as u64 + 1;
    event_hash ^ row.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// The usage of one event over one period. Versions of a company share the count until a push replaces it, so
/// that usage counted while a partial update is being merged is not lost.
#[derive(Debug, Clone)]
pub(crate) struct Metric {
    key: RowKey,
    count: Arc<AtomicI64>,
}

impl Metric {
    pub fn new(key: RowKey, value: i64) -> Self {
        Self {
            key,
            count: Arc::new(AtomicI64::new(value)),
        }
    }

    /// The usage so far. No other memory is published with it, so no order is asked for.
    pub fn value(&self) -> i64 {
        self.count.load(Ordering::Relaxed)
    }
}

impl Entry for Metric {
    fn hash(&self) -> u64 {
        self.key.hash
    }

    fn same_key(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Table<Metric> {
    /// The row that a condition reads.
    pub fn row(&self, key: &RowKey) -> Option<&Metric> {
        self.find(key.hash, |metric| metric.key == *key)
    }

    /// Grows every row of the event, wrapping.
    pub fn add(&self, event: &str, quantity: i64) {
        let event_hash = hash(event.as_bytes());
        for period in [
            MetricPeriod::AllTime,
            MetricPeriod::CurrentDay,
            MetricPeriod::CurrentMonth,
            MetricPeriod::CurrentWeek,
        ] {
            for reset in [MonthReset::FirstOfMonth, MonthReset::BillingCycle] {
                let hash = row_hash(event_hash, period, reset);
                let is_row = |key: &RowKey| {
                    key.period == period && key.reset == reset && key.event.is(event)
                };
                if let Some(metric) = self.find(hash, |metric| is_row(&metric.key)) {
                    metric.count.fetch_add(quantity, Ordering::Relaxed);
                }
            }
        }
    }
}
