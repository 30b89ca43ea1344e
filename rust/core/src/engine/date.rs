//! Dates in trait values.

use chrono::format::{Parsed, StrftimeItems, parse};
use chrono::{DateTime, Utc};

/// In the order in which they are tried. `%Z` takes any run of non-blanks and means nothing.
const FORMATS: [&str; 4] = [
    "%Y-%m-%d %H:%M:%S %Z",
    "%Y-%m-%dT%H:%M:%S%.3f%z",
    "%a %b %d %Y %H:%M:%S GMT%z",
    "%a %b %d %Y %H:%M:%S %Z",
];

/// An instant from any form that the engine reads; a form without a usable offset is UTC.
pub(crate) fn parse_date(text: &str) -> Option<DateTime<Utc>> {
    // Shorter texts hold no form, and most values that are no date are empty.
    if text.len() < 8 {
        return None;
    }
    FORMATS
        .iter()
        .find_map(|format| parse_format(text, format))
        .or_else(|| parse_rfc3339(text))
}

/// An instant with its offset first; if its offset does not do, as if it had none.
fn parse_format(text: &str, format: &str) -> Option<DateTime<Utc>> {
    let mut parsed = Parsed::new();
    parse(&mut parsed, text, StrftimeItems::new(format)).ok()?;
    match parsed.to_datetime() {
        Ok(instant) => Some(instant.to_utc()),
        Err(_) => parsed
            .to_naive_datetime_with_offset(0)
            .ok()
            .map(|local| local.and_utc()),
    }
}

/// An RFC 3339 instant.
pub(crate) fn parse_rfc3339(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text)
        .ok()
        .map(|instant| instant.to_utc())
}
