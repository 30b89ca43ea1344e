//! One hash function for every table that is looked up by text, and comparison without case.

use foldhash::fast::FixedState;
use std::hash::BuildHasher;

/// Fixed, so that a hash computed when an entity arrives fits every table that it meets later.
pub const HASHER: FixedState = FixedState::with_seed(0x5c8e_3a71_d0b4_92f6);

/// The hash of a text as it compares without case.
#[must_use]
pub fn hash_caseless(text: &str) -> u64 {
    hash_ascii(text.as_bytes()).unwrap_or_else(|| {
        let lower = text.to_lowercase();
        // What is left in upper case has no lower one; an ASCII result hashes as if typed so.
        hash_ascii(lower.as_bytes()).unwrap_or_else(|| HASHER.hash_one(lower.as_bytes()))
    })
}

/// The same for a text all in ASCII, eight letters at a time; `None` for others.
fn hash_ascii(bytes: &[u8]) -> Option<u64> {
    const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
    let (mut seen, mut hash) = (0, CASELESS_SEED);
    let mut add = |word: u64| {
        seen |= word;
        hash = fold(hash ^ lower(word));
    };
    let mut rest = bytes;
    while let Some((word, next)) = rest.split_first_chunk() {
        add(u64::from_le_bytes(*word));
        rest = next;
    }
    if let Some(word) = bytes.last_chunk().filter(|_| !rest.is_empty()) {
        // The last word overlaps the one before it, which the length tells apart.
        add(u64::from_le_bytes(*word));
    } else if !rest.is_empty() {
        add(short(rest));
    }
    (seen & HIGH_BITS == 0).then(|| fold(hash ^ bytes.len() as u64))
}

const CASELESS_SEED: u64 = 0x243f_6a88_85a3_08d3;

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_lossless,
    reason = "the two halves; a constant function cannot convert otherwise"
)]
/// Both halves of a product with an odd constant, together: each bit reaches all others.
const fn fold(word: u64) -> u64 {
    let product = word as u128 * 0x9e37_79b9_7f4a_7c15;
    product as u64 ^ (product >> 64) as u64
}

/// One to seven bytes as a word, in which each byte has a part.
fn short(bytes: &[u8]) -> u64 {
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32;
    }
    let [Some(first), Some(middle), Some(last)] =
        [0, bytes.len() / 2, bytes.len().wrapping_sub(1)].map(|at| bytes.get(at).copied())
    else {
        return 0;
    };
    u64::from(first) | u64::from(middle) << 8 | u64::from(last) << 16
}

/// Eight ASCII letters in lower case.
const fn lower(word: u64) -> u64 {
    const fn each(byte: u8) -> u64 {
        u64::from_le_bytes([byte; 8])
    }
    let low_bits = word & each(0x7f);
    let from_a = low_bits + each(0x80 - b'A');
    let beyond_z = low_bits + each(0x7f - b'Z');
    // The high bit of a byte is set in just one of the two for a letter from A to Z.
    let is_upper = (from_a ^ beyond_z) & !word & each(0x80);
    word | is_upper >> 2
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
    use super::{hash_caseless, lower, same_caseless};

    #[test]
    fn texts_that_differ_in_case_alone_are_the_same() {
        let long = "A".repeat(100);
        for (a, b) in [
            ("Acme", "aCME"),
            ("ÄRGER", "ärger"),
            ("", ""),
            (long.as_str(), &"a".repeat(100)),
            // The sign for kelvin is no ASCII, but its lower case is.
            ("ID-\u{212a}", "id-k"),
            ("company_Id", "COMPANY_iD"),
        ] {
            assert!(same_caseless(a, b));
            assert_eq!(hash_caseless(a), hash_caseless(b));
        }
        assert!(!same_caseless("acme", "acne"));
        assert!(!same_caseless("[]^_`{|}", "{}~\u{7f}@[\\]"));
        assert!(!same_caseless("ä", "a"));
    }

    #[test]
    fn every_length_and_every_byte_has_a_hash_of_its_own() {
        let text = "abcdefghijklmnopqrstuvwxyz012345";
        let starts = (0..text.len()).map(|end| text[..end].to_owned());
        let changed = (0..text.len()).map(|at| format!("{}_{}", &text[..at], &text[at + 1..]));
        let mut seen: Vec<u64> = starts
            .chain(changed)
            .map(|text| hash_caseless(&text))
            .collect();
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), count);
    }

    #[test]
    fn letters_alone_have_a_lower_case() {
        for byte in 0..=0x7f_u8 {
            let [found, ..] = lower(u64::from(byte)).to_le_bytes();
            assert_eq!(found, byte.to_ascii_lowercase());
        }
    }
}
