//! Strings and maps that borrow from the message.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A string; borrowed unless it has escapes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Text<'a>(Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        from.deserialize_str(TextVisitor)
    }
}

/// A string that is checked to be one but not kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unread;

impl<'de> Deserialize<'de> for Unread {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct UnreadVisitor;

        impl Visitor<'_> for UnreadVisitor {
            type Value = Unread;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
                Ok(Unread)
            }
        }

        from.deserialize_str(UnreadVisitor)
    }
}

/// A map in the order of the message. Of a name that comes twice the last value counts.
#[derive(Debug)]
pub(crate) struct Map<'a, T>(Vec<(Text<'a>, T)>);

impl<T> Default for Map<'_, T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'a, T> Map<'a, T> {
    /// Every pair; where a name comes twice, the one that counts is the later.
    pub fn into_pairs(self) -> Vec<(Text<'a>, T)> {
        self.0
    }

    /// The pairs that count, each where its name came first.
    pub fn into_distinct(self) -> Vec<(Text<'a>, T)> {
        let mut distinct: Vec<(Text<'a>, T)> = Vec::with_capacity(self.0.len());
        let mut places: HashMap<Text<'a>, usize> = HashMap::new();
        for (name, value) in self.0 {
            match places.entry(name.clone()) {
                Entry::Occupied(place) => distinct[*place.get()].1 = value,
                Entry::Vacant(place) => {
                    place.insert(distinct.len());
                    distinct.push((name, value));
                }
            }
        }
        distinct
    }

    pub fn pairs(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }
}

impl<'de: 'a, 'a, T: Deserialize<'de>> Deserialize<'de> for Map<'a, T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct MapVisitor<'a, T>(PhantomData<(&'a (), T)>);

        impl<'de: 'a, 'a, T: Deserialize<'de>> Visitor<'de> for MapVisitor<'a, T> {
            type Value = Map<'a, T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Map(pairs))
            }
        }

        from.deserialize_map(MapVisitor(PhantomData))
    }
}
