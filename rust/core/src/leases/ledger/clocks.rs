//! The two clocks of the ledger, and what a step of the wall clock moves.
//!
//! No clock is read here: both times come in as [`Now`].

use super::Ledger;
use crate::Now;

impl Ledger {
    /// Compares the clocks, and corrects what goes by the wall clock if that has stepped.
    ///
    /// A hold lasts as long as it was meant to, whichever way the clock was set. A lease ends at an
    /// instant that the service named: a clock that was set back must not prolong it, and one that was
    /// set forward has come closer to the service's clock.
    pub fn compare_clocks(&self, now: Now) {
        let ahead = now.wall.saturating_sub(now.steady);
        let step = {
            let mut known = self.wall_ahead.lock();
            let before = *known.get_or_insert(ahead);
            let seconds = ahead.saturating_sub(before) / 1000;
            *known = Some(before.saturating_add(seconds * 1000));
            seconds
        };
        for shard in &self.shards {
            let mut shard = shard.lock();
            if self.knobs.slabs().is_none() {
                shard.holds.compared(step, now.wall);
            }
            if step == 0 {
                continue;
            }
            for slot in &mut shard.slots {
                if let Some(lease) = slot.lease.as_mut().filter(|lease| lease.slab.is_none()) {
                    lease.expires_at = lease.expires_at.saturating_add(step.min(0) * 1000);
                }
            }
        }
    }
}
