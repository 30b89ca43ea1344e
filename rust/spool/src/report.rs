//! What a spool tells of itself: counts, what is wrong now, and what happened.

use std::sync::atomic::AtomicU64;

/// What the spool has and has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events on disk that the service has not taken.
    pub open: usize,
    /// Those of them that are in no memory queue.
    pub waiting: usize,
    /// Bytes of all segments.
    pub bytes: u64,
    /// Events that found no room, or no disk.
    pub refused: u64,
    /// Events that a dead process left, and that were taken over.
    pub adopted: u64,
    /// Events too old to be sent.
    pub parked: u64,
    /// Records that could not be read.
    pub damaged: u64,
    /// Records that a process was writing when it died.
    pub torn: u64,
}

/// What somebody should know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What is wrong now; `None` if the last event was kept.
    pub fault: Option<String>,
    /// What happened since the last report.
    pub notices: Vec<String>,
}

/// What is counted as it happens.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub refused: AtomicU64,
    pub adopted: AtomicU64,
    pub parked: AtomicU64,
    pub damaged: AtomicU64,
    pub torn: AtomicU64,
}

/// What is told with the next report.
#[derive(Debug, Default)]
pub(crate) struct News {
    pub fault: Option<String>,
    pub notices: Vec<String>,
}
