//! Leases and reservations: what may be reserved, by whom, and the order in which it happens.
//!
//! [`Ledger`] owns the state of this process: one slot for each company and credit type, and the
//! table of open holds. [`CheckFlow`] and [`Settlement`] own the order of events: debit, record,
//! gate, keep or cancel; claim, refund, bill. They never touch a store themselves, so the same
//! flow runs against the ledger and against a shared store.
//!
//! Nothing here may spend a credit twice or give one back that was not taken: an amount is exact
//! ([`Credits`]), a hold ends once, and a refund reaches only the lease that was charged.

mod check_flow;
mod credits;
mod debit;
mod failure;
mod ids;
mod knobs;
mod ledger;
mod plan;
mod reservation;
mod settlement;
mod slab;
mod slot_key;
mod step;

pub use check_flow::{CheckFlow, MAX_SAFE_INTEGER};
pub use credits::Credits;
pub use debit::{Debit, Refusal};
pub use failure::{Failure, FailureMode};
pub use ids::{Ids, ReservationId};
pub use knobs::{
    Knobs, LARGEST_LEASE, LEASE_DURATION, LEASE_SIZE, LONGEST_TERM, LOW_WATER_MARK, LeaseKnobs,
    RESERVATION_TTL,
};
pub use ledger::{Installed, LeaseState, Ledger, NewLease, Place};
pub use plan::{AcquirePlan, ExtendPlan, SharedBalance};
pub use reservation::{Exported, Holder, Keys, Mode, Party, Reservation};
pub use settlement::{Settlement, credits_used, valid_quantity, whole_units};
pub use slab::{Lapsed, SlabId, SlabKnobs, SlabLoss, SlabPlan, SlabUse};
pub use slot_key::SlotKey;
pub use step::{Basis, Outcome, Step, StepResult};
