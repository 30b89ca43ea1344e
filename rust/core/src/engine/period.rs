//! Metric periods and when they reset.

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveTime, Utc};
use serde::{Deserialize, Serialize};

/// The span of time that a metric counts over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricPeriod {
    /// For ever.
    AllTime,
    /// The UTC day.
    CurrentDay,
    /// The month, see [`MonthReset`].
    CurrentMonth,
    /// The week, which starts on Sunday.
    CurrentWeek,
    /// A period that only a newer server knows: it finds no metric.
    #[serde(other)]
    Unknown,
}

impl MetricPeriod {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllTime => "all_time",
            Self::CurrentDay => "current_day",
            Self::CurrentMonth => "current_month",
            Self::CurrentWeek => "current_week",
            Self::Unknown => "unknown",
        }
    }
}

/// When a monthly metric starts anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MonthReset {
    /// With the calendar month.
    FirstOfMonth,
    /// With the subscription's billing cycle.
    BillingCycle,
    /// A reset that only a newer server knows: it finds no metric.
    #[serde(other)]
    Unknown,
}

impl MonthReset {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FirstOfMonth => "first_of_month",
            Self::BillingCycle => "billing_cycle",
            Self::Unknown => "unknown",
        }
    }
}

/// A company's subscription; an end that is no RFC 3339 date is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub start: Option<DateTime<Utc>>,
    pub end: Option<DateTime<Utc>>,
}

/// When the current period ends, if it ever does.
pub(crate) fn next_reset(
    period: Option<MetricPeriod>,
    reset: Option<MonthReset>,
    subscription: Option<Subscription>,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let today = now.date_naive();
    match period? {
        MetricPeriod::AllTime | MetricPeriod::Unknown => None,
        MetricPeriod::CurrentDay => today.succ_opt().map(midnight),
        MetricPeriod::CurrentWeek => {
            let days = 7 - u64::from(today.weekday().num_days_from_sunday());
            today.checked_add_days(Days::new(days)).map(midnight)
        }
        MetricPeriod::CurrentMonth => match (reset, subscription) {
            (Some(MonthReset::BillingCycle), Some(cycle)) => next_billing_reset(cycle, now),
            _ => next_month(today, 1, NaiveTime::MIN),
        },
    }
}

fn next_billing_reset(cycle: Subscription, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let (start, end) = (cycle.start?, cycle.end?);
    let today = now.date_naive();
    if start > now {
        return Some(start.min(next_month(today, 1, NaiveTime::MIN)?));
    }
    let (day, time) = (start.day(), start.time());
    let this_month = day_in_month(today.year(), today.month(), day, time)?;
    let next = if this_month > now {
        this_month
    } else {
        next_month(today, day, time)?
    };
    Some(next.min(end))
}

fn next_month(today: NaiveDate, day: u32, time: NaiveTime) -> Option<DateTime<Utc>> {
    match today.month() {
        12 => day_in_month(today.year() + 1, 1, day, time),
        month => day_in_month(today.year(), month + 1, day, time),
    }
}

/// A day of a month, or the month's last one where it is shorter.
fn day_in_month(year: i32, month: u32, day: u32, time: NaiveTime) -> Option<DateTime<Utc>> {
    let first = NaiveDate::from_ymd_opt(year, month, 1)?;
    let day = day.min(u32::from(first.num_days_in_month()));
    Some(first.with_day(day)?.and_time(time).and_utc())
}

fn midnight(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(NaiveTime::MIN).and_utc()
}
