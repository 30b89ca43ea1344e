//! Reservations: credits held for one check, and for whom.
//!
//! A reservation does not change once it is made, but for the note that a copy has left the process.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use crate::{
    Millis,
    engine::Terms,
    leases::{ReservationId, SlotKey},
};

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
    /// This process, from a lease.
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

/// A company or a user, as a check named it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Party {
    /// The id of the entity that the keys belong to, if one was found.
    pub id: Option<Arc<str>>,
    /// The keys asked with.
    pub keys: Option<Keys>,
}

impl Party {
    /// A party whose keys name no known entity.
    #[must_use]
    pub fn unknown(keys: &[(&str, &str)]) -> Arc<Self> {
        Arc::new(Self {
            id: None,
            keys: Some(Keys::new(keys)),
        })
    }
}

/// The company and the user that credits are held for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The company whose credits are held.
    pub company: Arc<Party>,
    /// The user of the check.
    pub user: Option<Arc<Party>>,
}

impl Holder {
    /// A holder of which only these are known.
    #[must_use]
    pub fn new(company_id: &str, company: Option<Keys>, user: Option<Keys>) -> Self {
        let party = |id: Option<&str>, keys| {
            Arc::new(Party {
                id: id.map(Into::into),
                keys,
            })
        };
        Self {
            company: party(Some(company_id), company),
            user: user.map(|keys| party(None, Some(keys))),
        }
    }

    /// The company's id.
    #[must_use]
    pub fn company_id(&self) -> &str {
        self.company.id.as_deref().unwrap_or_default()
    }
}

/// Credits held for one check until they are settled, cancelled or swept.
///
/// What all checks of a company have in common is shared: a hold that is made and ended a million
/// times a second counts few references.
#[derive(Clone, Debug, PartialEq)]
pub struct Reservation {
    /// Its id; the billing event's idempotency key is made from it.
    pub id: ReservationId,
    /// The lease that was charged; empty if unknown, and then nothing is refunded.
    pub lease_id: Arc<str>,
    /// Who holds the credits.
    pub mode: Mode,
    /// The company and the user they are held for.
    pub holder: Holder,
    /// The credit type, the event that a settle bills, and the rate.
    pub terms: Arc<Terms>,
    /// The caller's own quantity, in events; may be fractional.
    pub quantity_reserved: f64,
    /// Credits held.
    pub credits_reserved: f64,
    /// When the hold lapses.
    pub expires_at: Millis,
    /// Whether another process may settle it.
    pub exported: Exported,
}

/// Whether a copy of a reservation has left this process, so that another may settle it.
#[derive(Debug, Default)]
pub struct Exported(AtomicBool);

impl Exported {
    /// Notes that a copy has left the process.
    pub fn set(&self) {
        self.0.store(true, Relaxed);
    }

    /// Whether one has left.
    #[must_use]
    pub fn get(&self) -> bool {
        self.0.load(Relaxed)
    }
}

impl Clone for Exported {
    fn clone(&self) -> Self {
        Self(AtomicBool::new(self.get()))
    }
}

impl PartialEq for Exported {
    /// Not compared: whether a copy has left does not change what a reservation is.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Reservation {
    /// The slot whose lease is charged.
    #[must_use]
    pub fn slot(&self) -> SlotKey<'_> {
        SlotKey {
            company_id: self.holder.company_id(),
            credit_type_id: &self.terms.credit_id,
        }
    }

    /// The company keys of the check.
    #[must_use]
    pub fn company(&self) -> Option<&Keys> {
        self.holder.company.keys.as_ref()
    }

    /// The user keys of the check.
    #[must_use]
    pub fn user(&self) -> Option<&Keys> {
        self.holder.user.as_ref()?.keys.as_ref()
    }
}
