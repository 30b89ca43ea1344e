//! Ids of reservations.
//!
//! No two are the same, in one process or in two; they come from a seed, so that one seed replays a whole run.

use std::{
    fmt,
    hash::BuildHasher,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::hash::HASHER;

/// The name of a reservation, unique among all processes that share a store.
///
/// A slab's reservation has a version 8 UUID that ends in zeros, and a hold that is carved from it one
/// that begins with the same bits: so any process that settles the hold knows which slab it is part
/// of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReservationId {
    /// One made here: a UUID of version 4, or of version 8 for slabs and holds that are carved from them.
    Random(u128),
    /// One from elsewhere that has another format.
    Named(Box<str>),
}

impl ReservationId {
    /// Reads an id; ours are recognised by their spelling.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match parse_uuid(text) {
            Some(id) => Self::Random(id),
            None => Self::Named(text.into()),
        }
    }

    /// The slab that a hold with this name was carved from; `None` if from none.
    #[must_use]
    pub fn slab(&self) -> Option<Self> {
        match self {
            Self::Random(id) if id & VERSION == SLAB_VERSION && id & OWN_BITS != 0 => {
                Some(Self::Random(id & !OWN_BITS))
            }
            _ => None,
        }
    }

    /// Its spelling, if it is a UUID of ours: letters that need no escapes.
    pub(crate) fn uuid(&self) -> Option<[u8; 36]> {
        match self {
            Self::Random(id) => Some(write_uuid(*id)),
            Self::Named(_) => None,
        }
    }

    /// What the names of all holds that are carved from this slab begin with.
    pub(super) fn prefix(&self) -> u64 {
        match self {
            #[allow(clippy::cast_possible_truncation, reason = "the high half")]
            Self::Random(id) => (*id >> 64) as u64,
            Self::Named(name) => HASHER.hash_one(name),
        }
    }

    #[allow(
        clippy::cast_possible_truncation,
        reason = "the low half of a random number"
    )]
    pub(super) fn hash(&self) -> u64 {
        match self {
            Self::Random(id) => *id as u64,
            Self::Named(name) => HASHER.hash_one(name),
        }
    }
}

const VERSION: u128 = 0xf << 76;
const SLAB_VERSION: u128 = 0x8 << 76;
/// The bits after the variant: a hold's own, where it was carved from a slab.
const OWN_BITS: u128 = (1 << 62) - 1;
const VARIANT: u128 = 0x2 << 62;

const HYPHENS: [usize; 4] = [8, 13, 18, 23];
const DIGITS: &[u8; 16] = b"0123456789abcdef";

fn parse_uuid(text: &str) -> Option<u128> {
    let bytes = text.as_bytes();
    if bytes.len() != 36 || HYPHENS.iter().any(|&at| bytes[at] != b'-') {
        return None;
    }
    let mut id = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if HYPHENS.contains(&at) {
            continue;
        }
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            // An upper-case spelling is another id: ours are written in lower case.
            _ => return None,
        };
        id = id << 4 | u128::from(digit);
    }
    Some(id)
}

impl fmt::Display for ReservationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::Random(id) => {
                f.write_str(std::str::from_utf8(&write_uuid(*id)).unwrap_or_default())
            }
        }
    }
}

fn write_uuid(id: u128) -> [u8; 36] {
    // Where the digits of each byte go.
    const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
    let mut text = [b'-'; 36];
    for (byte, at) in id.to_be_bytes().into_iter().zip(PLACES) {
        text[at] = DIGITS[usize::from(byte >> 4)];
        text[at + 1] = DIGITS[usize::from(byte & 0xf)];
    }
    text
}

/// A source of reservation ids: a counter mixed with a secret, so it takes no lock and repeats
/// nothing within a process.
#[derive(Debug)]
pub struct Ids {
    seed: [u64; 2],
    next: AtomicU64,
}

impl Ids {
    /// Two processes that share a store must have different seeds: take them from the system's
    /// randomness.
    #[must_use]
    pub const fn new(seed: [u64; 2]) -> Self {
        Self {
            seed,
            next: AtomicU64::new(0),
        }
    }

    /// The next id.
    pub fn next(&self) -> ReservationId {
        let n = self.count();
        let id = u128::from(self.high(n)) << 64 | u128::from(self.low(n));
        // The version and variant bits of a random UUID.
        let id = id & !VERSION | 4 << 76;
        ReservationId::Random(id & !(0x3 << 62) | VARIANT)
    }

    /// The next id of a slab.
    pub fn next_slab(&self) -> ReservationId {
        let high = u128::from(self.high(self.count())) << 64;
        ReservationId::Random(high & !VERSION | SLAB_VERSION | VARIANT)
    }

    /// The next id of a hold that is carved from the slab with this prefix.
    pub(super) fn next_in(&self, slab: u64) -> ReservationId {
        // An id of zeros only would be the slab's own.
        let own = (u128::from(self.low(self.count())) & OWN_BITS).max(1);
        ReservationId::Random(u128::from(slab) << 64 | VARIANT | own)
    }

    fn count(&self) -> u64 {
        self.next.fetch_add(1, Relaxed)
    }

    fn high(&self, n: u64) -> u64 {
        mix(self.seed[0].wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    fn low(&self, n: u64) -> u64 {
        mix(self.seed[1].wrapping_add(n.wrapping_mul(0xd1b5_4a32_d192_ed03)))
    }
}

/// The finaliser of splitmix64: a bijection under which neighbours look unrelated.
const fn mix(mut z: u64) -> u64 {
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::{Ids, ReservationId};
    use std::collections::HashSet;

    #[test]
    fn an_id_reads_back_as_itself() {
        let ids = Ids::new([7, 11]);
        for _ in 0..100 {
            let id = ids.next();
            let text = id.to_string();
            assert_eq!(text.len(), 36);
            assert_eq!(&text[14..15], "4");
            assert_eq!(ReservationId::parse(&text), id);
        }
    }

    #[test]
    fn the_name_of_a_hold_tells_its_slab_and_no_other_name_does() {
        let ids = Ids::new([7, 11]);
        let (slab, other) = (ids.next_slab(), ids.next_slab());
        let holds: Vec<_> = (0..100).map(|_| ids.next_in(slab.prefix())).collect();
        for hold in &holds {
            let read = ReservationId::parse(&hold.to_string());
            assert_eq!(read.slab().as_ref(), Some(&slab));
        }
        let names: HashSet<_> = holds.iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), holds.len());
        assert_ne!(slab, other);
        for name in [slab, ids.next(), ReservationId::parse("r1")] {
            assert_eq!(name.slab(), None);
        }
    }

    #[test]
    fn a_foreign_spelling_stays_as_it_is() {
        for text in [
            "r1",
            "",
            "ABCDEF01-2345-4789-abcd-ef0123456789",
            "abcdef01_2345-4789-abcd-ef0123456789",
        ] {
            assert_eq!(ReservationId::parse(text).to_string(), text);
        }
    }

    #[test]
    fn ids_do_not_repeat_and_a_seed_replays_them() {
        let (a, b) = (Ids::new([1, 2]), Ids::new([1, 2]));
        let first: Vec<_> = (0..10_000).map(|_| a.next().to_string()).collect();
        let again: Vec<_> = (0..10_000).map(|_| b.next().to_string()).collect();
        assert_eq!(first, again);
        assert_eq!(first.iter().collect::<HashSet<_>>().len(), first.len());
    }
}
