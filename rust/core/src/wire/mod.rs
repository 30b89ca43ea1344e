//! From messages to compiled entities, and from verdicts to result JSON.
//!
//! A message is read whole or not at all: one that cannot be read is an error that says where, and nothing is
//! made of its readable part. Only a list of flags is read one element at a time. What a newer server
//! may send without harm is read as something that never matches; `docs/engine.md` lists those cases.

mod compile;
mod merge;
#[allow(
    dead_code,
    clippy::option_option,
    clippy::struct_field_names,
    reason = "the wire names its fields; some are only there to be refused, and null differs from absent"
)]
mod models;
mod result;
mod text;

use std::{hash::BuildHasher, str::Utf8Error};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    engine::{Company, Flag, User},
    hash::HASHER,
};
pub use result::{check_flag_json, check_flags_json};

/// Why a message cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Not text.
    #[error("{what} is not UTF-8: {source}")]
    Utf8 {
        /// What was to be read.
        what: &'static str,
        /// Where it breaks.
        source: Utf8Error,
    },
    /// Not JSON, or not the JSON of what it should be.
    #[error("{what} cannot be read: {source}")]
    Json {
        /// What was to be read.
        what: &'static str,
        /// What is wrong, and where.
        source: serde_json::Error,
    },
    /// A partial update of another entity.
    #[error("{what} is about {found:?}, not {expected:?}")]
    OtherEntity {
        /// What was to be read.
        what: &'static str,
        /// The id in the message.
        found: String,
        /// The id of the entity that was to be updated.
        expected: String,
    },
}

/// Reads a flag.
///
/// # Errors
/// The message is not a whole flag.
pub fn parse_flag(message: &[u8]) -> Result<Flag, WireError> {
    read("flag", message)
        .map(|flag| compile::flag(&flag).with_fingerprint(HASHER.hash_one(message)))
}

/// Reads a list of flags, and says in a sentence each which elements of it cannot be read.
///
/// # Errors
/// The message is not a list.
pub fn parse_flags(message: &[u8]) -> Result<(Vec<Flag>, Vec<String>), WireError> {
    let elements: Option<Vec<&RawValue>> = read("list of flags", message)?;
    let mut flags = Vec::new();
    let mut skipped = Vec::new();
    for (position, element) in elements.unwrap_or_default().into_iter().enumerate() {
        match parse_flag(element.get().as_bytes()) {
            Ok(flag) => flags.push(flag),
            Err(error) => skipped.push(format!("flag {position} of the list is skipped: {error}")),
        }
    }
    Ok((flags, skipped))
}

/// Reads a company.
///
/// # Errors
/// The message is not a whole company.
pub fn parse_company(message: &[u8]) -> Result<Company, WireError> {
    read("company", message).map(compile::company)
}

/// Reads a user.
///
/// # Errors
/// The message is not a whole user.
pub fn parse_user(message: &[u8]) -> Result<User, WireError> {
    read("user", message).map(compile::user)
}

/// The whole message is checked to be UTF-8, including the parts that are skipped.
fn read<'a, T: Deserialize<'a>>(what: &'static str, message: &'a [u8]) -> Result<T, WireError> {
    let text = std::str::from_utf8(message).map_err(|source| WireError::Utf8 { what, source })?;
    serde_json::from_str(text).map_err(|source| WireError::Json { what, source })
}
