//! Writes events as JSON objects, field by field. It must never write half a value, and waits for nothing.
//!
//! Every value is followed by a comma, the object itself too: so no field needs to know whether it is the first,
//! and each name is one constant.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::leases::{Keys, ReservationId};

/// The name of a field, as it is written before its value.
macro_rules! field {
    ($name:literal) => {
        concat!("\"", $name, "\":").as_bytes()
    };
}
pub(super) use field;

/// An object that is being written. Fields that are unset are left out.
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Object<'a> {
    /// Begins an object with what was written already: a brace, and fields that end in a comma.
    #[inline]
    pub fn begin(out: &'a mut Vec<u8>, start: &[u8]) -> Self {
        out.extend_from_slice(start);
        Self { out }
    }

    #[inline]
    pub fn object(&mut self, name: &[u8]) -> Object<'_> {
        self.out.extend_from_slice(name);
        Object::begin(self.out, b"{")
    }

    pub fn set<T: Serialize + ?Sized>(&mut self, name: &[u8], value: &T) {
        self.out.extend_from_slice(name);
        write(self.out, value);
        self.out.push(b',');
    }

    #[inline]
    pub fn text(&mut self, name: &[u8], value: &str) {
        self.out.extend_from_slice(name);
        write_text(self.out, value);
        self.out.push(b',');
    }

    #[inline]
    pub fn text_if(&mut self, name: &[u8], value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    pub fn set_if<T: Serialize + ?Sized>(&mut self, name: &[u8], value: Option<&T>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    /// A text that ends in an id.
    #[inline]
    pub fn id(&mut self, name: &[u8], prefix: &str, id: &ReservationId) {
        let Some(uuid) = id.uuid() else {
            return self.set(name, &Displayed(&format_args!("{prefix}{id}")));
        };
        self.out.extend_from_slice(name);
        self.out.push(b'"');
        self.out.extend_from_slice(prefix.as_bytes());
        self.out.extend_from_slice(&uuid);
        self.out.extend_from_slice(b"\",");
    }

    /// Text that is JSON already.
    #[inline]
    pub fn raw_if(&mut self, name: &[u8], json: Option<&str>) {
        if let Some(json) = json {
            self.out.extend_from_slice(name);
            self.out.extend_from_slice(json.as_bytes());
            self.out.push(b',');
        }
    }

    #[inline]
    pub fn keys_if(&mut self, name: &[u8], keys: Option<&Keys>) {
        let Some(keys) = keys else {
            return;
        };
        let object = self.object(name);
        for (name, value) in keys.iter() {
            write_text(object.out, name);
            object.out.push(b':');
            write_text(object.out, value);
            object.out.push(b',');
        }
        object.end();
    }

    #[inline]
    pub fn end(self) {
        match self.out.last_mut() {
            Some(last @ b',') => *last = b'}',
            _ => self.out.push(b'}'),
        }
        self.out.push(b',');
    }
}

/// A text that is written as it is made.
struct Displayed<'a, T: ?Sized>(&'a T);

impl<T: fmt::Display + ?Sized> Serialize for Displayed<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self.0)
    }
}

/// Most texts need no escapes.
#[inline]
pub(super) fn write_text(out: &mut Vec<u8>, text: &str) {
    if needs_escapes(text.as_bytes()) {
        write(out, text);
    } else {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    }
}

/// Whether JSON escapes any of the letters, which are looked at eight at a time.
#[inline]
fn needs_escapes(text: &[u8]) -> bool {
    let mut found = 0;
    let mut rest = text;
    while let Some((eight, others)) = rest.split_first_chunk() {
        found |= escaped_of(u64::from_ne_bytes(*eight));
        rest = others;
    }
    found != 0 || rest.iter().any(|&letter| is_escaped(letter))
}

const fn is_escaped(letter: u8) -> bool {
    letter < b' ' || letter == b'"' || letter == b'\\'
}

/// Not 0 if one of eight letters is escaped.
#[inline]
fn escaped_of(letters: u64) -> u64 {
    let differing = |letter: u8| letters ^ (EACH * u64::from(letter));
    less_than(letters, b' ') | less_than(differing(b'"'), 1) | less_than(differing(b'\\'), 1)
}

/// A byte of 1 in each of eight places.
const EACH: u64 = u64::MAX / 0xff;

/// Not 0 if one of eight bytes is less than this one, which is at most 128: then the subtraction sets the highest bit
/// of a byte that did not have it.
#[inline]
fn less_than(bytes: u64, limit: u8) -> u64 {
    bytes.wrapping_sub(EACH * u64::from(limit)) & !bytes & (EACH * 0x80)
}

pub(super) fn write<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    let start = out.len();
    // Texts, numbers and truth values go into memory, which cannot fail; were it to, the field
    // would be null rather than half written.
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.truncate(start);
        out.extend_from_slice(b"null");
    }
}

#[cfg(test)]
mod tests {
    use super::{Object, write_text};
    use crate::leases::{Ids, Keys, ReservationId};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_text_is_written_as_json_has_it(
            text in prop_oneof![".*", "[a-z]{0,40}", "[\\x00-\\x7f]{0,40}", "[a-z]{0,20}[\\x00-\\x7f\u{80}-\u{ff}][a-z]{0,20}"],
        ) {
            let mut out = b"before".to_vec();
            write_text(&mut out, &text);
            prop_assert_eq!(&out[6..], serde_json::to_vec(&text).unwrap());
        }
    }

    #[test]
    fn an_object_is_json_however_many_fields_it_has() {
        let ids = [Ids::new([1, 2]).next(), ReservationId::parse("a \"name\"")];
        for id in ids {
            let mut out = Vec::new();
            let mut object = Object::begin(&mut out, b"{");
            object.keys_if(field!("none"), Some(&Keys::default()));
            object.keys_if(field!("two"), Some(&Keys::new(&[("a", "1"), ("b", "\n")])));
            object.id(field!("id"), "key:", &id);
            object.raw_if(field!("raw"), Some("[1]"));
            object.object(field!("empty")).end();
            object.end();
            assert_eq!(out.pop(), Some(b','));
            let read: serde_json::Value = serde_json::from_slice(&out).unwrap();
            let whole = serde_json::json!({
                "none": {}, "two": {"a": "1", "b": "\n"}, "id": format!("key:{id}"), "raw": [1], "empty": {},
            });
            assert_eq!(read, whole);
        }
    }
}
