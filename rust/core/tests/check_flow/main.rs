//! What a check and a settle do when a store, the service or the engine fails: the answers that a vector cannot script.

#![allow(
    clippy::expect_used,
    reason = "a flow that is not where a test put it is to stop the test"
)]

mod balances;
mod holds;
mod paths;
mod settlement;
mod store_failures;
mod trace;
