//! Every decision that one process takes, and the state it decides from.
//!
//! [`Decider`] joins the cache, the engine, the ledger and the event queue. A call that finds all it needs in memory
//! answers at once; a lease-backed check that must wait becomes a [`Pending`] check, which the caller resumes with a
//! [`Reply`]. Nothing here waits, reads a clock or opens a connection.

mod answer;
mod flag_check;
mod judgement;
mod lease_check;
mod owed_claims;
mod request;
mod settle;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

pub use answer::{CheckAnswer, FlagAnswer, Usage};
pub use flag_check::Missing;
pub use judgement::{Engine, EngineRequest, Judgement};
pub use lease_check::{Need, Pending, Progress, Reply};
pub use owed_claims::OwedClaim;
pub use request::{CheckRequest, FlagRequest};

use crate::{
    Millis,
    cache::Cache,
    engine::Terms,
    events::{Batch, Journal, Queue},
    leases::{Exported, Failure, Holder, Ids, Knobs, Ledger, Mode, Reservation, SlotKey},
};

/// The event name in the reservation of a slab, which is never billed itself.
const SLAB_EVENT: &str = "schematic_native.slab";

/// Work that the owner of the decider must do in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// A full batch of events waits.
    Events,
    /// A lease is at or below its low-water mark.
    Extend,
}

/// The waker: called, with no lock held, when a topic needs attention, and not again until it was attended to.
pub type Wake = Box<dyn Fn(Topic) + Send + Sync>;

/// What a decider is made with.
pub struct DeciderSettings {
    /// Goes out with every event.
    pub api_key: String,
    /// Companies cached at most.
    pub max_companies: usize,
    /// Users cached at most.
    pub max_users: usize,
    /// Track and identify events that may wait.
    pub max_billing_events: usize,
    /// Flag checks that may wait.
    pub max_flag_check_events: usize,
    /// The sizes, durations and limits of leases.
    pub knobs: Knobs,
    /// The seed of reservation ids, from the randomness of the operating system.
    pub seed: [u64; 2],
    /// Wakes the owner of the decider.
    pub wake: Wake,
    /// Whether leases live in a store that other processes share.
    pub shared: bool,
    /// Who answers lease-backed checks; `None` is the rules engine.
    pub engine: Option<Box<dyn Engine>>,
    /// Keeps billing events beyond the life of the process.
    pub journal: Option<Box<dyn Journal>>,
}

/// The state of one process: what it knows of the service, its leases and its events.
pub struct Decider {
    cache: Cache,
    ledger: Ledger,
    events: Queue,
    owed: owed_claims::OwedClaims,
    ids: Ids,
    wake: Wake,
    shared: bool,
    engine: Option<Box<dyn Engine>>,
    checks: AtomicU64,
    settles: AtomicU64,
    /// Denied lease-backed checks: those denied by the rules, then those of each failure.
    denied: [AtomicU64; 1 + Failure::ALL.len()],
}

impl Decider {
    /// A decider with an empty cache and no leases.
    #[must_use]
    pub fn new(settings: DeciderSettings) -> Self {
        Self {
            cache: Cache::new(settings.max_companies, settings.max_users),
            ledger: Ledger::new(settings.knobs),
            events: Queue::new(
                &settings.api_key,
                settings.max_billing_events,
                settings.max_flag_check_events,
            )
            .with_journal(settings.journal),
            owed: owed_claims::OwedClaims::default(),
            ids: Ids::new(settings.seed),
            wake: settings.wake,
            shared: settings.shared,
            engine: settings.engine,
            checks: AtomicU64::new(0),
            settles: AtomicU64::new(0),
            denied: Default::default(),
        }
    }

    /// Flags, companies and users.
    #[must_use]
    pub const fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Leases and holds.
    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Events that wait.
    #[must_use]
    pub const fn events(&self) -> &Queue {
        &self.events
    }

    /// Takes up to 100 events to send.
    pub fn take_batch(&self) -> Option<Batch> {
        self.events.take_batch()
    }

    /// The reservation by which a slab is taken of a shared lease.
    #[must_use]
    pub fn slab_row(
        &self,
        slot: SlotKey<'_>,
        lease_id: &str,
        credits: f64,
        expires_at: Millis,
    ) -> Reservation {
        Reservation {
            id: self.ids.next_slab(),
            lease_id: lease_id.into(),
            mode: Mode::Client,
            holder: Holder::new(slot.company_id, None, None),
            terms: Arc::new(Terms {
                credit_id: slot.credit_type_id.into(),
                event_subtype: SLAB_EVENT.into(),
                rate: 1.0,
            }),
            quantity_reserved: credits,
            credits_reserved: credits,
            expires_at,
            exported: Exported::default(),
        }
    }

    /// Whether leases live in a store that other processes share.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        self.shared
    }

    /// Lease-backed checks and settles so far.
    #[must_use]
    pub fn traffic(&self) -> (u64, u64) {
        (self.checks.load(Relaxed), self.settles.load(Relaxed))
    }

    /// Lease-backed checks that were denied so far, by why.
    pub fn denials(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let failures = Failure::ALL.map(Failure::as_str);
        std::iter::once("rules")
            .chain(failures)
            .zip(self.denied.each_ref().map(|count| count.load(Relaxed)))
    }

    fn count_denied(&self, allowed: bool, failure: Option<Failure>) {
        if !allowed {
            let place = failure.map_or(0, |failure| 1 + failure as usize);
            if let Some(count) = self.denied.get(place) {
                count.fetch_add(1, Relaxed);
            }
        }
    }
}
