//! The thread of a spool: it syncs, makes the next segment before it is needed, and looks for what others left. It
//! must never hold the spool's lock while it waits for the disk.

use std::{
    sync::{Arc, Weak},
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use crate::shared::Shared;

/// Between two looks for what dead processes left.
const ADOPTION_PERIOD: Duration = Duration::from_secs(60);

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
    fn wait(&self, until: Instant) -> bool {
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

/// Starts the thread; without one, syncs and new segments are the callers' work.
pub(crate) fn start(shared: &Arc<Shared>) -> Option<JoinHandle<()>> {
    let (signal, weak) = (Arc::clone(&shared.signal), Arc::downgrade(shared));
    let thread = Builder::new().name("schematic-native spool".into());
    thread.spawn(move || run(&signal, &weak)).ok()
}

fn run(signal: &Signal, shared: &Weak<Shared>) {
    let mut adopt_at = Instant::now();
    loop {
        let Some(shared) = shared.upgrade() else {
            return;
        };
        if Instant::now() >= adopt_at {
            shared.adopt();
            adopt_at = Instant::now() + ADOPTION_PERIOD;
        }
        shared.make_spare();
        shared.sync_if_timed();
        let until = adopt_at.min(Instant::now() + shared.period());
        drop(shared);
        if !signal.wait(until) {
            return;
        }
    }
}
