//! Events, and how the capture service reads them.
//!
//! A billing event carries an idempotency key that does not change between attempts.

use std::{fmt, sync::Arc};

use serde::{Serialize, Serializer};

use super::journal::Ticket;
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

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(key) => f.write_str(key),
            Self::Own(id) => write!(f, "event:{id}"),
        }
    }
}

impl Serialize for IdempotencyKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
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

/// A text that is written as it is made.
struct Displayed<'a, T: ?Sized>(&'a T);

impl<T: fmt::Display + ?Sized> Serialize for Displayed<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self.0)
    }
}

/// Writes JSON objects field by field; fields that are unset are left out.
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> Object<'a> {
    pub fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    fn name(&mut self, name: &str) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        // Names are ours, and need no escapes.
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    fn set<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) {
        write(self.name(name), value);
    }

    fn text(&mut self, name: &str, value: &str) {
        write_text(self.name(name), value);
    }

    fn text_if(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    fn set_if<T: Serialize + ?Sized>(&mut self, name: &str, value: Option<&T>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    /// Text that is JSON already.
    fn raw_if(&mut self, name: &str, json: Option<&str>) {
        if let Some(json) = json {
            self.name(name).extend_from_slice(json.as_bytes());
        }
    }

    fn keys_if(&mut self, name: &str, keys: Option<&Keys>) {
        let Some(keys) = keys else {
            return;
        };
        let out = self.name(name);
        for (at, (name, value)) in keys.iter().enumerate() {
            out.push(if at == 0 { b'{' } else { b',' });
            write_text(out, name);
            out.push(b':');
            write_text(out, value);
        }
        if keys.iter().next().is_none() {
            out.push(b'{');
        }
        out.push(b'}');
    }

    fn end(self) {
        self.out.push(b'}');
    }
}

/// Most texts need no escapes, which is found out many letters at a time.
fn write_text(out: &mut Vec<u8>, text: &str) {
    let odd = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    if text.bytes().fold(false, |any, byte| any | odd(byte)) {
        write(out, text);
    } else {
        out.reserve(text.len() + 2);
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    }
}

fn write<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    let start = out.len();
    // Texts, numbers and truth values go into memory, which cannot fail; were it to, the field
    // would be null rather than half written.
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.truncate(start);
        out.extend_from_slice(b"null");
    }
}

impl Billing {
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
    out.push(b',');
    out.extend_from_slice(object.get(1..).unwrap_or_default());
}

/// In place of the API key's field where there is none.
const KEYLESS: &[u8] = b"{";

/// The field of the API key that each event begins with; made once, as it is the same in all.
pub(super) fn key_field(api_key: &str) -> Box<[u8]> {
    let mut field = b"{\"api_key\":".to_vec();
    write(&mut field, api_key);
    field.into()
}

fn begin<'a>(out: &'a mut Vec<u8>, key_field: &[u8], kind: &str) -> Object<'a> {
    out.extend_from_slice(key_field);
    let empty = key_field == KEYLESS;
    let mut event = Object { out, empty };
    event.text("type", kind);
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
    let mut body = Object::begin(event.name("body"));
    body.text("event", &reservation.terms.event_subtype);
    body.keys_if("company", reservation.company());
    body.keys_if("user", reservation.user());
    body.set("quantity", &quantity);
    body.raw_if("traits", extras.and_then(|extras| extras.traits.as_deref()));
    match reservation.mode {
        Mode::Client => body.text("lease_id", &reservation.lease_id),
        Mode::Server => body.set("reservation_id", &Displayed(&reservation.id)),
    }
    body.end();
    match extras.and_then(|extras| extras.key.as_deref()) {
        Some(key) => event.set("idempotency_key", key),
        None => event.set(
            "idempotency_key",
            &Displayed(&format_args!("lease-reservation:{}", reservation.id)),
        ),
    }
    event.end();
}

impl Track {
    fn write(&self, key_field: &[u8], out: &mut Vec<u8>) {
        let mut event = begin(out, key_field, "track");
        let mut body = Object::begin(event.name("body"));
        body.text("event", &self.event);
        body.keys_if("company", self.company.as_ref());
        body.keys_if("user", self.user.as_ref());
        body.set_if("quantity", self.quantity.as_ref());
        body.raw_if("traits", self.traits.as_deref());
        body.end();
        event.set_if("idempotency_key", self.idempotency_key.as_ref());
        event.text_if("sent_at", self.sent_at.as_deref());
        event.set_if("trusted_client_clock", self.trusted_client_clock.as_ref());
        event.set_if("backfill", self.backfill.as_ref());
        event.end();
    }
}

impl Identify {
    fn write(&self, key_field: &[u8], out: &mut Vec<u8>) {
        let mut event = begin(out, key_field, "identify");
        let mut body = Object::begin(event.name("body"));
        body.keys_if("keys", Some(&self.keys));
        body.raw_if("company", self.company.as_deref());
        body.text_if("name", self.name.as_deref());
        body.raw_if("traits", self.traits.as_deref());
        body.end();
        event.set_if("idempotency_key", self.idempotency_key.as_ref());
        event.end();
    }
}

impl FlagCheck {
    pub(super) fn write<'a>(&'a self, key_field: &[u8], out: &mut Vec<u8>) {
        let mut event = begin(out, key_field, "flag_check");
        let mut body = Object::begin(event.name("body"));
        let rule = self.reason.rule();
        let (company, user) = (self.company.as_deref(), self.user.as_deref());
        let id = |party: Option<&'a Party>| party?.id.as_deref();
        let keys = |party: Option<&'a Party>| party?.keys.as_ref();
        body.text("flag_key", &self.flag.key);
        body.set("value", &self.value);
        body.text("reason", &self.reason);
        body.text_if("flag_id", self.flag.id.as_deref());
        body.text_if("rule_id", rule.map(|rule| &*rule.id));
        body.text_if("company_id", id(company));
        body.text_if("user_id", id(user));
        body.keys_if("req_company", keys(company));
        body.keys_if("req_user", keys(user));
        body.text_if("error", self.error.as_deref());
        if self.preflight {
            body.set("preflight", &true);
        }
        body.end();
        event.end();
    }
}

#[cfg(test)]
mod tests {
    use super::write_text;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_text_is_written_as_json_has_it(text in prop_oneof![".*", "[a-z]{0,40}", "[\\x00-\\x7f]{0,40}"]) {
            let mut out = b"before".to_vec();
            write_text(&mut out, &text);
            prop_assert_eq!(&out[6..], serde_json::to_vec(&text).unwrap());
        }
    }
}
