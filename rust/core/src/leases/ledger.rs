use std::{
    hash::BuildHasher,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use hashbrown::HashTable;
use parking_lot::{Mutex, MutexGuard};

use crate::{
    Millis, Now,
    hash::HASHER,
    leases::{
        Credits, Knobs, LeaseKnobs, Reservation, ReservationId,
        holds::{Hold, Holds},
        slab::{Lapsed, Slab, SlabId, SlabLoss, SlabPlan, SlabUse},
    },
};

/// A slot's name: the company and the credit type. At most one lease is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotKey<'a> {
    /// The company.
    pub company_id: &'a str,
    /// The credit type.
    pub credit_type_id: &'a str,
}

/// A live lease in a store that other processes share.
#[derive(Clone, Copy, Debug)]
pub struct SharedBalance<'a> {
    /// The lease's id.
    pub lease_id: &'a str,
    /// The service's total for it, in credits.
    pub granted: f64,
    /// What may still be reserved, in credits.
    pub remaining: f64,
}

impl SharedBalance<'_> {
    /// The extend that is due, or that `required` credits need; `None` if none is.
    #[must_use]
    pub fn plan_extend(
        &self,
        required: Option<f64>,
        knobs: &LeaseKnobs,
        now: Millis,
    ) -> Option<ExtendPlan> {
        let granted = Credits::new(self.granted)?;
        let tranche = Tranche {
            id: self.lease_id.into(),
            granted,
            remaining: Credits::new(self.remaining).unwrap_or_default(),
            low_at: low_at(granted, knobs),
            expires_at: Millis::MAX,
            slab: None,
        };
        tranche.plan_extend(required, knobs, now)
    }
}

/// A lease as the service granted it.
#[derive(Clone, Copy, Debug)]
pub struct NewLease<'a> {
    /// Its id.
    pub lease_id: &'a str,
    /// The service's total for it, in credits.
    pub granted: f64,
    /// When it ends.
    pub expires_at: Millis,
}

/// A slot's lease as the ledger has it.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaseState {
    /// The company.
    pub company_id: Arc<str>,
    /// The credit type.
    pub credit_type_id: Arc<str>,
    /// The lease in the slot.
    pub lease_id: Arc<str>,
    /// The service's total, in credits.
    pub granted: f64,
    /// What may still be reserved, in credits.
    pub remaining: f64,
    /// When the lease ends.
    pub expires_at: Millis,
}

/// A debit that was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Debit {
    /// What may still be reserved, in credits.
    pub remaining: f64,
    /// The lease that was charged: a reservation is pinned to it.
    pub lease_id: Arc<str>,
    /// Whether the lease is due for a background extend.
    pub low: bool,
    /// When it was made by the clock of the store that other processes share, if it was made there.
    pub shared_at: Option<Millis>,
    /// The slab it was carved from.
    pub slab: Option<SlabId>,
}

/// Why nothing was debited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No lease, or an expired one.
    NoLease,
    /// The lease has fewer credits left.
    Short,
    /// The amount is negative or not finite.
    Invalid,
}

/// What became of a lease that was to be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Whether the slot was written; otherwise the lease that was there stays.
    pub written: bool,
    /// The lease that is in the slot now.
    pub lease_id: Option<Arc<str>>,
}

/// A lease to ask the service for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AcquirePlan {
    /// Credits to ask for.
    pub requested_amount: f64,
    /// When the lease shall end.
    pub expires_at: Millis,
}

/// An extend to ask the service for.
#[derive(Clone, Debug, PartialEq)]
pub struct ExtendPlan {
    /// The lease to extend.
    pub lease_id: Arc<str>,
    /// Credits to add.
    pub additional_amount: f64,
    /// Credits that a check lacks: fewer do not help it.
    pub shortfall: f64,
    /// When the lease shall end.
    pub expires_at: Millis,
}

/// The leases and holds of this process.
///
/// Each slot and its holds live in one shard under one lock, so every operation is atomic per slot
/// and `remaining + reserved` is exact between operations.
#[derive(Debug)]
pub struct Ledger {
    knobs: Knobs,
    shards: [Mutex<Shard>; SHARDS],
    low: Mutex<Vec<(Arc<str>, Arc<str>)>>,
    swept: AtomicU64,
    /// By how much the wall clock is ahead of the steady one, in whole seconds from where it first was.
    wall_ahead: Mutex<Option<Millis>>,
}

const SHARDS: usize = 16;
/// A slot that stays low is named again after this time, for instance because its extend failed.
const LOW_REMINDER: Millis = 1000;
/// The service is asked again about a company without credits after this time.
const SPENT_FOR: Millis = 5000;

#[derive(Debug, Default)]
struct Shard {
    slots: Vec<Slot>,
    by_key: HashTable<u32>,
    holds: Holds,
    /// Holds of slabs that have lapsed: whether they were settled elsewhere is still to be asked.
    lapsed: Holds,
    /// Slabs whose last hold has ended.
    closed: Vec<SlabUse>,
}

#[derive(Debug)]
struct Slot {
    company_id: Arc<str>,
    credit_type_id: Arc<str>,
    lease: Option<Tranche>,
    /// Slabs that give no more credits and still have open holds.
    closing: Vec<Tranche>,
    /// What was used of slabs lately, in credits for each millisecond.
    demand: f64,
    /// The sum of the open holds, whichever lease they were charged to.
    held: Credits,
    /// Until then nobody needs to be told again that the lease is low.
    low_told_until: Millis,
    /// What the service has refused for want of credits.
    spent: Option<Spent>,
}

/// The service's word that a company has too few credits.
#[derive(Clone, Copy, Debug)]
struct Spent {
    /// Checks that cost as much or more are denied.
    cost: Credits,
    /// The company's balance as it was known when the service was asked.
    balance: Option<f64>,
    since: Millis,
    /// Whether its time is over, and one check asks again.
    is_asked: bool,
}

impl Spent {
    fn covers(&self, credits: f64) -> bool {
        Credits::new(credits).is_some_and(|credits| credits >= self.cost)
    }

    fn is_fresh(&self, now: Millis) -> bool {
        // A clock that was set back makes it old, rather than last.
        (0..SPENT_FOR).contains(&now.saturating_sub(self.since))
    }

    fn has_risen(&self, balance: Option<f64>) -> bool {
        match (balance, self.balance) {
            (Some(now), Some(then)) => now > then,
            (Some(now), None) => now > 0.0,
            (None, _) => false,
        }
    }
}

#[derive(Debug)]
struct Tranche {
    id: Arc<str>,
    granted: Credits,
    remaining: Credits,
    low_at: Credits,
    expires_at: Millis,
    /// Set where the credits are a part that this process took of a shared lease.
    slab: Option<Slab>,
}

impl Tranche {
    fn new(lease: &NewLease<'_>, granted: Credits, knobs: &LeaseKnobs) -> Self {
        Self {
            id: lease.lease_id.into(),
            granted,
            remaining: granted,
            low_at: low_at(granted, knobs),
            expires_at: lease.expires_at,
            slab: None,
        }
    }

    fn is_live(&self, now: Now) -> bool {
        self.expires_at > now.wall && self.slab.as_ref().is_none_or(|slab| slab.is_live(now))
    }

    /// Raises the grant to the service's total and moves the expiry forward, never back.
    fn reconcile(&mut self, total: Credits, expires_at: Option<Millis>, knobs: &LeaseKnobs) {
        if total > self.granted {
            self.remaining += total - self.granted;
            self.granted = total;
            self.low_at = low_at(total, knobs);
        }
        self.expires_at = self.expires_at.max(expires_at.unwrap_or(Millis::MIN));
    }

    fn refund(&mut self, credits: Credits) {
        self.remaining = (self.remaining + credits).min(self.granted);
    }

    /// The extend that is due, or that `required` credits need.
    fn plan_extend(
        &self,
        required: Option<f64>,
        knobs: &LeaseKnobs,
        now: Millis,
    ) -> Option<ExtendPlan> {
        let required = required.and_then(Credits::new).unwrap_or_default();
        if self.remaining > self.low_at && self.remaining >= required {
            return None;
        }
        let shortfall = if required > self.remaining {
            required - self.remaining
        } else {
            Credits::ZERO
        };
        Some(ExtendPlan {
            lease_id: Arc::clone(&self.id),
            additional_amount: knobs.lease_size.max(shortfall.to_f64()),
            shortfall: shortfall.to_f64(),
            expires_at: now.saturating_add(knobs.lease_duration),
        })
    }
}

fn low_at(granted: Credits, knobs: &LeaseKnobs) -> Credits {
    Credits::new(knobs.low_at(granted.to_f64())).unwrap_or_default()
}

impl Shard {
    fn find(&self, hash: u64, key: SlotKey<'_>) -> Option<u32> {
        let slots = &self.slots;
        self.by_key
            .find(hash, |&at| slots[at as usize].is(key))
            .copied()
    }

    fn slot(&mut self, hash: u64, key: SlotKey<'_>) -> Option<&mut Slot> {
        let at = self.find(hash, key)?;
        self.slots.get_mut(at as usize)
    }

    fn lease(&mut self, hash: u64, key: SlotKey<'_>) -> Option<&mut Tranche> {
        self.slot(hash, key)?.lease.as_mut()
    }

    /// The slot's index; a new slot is empty.
    fn open_slot(&mut self, hash: u64, key: SlotKey<'_>) -> u32 {
        if let Some(at) = self.find(hash, key) {
            return at;
        }
        #[allow(
            clippy::cast_possible_truncation,
            reason = "four billion slots do not fit in memory"
        )]
        let at = self.slots.len() as u32;
        self.slots.push(Slot {
            company_id: key.company_id.into(),
            credit_type_id: key.credit_type_id.into(),
            lease: None,
            closing: Vec::new(),
            demand: 0.0,
            held: Credits::ZERO,
            low_told_until: Millis::MIN,
            spent: None,
        });
        let slots = &self.slots;
        self.by_key
            .insert_unique(hash, at, |&at| slots[at as usize].hash());
        at
    }

    /// Gives a hold that was taken out of the table back to the lease that was charged for it,
    /// less what was used of it.
    fn end(&mut self, hold: &Hold, used: Credits) {
        let slot = &mut self.slots[hold.slot as usize];
        slot.held -= hold.credits;
        if let Some(slab) = hold.slab {
            let unused = hold.credits - used;
            let closed = slot.end_in_slab(slab, |tranche| tranche.end_hold(used, unused));
            self.closed.extend(closed);
            return;
        }
        let charged = &hold.reservation.lease_id;
        if let Some(lease) = slot
            .lease
            .as_mut()
            .filter(|lease| !charged.is_empty() && lease.id == *charged)
        {
            lease.refund(hold.credits - used);
        }
    }
}

impl Shard {
    /// Takes credits out of a slot's live lease.
    fn try_reserve(&mut self, at: u32, credits: f64, now: Now) -> Result<Debit, Refusal> {
        let credits = Credits::new(credits).ok_or(Refusal::Invalid)?;
        let lease = self.slots[at as usize].lease.as_mut();
        let lease = lease
            .filter(|lease| lease.is_live(now))
            .ok_or(Refusal::NoLease)?;
        if lease.remaining < credits {
            return Err(Refusal::Short);
        }
        lease.remaining -= credits;
        Ok(Debit {
            remaining: lease.remaining.to_f64(),
            lease_id: Arc::clone(&lease.id),
            low: lease.remaining <= lease.low_at,
            shared_at: None,
            slab: lease.slab.as_mut().map(Slab::hold),
        })
    }

    /// Records a hold of a slot; `false` if its id is taken or its amount is none.
    fn add(
        &mut self,
        at: u32,
        reservation: &Arc<Reservation>,
        slab: Option<SlabId>,
        lapses_at: Millis,
    ) -> bool {
        let Some(credits) = Credits::new(reservation.credits_reserved) else {
            return false;
        };
        let added = self.holds.add(Hold {
            reservation: Arc::clone(reservation),
            credits,
            slot: at,
            slab,
            lapses_at,
        });
        if added {
            self.slots[at as usize].held += credits;
        }
        added
    }

    fn retire_slabs(&mut self, which: impl Fn(&Tranche) -> bool, now: Now) {
        for slot in &mut self.slots {
            if slot
                .lease
                .as_ref()
                .is_some_and(|lease| lease.slab.is_some() && which(lease))
            {
                self.closed.extend(slot.retire_slab(now));
            }
        }
    }
}

// What a slab is besides a lease.
impl Tranche {
    fn is_slab(&self, id: SlabId) -> bool {
        self.slab.as_ref().is_some_and(|slab| slab.id() == id)
    }

    fn has_holds(&self) -> bool {
        self.slab.as_ref().is_some_and(Slab::has_holds)
    }

    fn end_hold(&mut self, used: Credits, unused: Credits) {
        self.refund(unused);
        if let Some(slab) = &mut self.slab {
            slab.end_hold(used);
        }
    }

    fn end_elsewhere(&mut self, used: Credits, unused: Credits) {
        self.refund(unused);
        if let Some(slab) = &mut self.slab {
            slab.end_elsewhere(used);
        }
    }

    fn demand(&self, now: Now) -> f64 {
        let used = (self.granted - self.remaining).to_f64();
        self.slab
            .as_ref()
            .map_or(0.0, |slab| slab.demand(used, now))
    }

    fn into_closed(self, open: &[(ReservationId, Credits)]) -> Option<SlabUse> {
        let gone = self.granted - self.remaining;
        self.slab.map(|slab| slab.close(gone, open))
    }
}

impl Slot {
    fn is(&self, key: SlotKey<'_>) -> bool {
        *self.company_id == *key.company_id && *self.credit_type_id == *key.credit_type_id
    }

    fn hash(&self) -> u64 {
        hash_of(SlotKey {
            company_id: &self.company_id,
            credit_type_id: &self.credit_type_id,
        })
    }

    /// Ends a hold of a slab; returns the slab, if that was the last it waited for.
    fn end_in_slab(&mut self, id: SlabId, end: impl FnOnce(&mut Tranche)) -> Option<SlabUse> {
        if let Some(tranche) = self.lease.as_mut().filter(|tranche| tranche.is_slab(id)) {
            end(tranche);
            return None;
        }
        let at = self
            .closing
            .iter()
            .position(|tranche| tranche.is_slab(id))?;
        let tranche = &mut self.closing[at];
        end(tranche);
        if tranche.has_holds() {
            return None;
        }
        self.closing.swap_remove(at).into_closed(&[])
    }

    /// Takes no more credits from the slab; returned if nothing of it is held.
    fn retire_slab(&mut self, now: Now) -> Option<SlabUse> {
        let tranche = self.lease.take_if(|tranche| tranche.slab.is_some())?;
        self.demand = tranche.demand(now);
        if tranche.has_holds() {
            self.closing.push(tranche);
            return None;
        }
        tranche.into_closed(&[])
    }

    /// Takes a slab out, whatever is held of it: those holds end nowhere then.
    fn lose_slab(&mut self, row: &Reservation, now: Now) -> Option<Tranche> {
        let is_it = |tranche: &Tranche| tranche.slab.as_ref().is_some_and(|slab| slab.is_of(row));
        if let Some(tranche) = self.lease.take_if(|tranche| is_it(tranche)) {
            self.demand = tranche.demand(now);
            return Some(tranche);
        }
        let at = self.closing.iter().position(is_it)?;
        Some(self.closing.swap_remove(at))
    }

    /// The slab that gives, and those that wait for their last holds.
    fn slabs(&mut self) -> impl Iterator<Item = &mut Slab> {
        let tranches = self.lease.iter_mut().chain(&mut self.closing);
        tranches.filter_map(|tranche| tranche.slab.as_mut())
    }

    fn state(&self) -> Option<LeaseState> {
        self.lease.as_ref().map(|lease| LeaseState {
            company_id: Arc::clone(&self.company_id),
            credit_type_id: Arc::clone(&self.credit_type_id),
            lease_id: Arc::clone(&lease.id),
            granted: lease.granted.to_f64(),
            remaining: lease.remaining.to_f64(),
            expires_at: lease.expires_at,
        })
    }
}

fn hash_of(key: SlotKey<'_>) -> u64 {
    HASHER.hash_one((key.company_id, key.credit_type_id))
}

/// A slot that nobody else touches as long as this lives.
#[derive(Debug)]
pub struct Place<'a> {
    ledger: &'a Ledger,
    shard: MutexGuard<'a, Shard>,
    at: Option<u32>,
}

impl Place<'_> {
    /// Takes credits out of the live lease; down to exactly none is allowed.
    ///
    /// # Errors
    /// Why nothing was taken.
    pub fn try_reserve(&mut self, credits: f64, now: impl Into<Now>) -> Result<Debit, Refusal> {
        match self.at {
            Some(at) => self.shard.try_reserve(at, credits, now.into()),
            None => Err(Credits::new(credits).map_or(Refusal::Invalid, |_| Refusal::NoLease)),
        }
    }

    /// Records a hold on what was debited; `false` if its id is taken.
    #[must_use]
    pub fn add(
        mut self,
        reservation: &Arc<Reservation>,
        slab: Option<SlabId>,
        now: impl Into<Now>,
    ) -> bool {
        let lapses_at = self.ledger.lapses_at(reservation, now.into());
        self.at
            .is_some_and(|at| self.shard.add(at, reservation, slab, lapses_at))
    }
}

impl Ledger {
    /// An empty ledger.
    #[must_use]
    pub fn new(knobs: Knobs) -> Self {
        Self {
            knobs,
            shards: std::array::from_fn(|_| Mutex::default()),
            low: Mutex::default(),
            swept: AtomicU64::new(0),
            wall_ahead: Mutex::default(),
        }
    }

    /// The knobs it was made with.
    #[must_use]
    pub const fn knobs(&self) -> &Knobs {
        &self.knobs
    }

    fn shard(&self, key: SlotKey<'_>) -> (u64, &Mutex<Shard>) {
        let hash = hash_of(key);
        #[allow(clippy::cast_possible_truncation, reason = "any bits of a hash do")]
        let at = (hash >> 32) as usize % SHARDS;
        (hash, &self.shards[at])
    }

    // Slots

    /// Puts a lease into an empty slot, or over an expired lease with another id.
    ///
    /// A live lease stays, even with another id: a sibling won the race. An expired lease with the
    /// same id is reconciled as by an extend, since rewriting it would forget open holds.
    pub fn install(
        &self,
        key: SlotKey<'_>,
        lease: &NewLease<'_>,
        now: impl Into<Now>,
    ) -> Installed {
        let now = now.into();
        let knobs = self.knobs.of(key.credit_type_id);
        let (hash, shard) = self.shard(key);
        let mut shard = shard.lock();
        let at = shard.open_slot(hash, key);
        let slot = &mut shard.slots[at as usize];
        let Some(granted) = Credits::new(lease.granted) else {
            return Installed {
                written: false,
                lease_id: slot.lease.as_ref().map(|held| Arc::clone(&held.id)),
            };
        };
        let written = match &mut slot.lease {
            Some(held) if held.is_live(now) => false,
            Some(held) if *held.id == *lease.lease_id => {
                held.reconcile(granted, Some(lease.expires_at), knobs);
                false
            }
            place => {
                *place = Some(Tranche::new(lease, granted, knobs));
                slot.low_told_until = Millis::MIN;
                true
            }
        };
        slot.spent = None;
        Installed {
            written,
            lease_id: slot.lease.as_ref().map(|held| Arc::clone(&held.id)),
        }
    }

    /// The slot, to debit it and to record the hold without letting others in between.
    ///
    /// Nothing else may be asked of the ledger meanwhile.
    #[must_use]
    pub fn place(&self, key: SlotKey<'_>) -> Place<'_> {
        let (hash, shard) = self.shard(key);
        let shard = shard.lock();
        Place {
            ledger: self,
            at: shard.find(hash, key),
            shard,
        }
    }

    /// Takes credits out of the slot's live lease; down to exactly none is allowed.
    ///
    /// # Errors
    /// Why nothing was taken.
    pub fn try_reserve(
        &self,
        key: SlotKey<'_>,
        credits: f64,
        now: impl Into<Now>,
    ) -> Result<Debit, Refusal> {
        self.place(key).try_reserve(credits, now)
    }

    /// Gives credits back, never above the grant; with a pin, only to that lease.
    pub fn refund(&self, key: SlotKey<'_>, credits: f64, pin: Option<&str>) {
        let Some(credits) = Credits::new(credits) else {
            return;
        };
        let (hash, shard) = self.shard(key);
        if let Some(lease) = shard
            .lock()
            .lease(hash, key)
            .filter(|lease| fits(pin, lease))
        {
            lease.refund(credits);
        }
    }

    /// Reconciles the slot with the service's total for its lease; `false` if nothing fitted.
    pub fn extend(
        &self,
        key: SlotKey<'_>,
        granted_total: f64,
        expires_at: Option<Millis>,
        pin: Option<&str>,
    ) -> bool {
        let Some(total) = Credits::new(granted_total) else {
            return false;
        };
        let knobs = self.knobs.of(key.credit_type_id);
        let (hash, shard) = self.shard(key);
        let mut shard = shard.lock();
        let Some(slot) = shard.slot(hash, key) else {
            return false;
        };
        let Some(lease) = slot.lease.as_mut().filter(|lease| fits(pin, lease)) else {
            return false;
        };
        lease.reconcile(total, expires_at, knobs);
        slot.low_told_until = Millis::MIN;
        slot.spent = None;
        true
    }

    // Companies without credits

    /// Notes that the service has refused a check's credits for want of them.
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

    /// Forgets it: the service was asked again, and has not refused.
    pub fn forget_spent(&self, key: SlotKey<'_>) {
        let (hash, shard) = self.shard(key);
        if let Some(slot) = shard.lock().slot(hash, key) {
            slot.spent = None;
        }
    }

    /// Whether a check is denied without asking the service, which has refused as little lately.
    ///
    /// Not once the company's balance has risen. After some seconds one check gets a `false`, and
    /// asks; the others are denied until the service has answered it.
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
        if spent.is_fresh(now) {
            return true;
        }
        spent.since = now;
        spent.is_asked = true;
        false
    }

    /// Whether the service has refused as little since the check that asks now was begun.
    #[must_use]
    pub fn was_refused(&self, key: SlotKey<'_>, credits: f64, now: Millis) -> bool {
        let (hash, shard) = self.shard(key);
        let mut shard = shard.lock();
        let spent = shard.slot(hash, key).and_then(|slot| slot.spent);
        spent.is_some_and(|spent| spent.covers(credits) && spent.is_fresh(now) && !spent.is_asked)
    }

    /// Empties the slot, after its lease was released.
    pub fn drop_lease(&self, key: SlotKey<'_>) {
        let (hash, shard) = self.shard(key);
        if let Some(slot) = shard.lock().slot(hash, key) {
            slot.lease = None;
        }
    }

    /// The slot's lease, live or expired.
    #[must_use]
    pub fn lease(&self, key: SlotKey<'_>) -> Option<LeaseState> {
        let (hash, shard) = self.shard(key);
        shard.lock().slot(hash, key)?.state()
    }

    /// Every lease that is live at `now`.
    #[must_use]
    pub fn live_leases(&self, now: impl Into<Now>) -> Vec<LeaseState> {
        let now = now.into();
        let live = |slot: &Slot| {
            let is_live = slot.lease.as_ref().is_some_and(|lease| lease.is_live(now));
            slot.state().filter(|_| is_live)
        };
        self.shards
            .iter()
            .flat_map(|shard| {
                shard
                    .lock()
                    .slots
                    .iter()
                    .filter_map(live)
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    // What to ask the service for

    /// The lease to acquire, or `None` while a live one is in the slot.
    #[must_use]
    pub fn plan_acquire(&self, key: SlotKey<'_>, now: impl Into<Now>) -> Option<AcquirePlan> {
        let now = now.into();
        let (hash, shard) = self.shard(key);
        if shard
            .lock()
            .lease(hash, key)
            .is_some_and(|lease| lease.is_live(now))
        {
            return None;
        }
        Some(self.knobs.of(key.credit_type_id).acquire(now.wall))
    }

    /// The extend that is due, or that `required` credits need; `None` if none is, or if the lease
    /// has expired.
    #[must_use]
    pub fn plan_extend(
        &self,
        key: SlotKey<'_>,
        required: Option<f64>,
        now: impl Into<Now>,
    ) -> Option<ExtendPlan> {
        let now = now.into();
        let (hash, shard) = self.shard(key);
        let mut shard = shard.lock();
        let lease = shard.lease(hash, key).filter(|lease| lease.is_live(now))?;
        lease.plan_extend(required, self.knobs.of(key.credit_type_id), now.wall)
    }

    /// Notes that a slot is low; `true` if nobody was told of it lately.
    pub fn note_low(&self, key: SlotKey<'_>, now: impl Into<Now>) -> bool {
        let now = now.into().steady;
        let (hash, shard) = self.shard(key);
        let mut shard = shard.lock();
        let at = shard.open_slot(hash, key);
        let slot = &mut shard.slots[at as usize];
        if now < slot.low_told_until {
            return false;
        }
        slot.low_told_until = now.saturating_add(LOW_REMINDER);
        let name = (
            Arc::clone(&slot.company_id),
            Arc::clone(&slot.credit_type_id),
        );
        drop(shard);
        self.low.lock().push(name);
        true
    }

    /// Takes the slots that were noted as low.
    pub fn take_low(&self) -> Vec<(Arc<str>, Arc<str>)> {
        std::mem::take(&mut self.low.lock())
    }

    // Slabs

    /// The slab that a slot is to take of its shared lease; `None` while it has enough.
    #[must_use]
    pub fn plan_slab(&self, key: SlotKey<'_>, now: impl Into<Now>) -> Option<SlabPlan> {
        let now = now.into();
        let slabs = self.knobs.slabs()?;
        let (hash, shard) = self.shard(key);
        let mut shard = shard.lock();
        let at = shard.open_slot(hash, key);
        let slot = &shard.slots[at as usize];
        let lease = slot.lease.as_ref().filter(|lease| lease.is_live(now));
        if lease.is_some_and(|lease| lease.remaining > lease.low_at) {
            return None;
        }
        let demand = slot
            .lease
            .as_ref()
            .map_or(slot.demand, |lease| lease.demand(now));
        let hold = self.knobs.of(key.credit_type_id).reservation_ttl;
        Some(slabs.plan(demand, hold))
    }

    /// Puts a slab into its slot: credits that this process has taken of a shared lease, as one
    /// reservation there. The slab before it gives no more.
    ///
    /// Holds are carved from it for so long since it was planned. `false` if its amount is none.
    pub fn open_slab(
        &self,
        row: &Arc<Reservation>,
        usable_for: Millis,
        planned: impl Into<Now>,
    ) -> bool {
        let planned = planned.into();
        let Some(credits) = Credits::new(row.credits_reserved) else {
            return false;
        };
        let key = row.slot();
        let knobs = self.knobs.of(key.credit_type_id);
        let (hash, shard) = self.shard(key);
        let mut shard = shard.lock();
        let at = shard.open_slot(hash, key);
        let slot = &mut shard.slots[at as usize];
        let before = slot.retire_slab(planned);
        let lease = NewLease {
            lease_id: &row.lease_id,
            granted: row.credits_reserved,
            expires_at: planned.wall.saturating_add(usable_for),
        };
        slot.lease = Some(Tranche {
            slab: Some(Slab::new(row, usable_for, planned)),
            ..Tranche::new(&lease, credits, knobs)
        });
        slot.low_told_until = Millis::MIN;
        shard.closed.extend(before);
        true
    }

    /// What was used of each slab that is not closed, where that has grown since it was last asked.
    pub fn take_slab_uses(&self) -> Vec<SlabUse> {
        let uses = |shard: &Mutex<Shard>| {
            let mut shard = shard.lock();
            let slabs = shard.slots.iter_mut().flat_map(Slot::slabs);
            slabs.filter_map(Slab::tell_use).collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(uses).collect()
    }

    /// The rows of the slabs that holds were carved from since this was last asked: a row that the
    /// shared store has lost must be noticed while its slab serves.
    pub fn take_slabs_in_use(&self) -> Vec<Arc<Reservation>> {
        let rows = |shard: &Mutex<Shard>| {
            let mut shard = shard.lock();
            let slabs = shard.slots.iter_mut().flat_map(Slot::slabs);
            slabs.filter_map(Slab::watch).collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(rows).collect()
    }

    /// Drops a slab whose row the shared store has lost: what it has left is not served, as it may be
    /// in the lease again for others. `None` if there is no such slab, or it is closed.
    pub fn lose_slab(&self, row: &Reservation, now: impl Into<Now>) -> Option<SlabLoss> {
        let now = now.into();
        let key = row.slot();
        let (hash, shard) = self.shard(key);
        let mut shard = shard.lock();
        let lost = shard.slot(hash, key)?.lose_slab(row, now)?;
        let id = lost.slab.as_ref().map(Slab::id);
        let of_it = |hold: &&Hold| hold.slab == id;
        let lapsed = shard.lapsed.iter().filter(of_it);
        let lapsed: Vec<_> = lapsed.map(|hold| Arc::clone(&hold.reservation)).collect();
        for hold in lapsed {
            if let Some(hold) = shard.lapsed.take(&hold.id) {
                shard.end(&hold, Credits::ZERO);
            }
        }
        Some(SlabLoss {
            taken: (lost.granted - lost.remaining).to_f64(),
            left: lost.remaining.to_f64(),
        })
    }

    /// Takes the slabs whose last hold has ended, to be settled in the shared store.
    pub fn take_closed_slabs(&self) -> Vec<SlabUse> {
        let closed = |shard: &Mutex<Shard>| std::mem::take(&mut shard.lock().closed);
        self.shards.iter().flat_map(closed).collect()
    }

    /// Closes every slab. What is still held counts as used, since nobody can give it back later.
    pub fn close_slabs(&self, now: impl Into<Now>) -> Vec<SlabUse> {
        let now = now.into();
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.retire_slabs(|_| true, now);
            let Shard {
                slots,
                holds,
                lapsed,
                closed,
                ..
            } = &mut *shard;
            let closing = slots
                .iter_mut()
                .flat_map(|slot| slot.closing.drain(..))
                .filter_map(|tranche| Some((tranche.slab.as_ref()?.id(), tranche)));
            for (id, tranche) in closing {
                let open: Vec<_> = holds
                    .iter()
                    .chain(lapsed.iter())
                    .filter(|hold| hold.slab == Some(id))
                    .map(|hold| (hold.reservation.id.clone(), hold.credits))
                    .collect();
                closed.extend(tranche.into_closed(&open));
            }
            for hold in std::mem::take(lapsed).iter() {
                slots[hold.slot as usize].held -= hold.credits;
            }
        }
        self.take_closed_slabs()
    }

    /// The holds of slabs that have lapsed here and of which it is not known yet whether they were
    /// settled elsewhere; each until [`Ledger::end_lapsed`] is told.
    #[must_use]
    pub fn lapsed(&self) -> Vec<Lapsed> {
        let lapsed = |shard: &Mutex<Shard>| {
            let mut shard = shard.lock();
            let Shard { slots, lapsed, .. } = &mut *shard;
            let of = |hold: &Hold| {
                let mut slabs = slots[hold.slot as usize].slabs();
                let slab = slabs.find(|slab| Some(slab.id()) == hold.slab)?;
                Some(Lapsed {
                    row: Arc::clone(slab.row()),
                    hold: Arc::clone(&hold.reservation),
                })
            };
            lapsed.iter().filter_map(of).collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(lapsed).collect()
    }

    /// Ends a hold of a slab that has lapsed, and was settled elsewhere with so many credits: the
    /// rest is given back to the slab.
    pub fn end_lapsed(&self, hold: &Reservation, used: f64) {
        let (_, shard) = self.shard(hold.slot());
        let mut shard = shard.lock();
        let Some(hold) = shard.lapsed.take(&hold.id) else {
            return;
        };
        let used = within(&hold, used);
        let slot = &mut shard.slots[hold.slot as usize];
        slot.held -= hold.credits;
        let Some(slab) = hold.slab else { return };
        let unused = hold.credits - used;
        let closed = slot.end_in_slab(slab, |tranche| tranche.end_elsewhere(used, unused));
        shard.closed.extend(closed);
    }

    /// Undoes a debit that no hold was recorded for.
    pub fn undo(&self, key: SlotKey<'_>, credits: f64, lease_id: &str, slab: Option<SlabId>) {
        let Some(slab) = slab else {
            self.refund(key, credits, Some(lease_id));
            return;
        };
        let credits = Credits::new(credits).unwrap_or_default();
        let (hash, shard) = self.shard(key);
        let mut shard = shard.lock();
        let closed = shard.slot(hash, key).and_then(|slot| {
            slot.end_in_slab(slab, |tranche| tranche.end_hold(Credits::ZERO, credits))
        });
        shard.closed.extend(closed);
    }

    // Holds

    /// Records a hold whose credits were already debited, of this slab if of any; `false` if its
    /// id is taken.
    pub fn add(
        &self,
        reservation: &Arc<Reservation>,
        slab: Option<SlabId>,
        now: impl Into<Now>,
    ) -> bool {
        let key = reservation.slot();
        let lapses_at = self.lapses_at(reservation, now.into());
        let (hash, shard) = self.shard(key);
        let mut shard = shard.lock();
        let at = shard.open_slot(hash, key);
        shard.add(at, reservation, slab, lapses_at)
    }

    /// When a hold lapses. Those of slabs must end before others may sweep the slab, so they go by the
    /// clock that the slab does.
    fn lapses_at(&self, reservation: &Reservation, now: Now) -> Millis {
        if self.knobs.slabs().is_none() {
            return reservation.expires_at;
        }
        let lasts = reservation.expires_at.saturating_sub(now.wall);
        now.steady.saturating_add(lasts)
    }

    /// Claims a hold, once, and gives what was not used of it back to the lease that was charged.
    ///
    /// Returns what the hold was of, or `None` if it is gone.
    pub fn claim(&self, reservation: &Reservation, credits: f64) -> Option<Arc<Reservation>> {
        let (_, shard) = self.shard(reservation.slot());
        let (hold, _) = claim_in(&mut shard.lock(), &reservation.id, credits)?;
        Some(hold.reservation)
    }

    /// The same, and returns the credits consumed, within what was held.
    pub fn consume(&self, reservation: &Reservation, credits: f64) -> Option<f64> {
        let (_, shard) = self.shard(reservation.slot());
        let (_, used) = claim_in(&mut shard.lock(), &reservation.id, credits)?;
        Some(used.to_f64())
    }

    /// The same, for a hold of which only the id is known.
    pub fn consume_by_id(&self, id: &ReservationId, credits: f64) -> Option<f64> {
        self.shards
            .iter()
            .find_map(|shard| claim_in(&mut shard.lock(), id, credits))
            .map(|(_, used)| used.to_f64())
    }

    /// Whether a hold is open.
    #[must_use]
    pub fn holds(&self, id: &ReservationId) -> bool {
        self.shards
            .iter()
            .any(|shard| shard.lock().holds.contains(id))
    }

    /// The number of open holds.
    #[must_use]
    pub fn open_holds(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.lock().holds.len())
            .sum()
    }

    /// Credits in open holds of a slot.
    #[must_use]
    pub fn reserved_credits(&self, key: SlotKey<'_>) -> f64 {
        let (hash, shard) = self.shard(key);
        shard
            .lock()
            .slot(hash, key)
            .map_or(0.0, |slot| slot.held.to_f64())
    }

    /// Gives every lapsed hold back whole and returns how many there were. Those of slabs wait until
    /// it is known whether they were settled elsewhere.
    pub fn sweep(&self, now: impl Into<Now>) -> usize {
        let now = now.into();
        let due = if self.knobs.slabs().is_some() {
            now.steady
        } else {
            now.wall
        };
        let mut swept = 0;
        for shard in &self.shards {
            let mut shard = shard.lock();
            let lapsed = shard.holds.take_lapsed(due);
            swept += lapsed.len();
            for hold in lapsed {
                let slot = &mut shard.slots[hold.slot as usize];
                if slot.slabs().any(|slab| Some(slab.id()) == hold.slab) {
                    shard.lapsed.add(hold);
                } else {
                    shard.end(&hold, Credits::ZERO);
                }
            }
            if self.knobs.slabs().is_some() {
                shard.retire_slabs(|slab| !slab.is_live(now), now);
            }
        }
        self.swept.fetch_add(swept as u64, Relaxed);
        swept
    }

    /// Compares the clocks, and puts right what goes by the wall clock if that has stepped.
    ///
    /// A hold lasts as long as it was meant to, whichever way the clock was set. A lease ends at an
    /// instant that the service told: a clock that was set back must not prolong it, and one that was
    /// set forward has come closer to the service's.
    pub fn compare_clocks(&self, now: Now) {
        let ahead = now.wall.saturating_sub(now.steady);
        let step = {
            let mut known = self.wall_ahead.lock();
            let before = *known.get_or_insert(ahead);
            let seconds = ahead.saturating_sub(before) / 1000;
            *known = Some(before.saturating_add(seconds * 1000));
            seconds
        };
        if step == 0 {
            return;
        }
        for shard in &self.shards {
            let mut shard = shard.lock();
            if self.knobs.slabs().is_none() {
                shard.holds.shift(step);
            }
            for slot in &mut shard.slots {
                if let Some(lease) = slot.lease.as_mut().filter(|lease| lease.slab.is_none()) {
                    lease.expires_at = lease.expires_at.saturating_add(step.min(0) * 1000);
                }
            }
        }
    }

    /// How many holds lapsed since the ledger was made.
    #[must_use]
    pub fn swept(&self) -> u64 {
        self.swept.load(Relaxed)
    }
}

fn fits(pin: Option<&str>, lease: &Tranche) -> bool {
    pin.is_none_or(|pin| *lease.id == *pin)
}

/// Credits used of a hold, within what it holds.
fn within(hold: &Hold, used: f64) -> Credits {
    Credits::new(used.max(0.0))
        .unwrap_or(hold.credits)
        .min(hold.credits)
}

fn claim_in(shard: &mut Shard, id: &ReservationId, credits: f64) -> Option<(Hold, Credits)> {
    let hold = shard.holds.take(id)?;
    let used = within(&hold, credits);
    shard.end(&hold, used);
    Some((hold, used))
}
