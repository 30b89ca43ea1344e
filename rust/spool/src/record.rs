//! The format of a record, and how the records of a segment are found again after anything has happened to it. It must
//! never trust a length or a mark that no checksum covers further than the segment reaches.
//!
//! A record is a head of 24 bytes, the payload, and zeros up to a multiple of 8:
//!
//! | bytes | |
//! | --- | --- |
//! | 0..4 | [`MAGIC`], stored last: without it there is no record |
//! | 4..8 | CRC-32 of bytes 8..12, bytes 16..24 and the payload |
//! | 8..12 | length of the payload |
//! | 12 | [`WAITING`] or [`DONE`]: the one byte that ever changes |
//! | 16..24 | when it was written, in epoch milliseconds |

use std::ops::Range;

/// No text in UTF-8 has a byte 0xFF, so no payload contains this.
pub(crate) const MAGIC: [u8; 4] = [0xFF, b'S', b'P', 0xFF];
pub(crate) const HEAD: usize = 24;
pub(crate) const MARK: usize = 12;
/// What a record is aligned to.
pub(crate) const STEP: usize = 8;
/// The mark of a record that the service has not taken yet, as far as is known.
pub(crate) const WAITING: u8 = 0;
/// The mark of a record that is settled: any other value is read as [`WAITING`], as sending twice does no harm.
pub(crate) const DONE: u8 = 0x5A;

/// Where a record is, and what its head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub at: usize,
    pub length: usize,
    pub written_at: i64,
    pub is_done: bool,
}

impl Record {
    pub fn payload(&self) -> Range<usize> {
        let start = self.at + HEAD;
        start..start + self.length
    }

    fn end(&self) -> usize {
        self.at + size(self.length)
    }
}

/// What a segment contains.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    pub records: Vec<Record>,
    /// Bytes that were a record once.
    pub damaged: Vec<Range<usize>>,
    /// The start of a record that was never finished.
    pub torn: Option<Range<usize>>,
}

/// The bytes that a record takes.
pub(crate) const fn size(length: usize) -> usize {
    (HEAD + length).next_multiple_of(STEP)
}

/// The head of a record, with its magic.
pub(crate) fn head(length: u32, written_at: i64, payload: &[u8]) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..4].copy_from_slice(&MAGIC);
    head[8..12].copy_from_slice(&length.to_le_bytes());
    head[MARK] = WAITING;
    head[16..].copy_from_slice(&written_at.to_le_bytes());
    let sum = checksum(&head, payload);
    head[4..8].copy_from_slice(&sum.to_le_bytes());
    head
}

fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&head[8..12]);
    sum.update(&head[16..HEAD]);
    sum.update(payload);
    sum.finalize()
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// The record at this place, if there is a whole one.
fn read(bytes: &[u8], at: usize) -> Option<Record> {
    let head = bytes.get(at..at + HEAD)?;
    if head[..4] != MAGIC {
        return None;
    }
    let length = usize::try_from(u32::from_le_bytes(number(head, 8)?)).ok()?;
    let payload = bytes.get(at + HEAD..)?.get(..length)?;
    (checksum(head, payload) == u32::from_le_bytes(number(head, 4)?)).then_some(Record {
        at,
        length,
        written_at: i64::from_le_bytes(number(head, 16)?),
        is_done: head[MARK] == DONE,
    })
}

/// Finds every whole record, whatever is between them.
pub(crate) fn scan(bytes: &[u8]) -> Contents {
    let mut contents = Contents::default();
    let (mut at, mut broken) = (0, None);
    while at < bytes.len() {
        if let Some(record) = read(bytes, at) {
            contents.damaged.extend(trimmed(bytes, broken.take(), at));
            at = record.end();
            contents.records.push(record);
            continue;
        }
        let end = bytes.len().min(at + STEP);
        if broken.is_none() && bytes[at..end].iter().any(|&byte| byte != 0) {
            broken = Some(at);
        }
        at = end;
    }
    if let Some(last) = trimmed(bytes, broken, bytes.len()) {
        // The magic is stored when all else is, so that it tells a record that was damaged since.
        if bytes[last.start..last.end].starts_with(&MAGIC) {
            contents.damaged.push(last);
        } else {
            contents.torn = Some(last);
        }
    }
    contents
}

/// A range without the zeros at its end; they are where nothing was written.
fn trimmed(bytes: &[u8], start: Option<usize>, end: usize) -> Option<Range<usize>> {
    let start = start?;
    let last = bytes[start..end].iter().rposition(|&byte| byte != 0)?;
    Some(start..start + last + 1)
}

#[cfg(test)]
mod tests {
    use super::{Contents, DONE, HEAD, MARK, head, scan, size};
    use proptest::prelude::*;

    fn segment(payloads: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for payload in payloads {
            let start = bytes.len();
            bytes.extend(head(payload.len().try_into().unwrap(), 7, payload));
            bytes.extend(payload);
            bytes.resize(start + size(payload.len()), 0);
        }
        bytes.resize(bytes.len() + 512, 0);
        bytes
    }

    fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec("[ -~]{0,60}".prop_map(String::into_bytes), 1..8)
    }

    fn texts(bytes: &[u8], contents: &Contents) -> Vec<Vec<u8>> {
        let records = contents.records.iter();
        records
            .map(|record| bytes[record.payload()].to_vec())
            .collect()
    }

    proptest! {
        #[test]
        fn every_record_is_found_again(payloads in payloads()) {
            let bytes = segment(&payloads);
            let contents = scan(&bytes);
            prop_assert_eq!(texts(&bytes, &contents), payloads);
            prop_assert!(contents.damaged.is_empty() && contents.torn.is_none());
        }

        #[test]
        fn a_cut_anywhere_costs_only_the_record_it_goes_through(payloads in payloads(), cut: prop::sample::Index) {
            let mut bytes = segment(&payloads);
            let at = cut.index(bytes.len());
            bytes[at..].fill(0);
            let contents = scan(&bytes);
            let found = texts(&bytes, &contents);
            let mut end = 0;
            // A payload that ends in what the cut made is whole all the same.
            let whole = payloads.iter().take_while(|payload| {
                end += size(payload.len());
                end - size(payload.len()) + HEAD + payload.len() <= at
            }).count();
            prop_assert_eq!(&found[..whole], &payloads[..whole]);
            prop_assert!(found.len() <= whole + 1);
        }

        #[test]
        fn a_flipped_bit_costs_only_the_record_it_is_in(
            payloads in payloads(), record: prop::sample::Index, place: prop::sample::Index, bit in 0..8_u8,
        ) {
            let mut bytes = segment(&payloads);
            let hit = record.index(payloads.len());
            let start: usize = payloads[..hit].iter().map(|payload| size(payload.len())).sum();
            let offset = place.index(HEAD + payloads[hit].len());
            bytes[start + offset] ^= 1 << bit;
            let contents = scan(&bytes);
            let mut left = payloads.clone();
            if (MARK..16).contains(&offset) {
                // The mark and what is beside it belong to no checksum.
                prop_assert!(contents.records.iter().all(|record| !record.is_done));
            } else {
                left.remove(hit);
                let told = contents.damaged.len() + usize::from(contents.torn.is_some());
                prop_assert_eq!(told, 1);
            }
            prop_assert_eq!(texts(&bytes, &contents), left);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(prop_oneof![Just(0xFF), Just(b'S'), Just(b'P'), any::<u8>()], 0..400)) {
            let contents = scan(&bytes);
            for range in contents.damaged.into_iter().chain(contents.torn) {
                prop_assert!(range.end <= bytes.len());
            }
        }
    }

    #[test]
    fn a_mark_is_read() {
        let mut bytes = segment(&[b"{}".to_vec()]);
        bytes[MARK] = DONE;
        assert!(scan(&bytes).records[0].is_done);
    }
}
