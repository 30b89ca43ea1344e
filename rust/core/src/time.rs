//! Instants, by the wall clock and by the steady one.
//!
//! No clock is read here: instants are handed in.

/// An instant: milliseconds since the Unix epoch.
pub type Millis = i64;

/// Now, by both clocks.
///
/// Expiry times that others set are by the wall clock, which may step. What only lasts here, such as the life
/// of a slab, is measured by a clock that runs on evenly, from whichever origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the Unix epoch.
    pub wall: Millis,
    /// Milliseconds by the clock that never steps.
    pub steady: Millis,
}

impl From<Millis> for Now {
    /// Where one clock tells both.
    fn from(now: Millis) -> Self {
        Self {
            wall: now,
            steady: now,
        }
    }
}
