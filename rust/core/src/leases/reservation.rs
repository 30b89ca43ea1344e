use std::sync::Arc;

use crate::{Millis, leases::ReservationId};

/// Lookup keys as a caller gave them, for example `{"id": "acme"}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys(Box<[(Box<str>, Box<str>)]>);

impl Keys {
    /// Copies the keys.
    #[must_use]
    pub fn new(keys: &[(&str, &str)]) -> Self {
        Self(
            keys.iter()
                .map(|&(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }

    /// Names and values, in the caller's order.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Whether these are exactly the keys in `keys`, in the same order.
    #[must_use]
    pub fn are(&self, keys: &[(&str, &str)]) -> bool {
        self.0.len() == keys.len() && self.iter().zip(keys).all(|(mine, other)| mine == *other)
    }
}

/// Who holds the credits of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Our lease.
    Client,
    /// The service.
    Server,
}

impl Mode {
    /// The word for it in the public API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// Credits held for one check until they are settled, cancelled or swept.
#[derive(Clone, Debug, PartialEq)]
pub struct Reservation {
    /// Its id; the billing event's idempotency key is made from it.
    pub id: ReservationId,
    /// The lease that was charged; empty if unknown, and then nothing is refunded.
    pub lease_id: Arc<str>,
    /// Who holds the credits.
    pub mode: Mode,
    /// The company whose credits are held.
    pub company_id: Arc<str>,
    /// The credit type.
    pub credit_type_id: Arc<str>,
    /// The event that a settle bills.
    pub event_subtype: Arc<str>,
    /// The caller's own quantity, in events; may be fractional.
    pub quantity_reserved: f64,
    /// Credits held.
    pub credits_reserved: f64,
    /// Credits for one event.
    pub consumption_rate: f64,
    /// When the hold lapses.
    pub expires_at: Millis,
    /// The company keys of the check.
    pub company: Option<Arc<Keys>>,
    /// The user keys of the check.
    pub user: Option<Arc<Keys>>,
}
