//! One hash function for every table that is looked up by text, and comparison without case.

use foldhash::fast::FixedState;
use std::hash::BuildHasher;

/// Fixed, so that a hash computed when an entity arrives fits every table that it meets later.
pub const HASHER: FixedState = FixedState::with_seed(0x5c8e_3a71_d0b4_92f6);

/// The hash of a text as it compares without case.
#[must_use]
pub fn hash_caseless(text: &str) -> u64 {
    let mut buffer = [0_u8; 64];
    let bytes = text.as_bytes();
    if let (true, Some(lower)) = (text.is_ascii(), buffer.get_mut(..bytes.len())) {
        lower.copy_from_slice(bytes);
        lower.make_ascii_lowercase();
        HASHER.hash_one(&*lower)
    } else {
        HASHER.hash_one(text.to_lowercase().as_bytes())
    }
}

/// Whether two texts are the same but for case.
#[must_use]
pub fn same_caseless(a: &str, b: &str) -> bool {
    a == b
        || if a.is_ascii() && b.is_ascii() {
            a.eq_ignore_ascii_case(b)
        } else {
            a.to_lowercase() == b.to_lowercase()
        }
}

#[cfg(test)]
mod tests {
    use super::{hash_caseless, same_caseless};

    #[test]
    fn texts_that_differ_in_case_alone_are_the_same() {
        let long = "A".repeat(100);
        for (a, b) in [
            ("Acme", "aCME"),
            ("ÄRGER", "ärger"),
            ("", ""),
            (long.as_str(), &"a".repeat(100)),
        ] {
            assert!(same_caseless(a, b));
            assert_eq!(hash_caseless(a), hash_caseless(b));
        }
        assert!(!same_caseless("acme", "acne"));
        assert!(!same_caseless("ä", "a"));
    }
}
