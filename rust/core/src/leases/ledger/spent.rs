//! Companies that have just run out of credits, as the service said.
//!
//! Checks of such a company are denied here for some seconds, so that each does not ask the service again. A balance that
//! has risen ends that at once: a top-up must never be kept waiting.

use super::Ledger;
use crate::{
    Millis,
    leases::{Credits, SlotKey},
};

/// The service is asked again about a company without credits after this time.
const SPENT_FOR: Millis = 5000;

/// A refusal by the service for lack of credits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spent {
    /// Checks that cost as much or more are denied.
    cost: Credits,
    /// The company's balance as it was known when the service was asked.
    balance: Option<f64>,
    since: Millis,
    /// Whether it has expired and one check is asking again.
    is_asked: bool,
}

impl Spent {
    fn covers(&self, credits: f64) -> bool {
        Credits::new(credits).is_some_and(|credits| credits >= self.cost)
    }

    fn is_fresh(&self, now: Millis) -> bool {
        // After a clock was set back it counts as old, so that it does not last longer.
        (0..SPENT_FOR).contains(&now.saturating_sub(self.since))
    }

    fn has_risen(&self, balance: Option<f64>) -> bool {
        match (balance, self.balance) {
            (Some(now), Some(then)) => now > then,
            (Some(now), None) => now > 0.0,
            (None, _) => false,
        }
    }

    /// Takes in a balance that has fallen: it may be that of the refusal, pushed late.
    fn lower(&mut self, balance: Option<f64>) {
        if let (Some(now), Some(then)) = (balance, self.balance) {
            self.balance = Some(now.min(then));
        }
    }
}

impl Ledger {
    /// Notes that the service has refused a check's credits because the company has too few.
    ///
    /// `balance` is the company's, as it was known before the service was asked: a top-up that is
    /// pushed meanwhile must count as one.
    pub fn note_spent(&self, key: SlotKey<'_>, cost: f64, balance: Option<f64>, now: Millis) {
        let Some(cost) = Credits::new(cost) else {
            return;
        };
        let (hash, shard) = self.shard(key);
        let mut shard = shard.lock();
        let at = shard.open_slot(hash, key);
        shard.slots[at as usize].spent = Some(Spent {
            cost,
            balance,
            since: now,
            is_asked: false,
        });
    }

    /// Clears that note, after the service was asked again and did not refuse.
    pub fn forget_spent(&self, key: SlotKey<'_>) {
        let (hash, shard) = self.shard(key);
        if let Some(slot) = shard.lock().slot(hash, key) {
            slot.spent = None;
        }
    }

    /// Whether a check is denied without asking the service, which has just refused this much or less.
    ///
    /// A risen balance of the company ends that. After some seconds one check gets `false`, and asks
    /// the service; the others are denied until that is answered.
    pub fn is_spent(
        &self,
        key: SlotKey<'_>,
        credits: f64,
        balance: Option<f64>,
        now: Millis,
    ) -> bool {
        let (hash, shard) = self.shard(key);
        let mut shard = shard.lock();
        let Some(place) = shard.slot(hash, key).map(|slot| &mut slot.spent) else {
            return false;
        };
        let Some(spent) = place.as_mut().filter(|spent| spent.covers(credits)) else {
            return false;
        };
        if spent.has_risen(balance) {
            *place = None;
            return false;
        }
        spent.lower(balance);
        if spent.is_fresh(now) {
            return true;
        }
        spent.since = now;
        spent.is_asked = true;
        false
    }

    /// Whether the service has refused this much or less since the check that asks now was begun, and the
    /// company's balance has not risen since.
    #[must_use]
    pub fn was_refused(
        &self,
        key: SlotKey<'_>,
        credits: f64,
        balance: Option<f64>,
        now: Millis,
    ) -> bool {
        let (hash, shard) = self.shard(key);
        let mut shard = shard.lock();
        let spent = shard.slot(hash, key).and_then(|slot| slot.spent);
        spent.is_some_and(|spent| {
            let is_covered = spent.covers(credits) && !spent.has_risen(balance);
            is_covered && spent.is_fresh(now) && !spent.is_asked
        })
    }
}
