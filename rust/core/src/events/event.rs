//! Events, and how the capture service reads them.
//!
//! A billing event carries an idempotency key that does not change between attempts.

use std::sync::Arc;

use super::{
    journal::Ticket,
    json::{Object, field, write_text},
};
use crate::{
    engine::{FlagName, KeptReason},
    leases::{Keys, Mode, Party, Reservation, ReservationId},
    text::Text,
};

/// An event that must arrive.
#[derive(Clone, Debug)]
pub enum Billing {
    /// Usage that a program reported by itself.
    Track(Box<Track>),
    /// Usage that settles a reservation.
    Settle {
        /// What is settled.
        reservation: Arc<Reservation>,
        /// Whole units used.
        quantity: i64,
        /// What few settles have.
        extras: Option<Box<SettleExtras>>,
    },
    /// An identify event: who a company or user is.
    Identify(Box<Identify>),
    /// One of those that a journal keeps, too.
    Kept(Box<Kept>),
}

/// An event that a journal keeps.
#[derive(Clone, Debug)]
pub struct Kept {
    /// What the journal knows it by.
    pub ticket: Ticket,
    /// The event, as far as this process has it.
    pub event: KeptEvent,
}

/// What this process has of a kept event.
#[derive(Clone, Debug)]
pub enum KeptEvent {
    /// The event itself, which is none that is kept.
    Queued(Billing),
    /// What the journal has: a JSON object without the API key.
    Written(Box<[u8]>),
}

/// What few settles have.
#[derive(Clone, Debug)]
pub struct SettleExtras {
    /// A JSON object.
    traits: Option<Box<str>>,
    /// A key in place of the one that is made from the reservation's id.
    key: Option<Box<str>>,
}

impl SettleExtras {
    /// `None` if there are none.
    #[must_use]
    pub fn of(traits: Option<&str>, key: Option<&str>) -> Option<Box<Self>> {
        (traits.is_some() || key.is_some()).then(|| {
            Box::new(Self {
                traits: traits.map(Into::into),
                key: key.map(Into::into),
            })
        })
    }
}

/// The key by which the service recognises a repeated event. It is written out with the batch, not when the event
/// is queued.
#[derive(Clone, Debug)]
pub enum IdempotencyKey {
    /// The caller's.
    Given(Box<str>),
    /// A unique key, from the source of reservation ids.
    Own(ReservationId),
}

impl IdempotencyKey {
    /// The caller's key; an empty one is none.
    #[must_use]
    pub fn given(key: Option<&str>) -> Option<Self> {
        let key = key.filter(|key| !key.is_empty())?;
        Some(Self::Given(key.into()))
    }
}

impl IdempotencyKey {
    fn write(&self, event: &mut Object<'_>) {
        match self {
            Self::Given(key) => event.text(field!("idempotency_key"), key),
            Self::Own(id) => event.id(field!("idempotency_key"), "event:", id),
        }
    }
}

/// Usage that a program reported by itself.
#[derive(Clone, Debug, Default)]
pub struct Track {
    /// The event's name.
    pub event: Box<str>,
    /// Company keys.
    pub company: Option<Keys>,
    /// User keys.
    pub user: Option<Keys>,
    /// Units; the service counts one where none is given.
    pub quantity: Option<i64>,
    /// A JSON object.
    pub traits: Option<Box<str>>,
    /// Repeats of it are dropped by the service.
    pub idempotency_key: Option<IdempotencyKey>,
    /// RFC 3339.
    pub sent_at: Option<Box<str>>,
    /// Whether the service may trust `sent_at`.
    pub trusted_client_clock: Option<bool>,
    /// Whether the usage is from the past.
    pub backfill: Option<bool>,
}

/// An identify event: who a company or user is.
#[derive(Clone, Debug, Default)]
pub struct Identify {
    /// User keys.
    pub keys: Keys,
    /// A JSON object `{keys, name?, traits?}`.
    pub company: Option<Box<str>>,
    /// The user's name.
    pub name: Option<Box<str>>,
    /// A JSON object.
    pub traits: Option<Box<str>>,
    /// Repeats of it are dropped by the service.
    pub idempotency_key: Option<IdempotencyKey>,
}

/// The record of one flag check.
#[derive(Clone, Debug)]
pub struct FlagCheck {
    /// The flag, by its key as the caller spelled it or as the flag has it.
    pub flag: Arc<FlagName>,
    /// The answer.
    pub value: bool,
    /// Why, and the rule that matched.
    pub reason: KeptReason,
    /// The company asked for, and found.
    pub company: Option<Arc<Party>>,
    /// The user asked for, and found.
    pub user: Option<Arc<Party>>,
    /// What went wrong.
    pub error: Option<Text>,
    /// Whether the check came with usage.
    pub preflight: bool,
}

impl Billing {
    /// Writes the event and a comma.
    pub(super) fn write(&self, key_field: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Track(track) => track.write(key_field, out),
            Self::Settle {
                reservation,
                quantity,
                extras,
            } => write_settle(reservation, *quantity, extras.as_deref(), key_field, out),
            Self::Identify(identify) => identify.write(key_field, out),
            Self::Kept(kept) => match &kept.event {
                KeptEvent::Queued(event) => event.write(key_field, out),
                KeptEvent::Written(object) => write_object(object, key_field, out),
            },
        }
    }

    /// Writes the event as a JSON object without the API key.
    pub(super) fn write_keyless(&self, out: &mut Vec<u8>) {
        self.write(KEYLESS, out);
        out.pop();
    }

    /// What a journal knows it by, if one keeps it.
    pub(super) fn ticket(&self) -> Option<Ticket> {
        match self {
            Self::Kept(kept) => Some(kept.ticket),
            _ => None,
        }
    }
}

/// Adds the API key to an object that was written without it.
fn write_object(object: &[u8], key_field: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(key_field);
    out.extend_from_slice(object.get(1..).unwrap_or_default());
    out.push(b',');
}

/// How an event begins that has no API key.
const KEYLESS: &[u8] = b"{";

/// How each event begins: with the field of the API key, made once, as it is the same in all.
pub(super) fn key_field(api_key: &str) -> Box<[u8]> {
    let mut start = b"{\"api_key\":".to_vec();
    write_text(&mut start, api_key);
    start.push(b',');
    start.into()
}

fn begin<'a>(out: &'a mut Vec<u8>, key_field: &[u8], kind: &str) -> Object<'a> {
    let mut event = Object::begin(out, key_field);
    event.text(field!("type"), kind);
    event
}

fn write_settle(
    reservation: &Reservation,
    quantity: i64,
    extras: Option<&SettleExtras>,
    key_field: &[u8],
    out: &mut Vec<u8>,
) {
    let mut event = begin(out, key_field, "track");
    let mut body = event.object(field!("body"));
    body.text(field!("event"), &reservation.terms.event_subtype);
    body.keys_if(field!("company"), reservation.company());
    body.keys_if(field!("user"), reservation.user());
    body.set(field!("quantity"), &quantity);
    body.raw_if(
        field!("traits"),
        extras.and_then(|extras| extras.traits.as_deref()),
    );
    match reservation.mode {
        Mode::Client => body.text(field!("lease_id"), &reservation.lease_id),
        Mode::Server => body.id(field!("reservation_id"), "", &reservation.id),
    }
    body.end();
    match extras.and_then(|extras| extras.key.as_deref()) {
        Some(key) => event.text(field!("idempotency_key"), key),
        None => event.id(
            field!("idempotency_key"),
            "lease-reservation:",
            &reservation.id,
        ),
    }
    event.end();
}

impl Track {
    fn write(&self, key_field: &[u8], out: &mut Vec<u8>) {
        let mut event = begin(out, key_field, "track");
        let mut body = event.object(field!("body"));
        body.text(field!("event"), &self.event);
        body.keys_if(field!("company"), self.company.as_ref());
        body.keys_if(field!("user"), self.user.as_ref());
        body.set_if(field!("quantity"), self.quantity.as_ref());
        body.raw_if(field!("traits"), self.traits.as_deref());
        body.end();
        if let Some(key) = &self.idempotency_key {
            key.write(&mut event);
        }
        event.text_if(field!("sent_at"), self.sent_at.as_deref());
        event.set_if(
            field!("trusted_client_clock"),
            self.trusted_client_clock.as_ref(),
        );
        event.set_if(field!("backfill"), self.backfill.as_ref());
        event.end();
    }
}

impl Identify {
    fn write(&self, key_field: &[u8], out: &mut Vec<u8>) {
        let mut event = begin(out, key_field, "identify");
        let mut body = event.object(field!("body"));
        body.keys_if(field!("keys"), Some(&self.keys));
        body.raw_if(field!("company"), self.company.as_deref());
        body.text_if(field!("name"), self.name.as_deref());
        body.raw_if(field!("traits"), self.traits.as_deref());
        body.end();
        if let Some(key) = &self.idempotency_key {
            key.write(&mut event);
        }
        event.end();
    }
}

impl FlagCheck {
    pub(super) fn write<'a>(&'a self, key_field: &[u8], out: &mut Vec<u8>) {
        let mut event = begin(out, key_field, "flag_check");
        let mut body = event.object(field!("body"));
        let rule = self.reason.rule();
        let (company, user) = (self.company.as_deref(), self.user.as_deref());
        let id = |party: Option<&'a Party>| party?.id.as_deref();
        let keys = |party: Option<&'a Party>| party?.keys.as_ref();
        body.text(field!("flag_key"), &self.flag.key);
        body.set(field!("value"), &self.value);
        body.text(field!("reason"), &self.reason);
        body.text_if(field!("flag_id"), self.flag.id.as_deref());
        body.text_if(field!("rule_id"), rule.map(|rule| &*rule.id));
        body.text_if(field!("company_id"), id(company));
        body.text_if(field!("user_id"), id(user));
        body.keys_if(field!("req_company"), keys(company));
        body.keys_if(field!("req_user"), keys(user));
        body.text_if(field!("error"), self.error.as_deref());
        if self.preflight {
            body.set(field!("preflight"), &true);
        }
        body.end();
        event.end();
    }
}
