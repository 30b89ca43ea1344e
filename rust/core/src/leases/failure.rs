//! Why credits could not be held, and what a check does then.
//!
//! The words here are part of the public API: reasons and errors repeat them letter by letter.

/// What a check does when credits cannot be held for a reason that is not the customer's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailureMode {
    /// Deny.
    #[default]
    Closed,
    /// Let the rules decide as if credits were unlimited.
    Open,
}

/// Why credits could not be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The usage is not a finite, non-negative number.
    InvalidUsage,
    /// No lease could be had.
    AcquireFailed,
    /// The lease is short and could not be extended by enough.
    InsufficientBalance,
    /// The store failed.
    StoreError,
    /// The engine failed at the gate.
    EngineError,
}

impl Failure {
    /// Every failure, in the order of their numbers.
    pub const ALL: [Self; 5] = [
        Self::InvalidUsage,
        Self::AcquireFailed,
        Self::InsufficientBalance,
        Self::StoreError,
        Self::EngineError,
    ];

    /// The word for it in reasons and errors.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidUsage => "invalid_usage",
            Self::AcquireFailed => "lease_acquire_failed",
            Self::InsufficientBalance => "insufficient_lease_balance",
            Self::StoreError => "lease_store_error",
            Self::EngineError => "engine_error",
        }
    }

    /// The reason of a check that allows without asking the engine.
    #[must_use]
    pub const fn as_fail_open(self) -> &'static str {
        match self {
            Self::InvalidUsage => "invalid_usage_fail_open",
            Self::AcquireFailed => "lease_acquire_failed_fail_open",
            Self::InsufficientBalance => "insufficient_lease_balance_fail_open",
            Self::StoreError => "lease_store_error_fail_open",
            Self::EngineError => "engine_error_fail_open",
        }
    }
}
