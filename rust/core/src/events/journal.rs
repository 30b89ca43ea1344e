//! What keeps billing events until the service has taken them, as the queue sees it. Files are the business of whoever
//! implements it.

use std::num::NonZeroU64;

/// The name of an event that is kept.
pub type Ticket = NonZeroU64;

/// Keeps billing events beyond the life of the process. It is called with no lock of the queue's held.
pub trait Journal: Send + Sync {
    /// Keeps an event, which `write` writes as a JSON object without the API key; `None` if that is not possible.
    fn keep(&self, write: &mut dyn FnMut(&mut Vec<u8>)) -> Option<Ticket>;

    /// Leaves a kept event, of this many bytes, to [`Journal::take_waiting`]: the queue has no room for it.
    fn leave(&self, ticket: Ticket, length: usize);

    /// How many kept events are not in the queue.
    fn waiting(&self) -> usize;

    /// Takes up to so many of those, oldest first.
    fn take_waiting(&self, most: usize) -> Vec<(Ticket, Box<[u8]>)>;

    /// These events need not be kept any longer.
    fn delivered(&self, tickets: &mut dyn Iterator<Item = Ticket>);
}
