//! Events on their way to the capture service.
//!
//! Recording an event is a push onto [`Queue`], whatever the network does. Billing events (track
//! and identify) and analytics (`flag_check`) wait in queues of their own, so that analytics never
//! takes room from billing: a full analytics queue drops what is new, and counts it.

mod event;
mod journal;
mod json;
mod pace;
mod queue;
mod response;

pub use event::{
    Billing, FlagCheck, IdempotencyKey, Identify, Kept, KeptEvent, SettleExtras, Track,
};
pub use journal::{Journal, Ticket};
pub use pace::Pace;
pub use queue::{Batch, MAX_BATCH, Queue, QueueCounts};
pub use response::{Response, ResponseError};
