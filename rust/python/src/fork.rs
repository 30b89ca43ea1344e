//! How often this process is a fork of a process that had the extension loaded.
//!
//! Python's own hooks only run when Python forks. The C library's run whoever forks, and asking costs a load where
//! the process id would cost a system call for each check.

use std::sync::atomic::{AtomicU32, Ordering};

static FORKS: AtomicU32 = AtomicU32::new(0);

#[cfg(unix)]
extern "C" fn count() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    schematic_spool::close_in_child();
}

/// Starts to count.
#[cfg(unix)]
pub(crate) fn watch() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        #[allow(
            unsafe_code,
            reason = "the handler changes atomics and closes files, which is allowed in a forked child"
        )]
        // SAFETY: the handler is a function of this library, which Python never unloads.
        let status = unsafe { libc::pthread_atfork(None, None, Some(count)) };
        // It fails only for want of memory; Python's own hooks remain.
        let _ = status;
    });
}

/// Starts to count; nothing forks here.
#[cfg(not(unix))]
pub(crate) fn watch() {}

/// Forks between the first process and this one, counted from `watch`.
pub(crate) fn forks() -> u32 {
    FORKS.load(Ordering::Relaxed)
}
