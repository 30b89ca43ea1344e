//! What a spool is made with.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use crate::machine::Machine;

/// When what was kept is on the medium. The operating system has it at once in each case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// Before the caller goes on.
    Always,
    /// At the latest after this time.
    Every(Duration),
    /// When the operating system writes it back.
    Never,
}

/// What a spool is made with.
pub struct Options {
    /// Where; others may use the same directory for the same account.
    pub directory: PathBuf,
    /// The most that the segments of this process may take.
    pub max_bytes: u64,
    /// When it is on the medium.
    pub fsync: Fsync,
    /// How old an event may be and still be sent, in milliseconds.
    pub longest_wait: i64,
    /// Epoch milliseconds.
    pub clock: Box<dyn Fn() -> i64 + Send + Sync>,
    /// Where it runs.
    pub machine: Arc<dyn Machine>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}
