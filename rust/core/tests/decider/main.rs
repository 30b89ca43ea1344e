//! The decider from end to end: entities off the wire, the engine, the ledger and the events.

#![allow(
    clippy::expect_used,
    reason = "a decider that is not where a test put it is to stop the test"
)]

mod gate;
mod holds;
mod settles;
mod shared_store;
mod studio;
mod waits;
mod without_lease;
