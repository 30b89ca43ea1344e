//! The thread of a spool: it syncs, makes the next segment before it is needed, and looks for what others left. It
//! must never hold the spool's lock while it waits for the disk.

use std::{
    sync::{Arc, Weak},
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};

use crate::{shared::Shared, signal::Signal};

/// Between two looks for what dead processes left.
const ADOPTION_PERIOD: Duration = Duration::from_secs(60);

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
