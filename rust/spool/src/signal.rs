//! How callers reach the thread of a spool. Reaching it never waits for what it does.

use std::time::Instant;

use parking_lot::{Condvar, Mutex};

/// How the spool reaches its thread.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_wanted: bool,
    is_over: bool,
}

impl Signal {
    /// Has the thread make a segment now.
    pub fn wake(&self) {
        self.state.lock().is_wanted = true;
        self.changed.notify_one();
    }

    /// Ends the thread, without waiting for it.
    pub fn end(&self) {
        self.state.lock().is_over = true;
        self.changed.notify_one();
    }

    /// Waits until then, or for a wake-up; returns whether the thread is to go on.
    pub fn wait(&self, until: Instant) -> bool {
        let mut state = self.state.lock();
        while !state.is_wanted && !state.is_over {
            if self.changed.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        state.is_wanted = false;
        !state.is_over
    }
}
