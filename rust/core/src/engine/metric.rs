//! What a company used.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::period::{MetricPeriod, MonthReset};
use super::table::{Entry, Table, hash, same};

/// The usage of one event over one period. Companies share a row until a push replaces it, so that usage
/// counted while a partial update is being merged is not lost.
#[derive(Debug)]
pub(crate) struct Metric {
    hash: u64,
    pub event: Box<str>,
    pub period: MetricPeriod,
    pub reset: MonthReset,
    value: AtomicI64,
}

impl Metric {
    pub fn new(event: &str, period: MetricPeriod, reset: MonthReset, value: i64) -> Self {
        let hash = row_hash(event, period, reset);
        Self {
            hash,
            event: event.into(),
            period,
            reset,
            value: AtomicI64::new(value),
        }
    }

    /// The usage so far. No other memory is published with it, so no order is asked for.
    pub fn value(&self) -> i64 {
        self.value.load(Ordering::Relaxed)
    }

    fn is(&self, event: &str, period: MetricPeriod, reset: MonthReset) -> bool {
        self.period == period && self.reset == reset && same(&self.event, event)
    }
}

impl Entry for Arc<Metric> {
    fn hash(&self) -> u64 {
        self.hash
    }

    fn same_key(&self, other: &Self) -> bool {
        self.is(&other.event, other.period, other.reset)
    }
}

/// The hash that a row is found by.
pub(crate) fn row_hash(event: &str, period: MetricPeriod, reset: MonthReset) -> u64 {
    row_hash_of(hash(event), period, reset)
}

fn row_hash_of(event_hash: u64, period: MetricPeriod, reset: MonthReset) -> u64 {
    let row = period as u64 * 8 + reset as u64 + 1;
    event_hash ^ row.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

impl Table<Arc<Metric>> {
    /// The row that a condition reads.
    pub fn row(
        &self,
        hash: u64,
        event: &str,
        period: MetricPeriod,
        reset: MonthReset,
    ) -> Option<&Metric> {
        self.find(hash, |metric| metric.is(event, period, reset))
            .map(|metric| &**metric)
    }

    /// Grows every row of the event, wrapping.
    pub fn add(&self, event: &str, quantity: i64) {
        let event_hash = hash(event);
        for period in [
            MetricPeriod::AllTime,
            MetricPeriod::CurrentDay,
            MetricPeriod::CurrentMonth,
            MetricPeriod::CurrentWeek,
        ] {
            for reset in [MonthReset::FirstOfMonth, MonthReset::BillingCycle] {
                if let Some(metric) =
                    self.row(row_hash_of(event_hash, period, reset), event, period, reset)
                {
                    metric.value.fetch_add(quantity, Ordering::Relaxed);
                }
            }
        }
    }
}
