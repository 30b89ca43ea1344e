//! The promises of the ledger, under any sequence of operations.

use std::{collections::HashMap, sync::Arc};

use proptest::prelude::*;
use schematic_core::{
    Millis,
    engine::Terms,
    leases::{
        Exported, Holder, Keys, Knobs, LeaseKnobs, Ledger, Mode, NewLease, Reservation,
        ReservationId, SlotKey,
    },
};

const SLOT: SlotKey<'_> = SlotKey {
    company_id: "company",
    credit_type_id: "credit",
};

#[derive(Clone, Debug)]
enum Operation {
    /// Debit and record a hold of so many eighths of a credit.
    Hold {
        eighths: u32,
        ttl: Millis,
    },
    /// Settle one of the holds made so far with so many eighths.
    Settle {
        which: usize,
        eighths: u32,
    },
    Extend {
        total: u32,
    },
    ExtendForeign {
        total: u32,
    },
    Install {
        lease: u8,
        granted: u32,
    },
    Advance {
        millis: Millis,
    },
    Sweep,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => (0_u32..400, 1_i64..5000).prop_map(|(eighths, ttl)| Operation::Hold { eighths, ttl }),
        4 => (any::<usize>(), 0_u32..600)
            .prop_map(|(which, eighths)| Operation::Settle { which, eighths }),
        1 => (0_u32..400).prop_map(|total| Operation::Extend { total }),
        1 => (0_u32..400).prop_map(|total| Operation::ExtendForeign { total }),
        2 => (0_u8..3, 0_u32..200).prop_map(|(lease, granted)| Operation::Install { lease, granted }),
        2 => (0_i64..4000).prop_map(|millis| Operation::Advance { millis }),
        1 => Just(Operation::Sweep),
    ]
}

/// A plain account of every lease, beside the ledger: amounts in eighths of a credit.
#[derive(Default)]
struct Account {
    granted: HashMap<String, i64>,
    settled: HashMap<String, i64>,
    held: HashMap<String, i64>,
    installs: usize,
}

struct World {
    ledger: Ledger,
    now: Millis,
    holds: Vec<(Arc<Reservation>, i64, bool)>,
    account: Account,
}

fn eighths(amount: i64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "small numbers")]
    let amount = amount as f64;
    amount / 8.0
}

impl World {
    fn new() -> Self {
        Self {
            ledger: Ledger::new(Knobs::new(LeaseKnobs::default())),
            now: 0,
            holds: Vec::new(),
            account: Account::default(),
        }
    }

    fn perform(&mut self, operation: &Operation) {
        match *operation {
            Operation::Hold { eighths, ttl } => self.hold(eighths.into(), ttl),
            Operation::Settle { which, eighths } => self.settle(which, eighths.into()),
            Operation::Extend { total } => self.extend(total.into()),
            Operation::ExtendForeign { total } => {
                assert!(
                    !self
                        .ledger
                        .extend(SLOT, f64::from(total), None, Some("foreign"))
                );
            }
            Operation::Install { lease, granted } => self.install(lease, granted.into()),
            Operation::Advance { millis } => self.now += millis,
            Operation::Sweep => self.sweep(),
        }
    }

    fn hold(&mut self, amount: i64, ttl: Millis) {
        let Ok(debit) = self.ledger.try_reserve(SLOT, eighths(amount), self.now) else {
            return;
        };
        let reservation = Arc::new(Reservation {
            id: ReservationId::Random(self.holds.len() as u128),
            lease_id: Arc::clone(&debit.lease_id),
            mode: Mode::Client,
            holder: Holder::new(SLOT.company_id, Some(Keys::default()), None),
            terms: Arc::new(Terms {
                credit_id: SLOT.credit_type_id.into(),
                event_subtype: "event".into(),
                rate: 1.0,
            }),
            quantity_reserved: eighths(amount),
            credits_reserved: eighths(amount),
            expires_at: self.now + ttl,
            exported: Exported::default(),
        });
        assert!(self.ledger.add(&reservation, None, self.now));
        assert!(
            !self.ledger.add(&reservation, None, self.now),
            "a hold is recorded once"
        );
        *self
            .account
            .held
            .entry(debit.lease_id.to_string())
            .or_default() += amount;
        self.holds.push((reservation, amount, true));
    }

    fn settle(&mut self, which: usize, used: i64) {
        if self.holds.is_empty() {
            return;
        }
        let at = which % self.holds.len();
        let (reservation, held, open) = self.holds[at].clone();
        let consumed = self.ledger.consume(&reservation, eighths(used));
        if !open {
            assert_eq!(consumed, None, "a hold ends once");
            return;
        }
        assert_eq!(consumed, Some(eighths(used.min(held))));
        self.end(at, used.min(held));
    }

    fn end(&mut self, at: usize, used: i64) {
        let (reservation, held, open) = &mut self.holds[at];
        *open = false;
        let lease = reservation.lease_id.to_string();
        *self.account.held.entry(lease.clone()).or_default() -= *held;
        *self.account.settled.entry(lease).or_default() += used;
    }

    fn extend(&mut self, total: i64) {
        let Some(lease) = self.ledger.lease(SLOT) else {
            return;
        };
        assert!(
            self.ledger
                .extend(SLOT, eighths(total), None, Some(&lease.lease_id))
        );
        let granted = self
            .account
            .granted
            .entry(lease.lease_id.to_string())
            .or_default();
        *granted = total.max(*granted);
    }

    fn install(&mut self, lease: u8, granted: i64) {
        // The service never gives an id anew once its lease has been replaced.
        let lease_id = format!("lease-{}", self.account.installs + usize::from(lease));
        let lease = NewLease {
            lease_id: &lease_id,
            granted: eighths(granted),
            expires_at: self.now + 6000,
        };
        if self.ledger.install(SLOT, &lease, self.now).written {
            self.account.installs += 10;
            self.account.granted.insert(lease_id, granted);
        }
    }

    fn sweep(&mut self) {
        let lapsed: Vec<_> = (0..self.holds.len())
            .filter(|&at| self.holds[at].2 && self.holds[at].0.expires_at <= self.now)
            .collect();
        assert_eq!(self.ledger.sweep(self.now), lapsed.len());
        for at in lapsed {
            self.end(at, 0);
        }
    }

    fn check(&self) {
        let held: i64 = self.account.held.values().sum();
        assert_eq!(self.ledger.reserved_credits(SLOT), eighths(held));
        assert_eq!(
            self.ledger.open_holds(),
            self.holds.iter().filter(|(_, _, open)| *open).count()
        );
        let Some(lease) = self.ledger.lease(SLOT) else {
            return;
        };
        let of =
            |amounts: &HashMap<String, i64>| amounts.get(&*lease.lease_id).copied().unwrap_or(0);
        let (granted, settled) = (of(&self.account.granted), of(&self.account.settled));
        let held = of(&self.account.held);
        assert_eq!(lease.granted, eighths(granted));
        assert_eq!(lease.remaining, eighths(granted - settled - held));
        assert!(settled + held <= granted, "a lease is never over-spent");
    }
}

proptest! {
    #[test]
    fn every_credit_is_remaining_held_or_settled(operations in prop::collection::vec(operation(), 1..200)) {
        let mut world = World::new();
        for operation in &operations {
            world.perform(operation);
            world.check();
        }
    }

    #[test]
    fn fractions_come_back_to_the_last_bit(
        granted in 1_f64..1e12,
        costs in prop::collection::vec(0.000_1_f64..1000.0, 1..100),
    ) {
        let ledger = Ledger::new(Knobs::default());
        let lease = NewLease { lease_id: "lease", granted, expires_at: 1000 };
        ledger.install(SLOT, &lease, 0);
        let taken: Vec<_> = costs
            .into_iter()
            .filter(|&cost| ledger.try_reserve(SLOT, cost, 0).is_ok())
            .collect();
        for cost in taken.into_iter().rev() {
            ledger.refund(SLOT, cost, Some("lease"));
        }
        prop_assert_eq!(ledger.lease(SLOT).map(|lease| lease.remaining), Some(granted));
    }
}

#[test]
fn threads_share_a_lease_without_over_spending_it() {
    let ledger = Ledger::new(Knobs::default());
    let lease = NewLease {
        lease_id: "lease",
        granted: 1000.0,
        expires_at: 1000,
    };
    ledger.install(SLOT, &lease, 0);
    let granted: usize = std::thread::scope(|scope| {
        let worker = || {
            (0..1000)
                .filter(|_| ledger.try_reserve(SLOT, 1.0, 0).is_ok())
                .count()
        };
        let workers: Vec<_> = (0..8).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap())
            .sum()
    });
    assert_eq!(granted, 1000);
    assert_eq!(ledger.lease(SLOT).map(|lease| lease.remaining), Some(0.0));
}

#[test]
fn slots_and_holds_by_the_thousand_stand_apart() {
    let ledger = Ledger::new(Knobs::new(LeaseKnobs::default()));
    let names: Vec<String> = (0..4000).map(|n| format!("name_{n}")).collect();
    let slots: Vec<SlotKey<'_>> = names
        .iter()
        .flat_map(|name| {
            let of_one_company = SlotKey {
                credit_type_id: name,
                ..SLOT
            };
            let of_one_credit = SlotKey {
                company_id: name,
                ..SLOT
            };
            [of_one_company, of_one_credit]
        })
        .collect();
    for (n, slot) in (0_u32..).zip(&slots) {
        let lease = NewLease {
            lease_id: "lease",
            granted: f64::from(n),
            expires_at: 1000,
        };
        assert!(ledger.install(*slot, &lease, 0).written, "{slot:?}");
        let debit = ledger.try_reserve(*slot, f64::from(n), 0);
        let hold = Arc::new(Reservation {
            id: ReservationId::parse(&format!("hold {n}")),
            lease_id: debit.expect("the whole grant can be reserved").lease_id,
            mode: Mode::Client,
            holder: Holder::new(slot.company_id, None, None),
            terms: Arc::new(Terms {
                credit_id: slot.credit_type_id.into(),
                event_subtype: "event".into(),
                rate: 1.0,
            }),
            quantity_reserved: f64::from(n),
            credits_reserved: f64::from(n),
            expires_at: 500,
            exported: Exported::default(),
        });
        assert!(ledger.add(&hold, None, 0), "{slot:?}");
    }
    for (n, slot) in (0_u32..).zip(&slots).step_by(2) {
        let id = ReservationId::parse(&format!("hold {n}"));
        assert_eq!(ledger.consume_by_id(&id, 0.0), Some(0.0));
        let lease = ledger.lease(*slot).expect("the lease is there");
        assert_eq!((lease.granted, lease.remaining), (n.into(), n.into()));
    }
    assert_eq!(ledger.open_holds(), slots.len() / 2);
    assert_eq!(ledger.sweep(500), slots.len() / 2);
    for (n, slot) in (0_u32..).zip(&slots) {
        let lease = ledger.lease(*slot).expect("the lease is there");
        assert_eq!(lease.remaining, f64::from(n), "{slot:?}");
    }
}
