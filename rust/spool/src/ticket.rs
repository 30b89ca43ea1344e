//! The name of a record as long as its spool is open: segment and place.

/// A record that the spool keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

impl Ticket {
    pub(crate) const fn new(number: u32, at: u32) -> Self {
        Self(((number as u64) << 32) | at as u64)
    }

    #[allow(clippy::cast_possible_truncation, reason = "the two halves of it")]
    pub(crate) const fn place(self) -> (u32, usize) {
        ((self.0 >> 32) as u32, self.0 as u32 as usize)
    }

    /// As a number, which is never 0.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The ticket with this number.
    #[must_use]
    pub const fn of(number: u64) -> Self {
        Self(number)
    }
}
