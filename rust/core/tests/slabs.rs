//! The promises of slabs: whatever is done with the holds carved from them, each is settled once, for
//! what was used of it and no more than it holds.

#![allow(clippy::expect_used, reason = "what a test put there is there")]

use std::{collections::HashMap, sync::Arc};

use proptest::prelude::*;
use schematic_core::{
    Millis, Now,
    engine::Terms,
    leases::{
        Exported, Holder, Ids, Knobs, LeaseKnobs, Ledger, Mode, Refusal, Reservation,
        ReservationId, SlabKnobs, SlabLoss, SlabUse, SlotKey,
    },
};

const SLOT: SlotKey<'_> = SlotKey {
    company_id: "comp_heron",
    credit_type_id: "cred_render",
};
const NOW: Millis = 1_750_000_000_000;
const TTL: Millis = 60_000;
const SLABS: SlabKnobs = SlabKnobs {
    smallest: 100.0,
    largest: 5000.0,
    lifetime: 10_000,
};

fn ledger() -> Ledger {
    Ledger::new(Knobs::new(LeaseKnobs::default()).with_slabs(Some(SLABS)))
}

fn reservation(ids: &Ids, credits: f64, expires_at: Millis) -> Arc<Reservation> {
    Arc::new(Reservation {
        id: ids.next(),
        lease_id: "lease_amber".into(),
        mode: Mode::Client,
        holder: Holder::new(SLOT.company_id, None, None),
        terms: Arc::new(Terms {
            credit_id: SLOT.credit_type_id.into(),
            event_subtype: "frame".into(),
            rate: 1.0,
        }),
        quantity_reserved: credits,
        credits_reserved: credits,
        expires_at,
        exported: Exported::default(),
    })
}

fn open(ledger: &Ledger, ids: &Ids, credits: f64, now: Millis) -> ReservationId {
    let row = reservation(ids, credits, now + SLABS.lifetime + TTL);
    assert!(ledger.open_slab(&row, SLABS.lifetime, now));
    row.id.clone()
}

fn hold(ledger: &Ledger, ids: &Ids, credits: f64, now: Millis) -> Arc<Reservation> {
    let debit = ledger.try_reserve(SLOT, credits, now).expect("credits");
    let hold = reservation(ids, credits, now + TTL);
    assert!(ledger.add(&hold, debit.slab, now));
    hold
}

/// Sweeps, where no row tells of a settle elsewhere.
fn sweep(ledger: &Ledger, now: Millis) -> usize {
    let swept = ledger.sweep(now);
    for lapsed in ledger.lapsed() {
        ledger.end_lapsed(&lapsed.hold, 0.0);
    }
    swept
}

/// What was used of each, with what is held.
fn used(uses: &[SlabUse]) -> Vec<(ReservationId, f64)> {
    uses.iter()
        .map(|slab| {
            let held: f64 = slab.held.iter().map(|(_, credits)| credits).sum();
            (slab.row.id.clone(), slab.used + held)
        })
        .collect()
}

#[test]
fn a_slab_waits_for_its_last_hold_and_tells_what_was_used() {
    let (ledger, ids) = (ledger(), Ids::new([1, 2]));
    let first = open(&ledger, &ids, 100.0, NOW);
    let (settled, lapsing) = (
        hold(&ledger, &ids, 30.0, NOW),
        hold(&ledger, &ids, 20.0, NOW),
    );
    open(&ledger, &ids, 100.0, NOW);
    assert_eq!(ledger.consume(&settled, 12.0), Some(12.0));
    assert_eq!(ledger.take_closed_slabs(), []);
    assert_eq!(sweep(&ledger, lapsing.expires_at), 1);
    let closed = used(&ledger.take_closed_slabs());
    assert!(closed.contains(&(first, 12.0)), "{closed:?}");
}

#[test]
fn a_hold_of_the_slab_before_is_not_refunded_to_the_slab_that_follows() {
    let (ledger, ids) = (ledger(), Ids::new([1, 2]));
    let first = open(&ledger, &ids, 100.0, NOW);
    let held = hold(&ledger, &ids, 30.0, NOW);
    open(&ledger, &ids, 50.0, NOW);
    hold(&ledger, &ids, 10.0, NOW);
    assert_eq!(ledger.consume(&held, 0.0), Some(0.0));
    assert_eq!(ledger.lease(SLOT).map(|slab| slab.remaining), Some(40.0));
    assert_eq!(used(&ledger.take_closed_slabs()), [(first, 0.0)]);
}

#[test]
fn a_slab_between_debit_and_hold_is_not_closed_under_the_debit() {
    let (ledger, ids) = (ledger(), Ids::new([1, 2]));
    let first = open(&ledger, &ids, 100.0, NOW);
    let debit = ledger.try_reserve(SLOT, 30.0, NOW).expect("credits");
    open(&ledger, &ids, 100.0, NOW);
    assert_eq!(ledger.take_closed_slabs(), []);
    ledger.undo(SLOT, 30.0, "lease_amber", debit.slab);
    assert_eq!(used(&ledger.take_closed_slabs()), [(first, 0.0)]);
}

#[test]
fn a_slab_past_its_time_gives_nothing_and_a_sweep_closes_it() {
    let (ledger, ids) = (ledger(), Ids::new([1, 2]));
    let id = open(&ledger, &ids, 100.0, NOW);
    let end = NOW + SLABS.lifetime;
    assert_eq!(ledger.try_reserve(SLOT, 1.0, end), Err(Refusal::NoLease));
    ledger.sweep(end);
    assert_eq!(used(&ledger.take_closed_slabs()), [(id, 0.0)]);
    assert_eq!(ledger.lease(SLOT), None);
}

#[test]
fn closing_counts_what_is_held_as_used() {
    let (ledger, ids) = (ledger(), Ids::new([1, 2]));
    let first = open(&ledger, &ids, 100.0, NOW);
    let held = hold(&ledger, &ids, 30.0, NOW);
    let second = open(&ledger, &ids, 100.0, NOW);
    hold(&ledger, &ids, 10.0, NOW);
    let closed = used(&ledger.close_slabs(NOW));
    assert!(closed.contains(&(first, 30.0)) && closed.contains(&(second, 10.0)));
    assert_eq!(closed.len(), 2);
    // A settle that comes later finds its hold, and no slab is told of twice.
    assert_eq!(ledger.consume(&held, 5.0), Some(5.0));
    assert_eq!(ledger.close_slabs(NOW), []);
}

#[test]
fn a_lapsed_hold_waits_until_it_is_known_what_was_settled_of_it_elsewhere() {
    let (ledger, ids) = (ledger(), Ids::new([7, 7]));
    let row = open(&ledger, &ids, 1000.0, NOW);
    let here = hold(&ledger, &ids, 30.0, NOW);
    let elsewhere = hold(&ledger, &ids, 50.0, NOW);
    assert_eq!(ledger.sweep(NOW + TTL), 2);
    assert_eq!(ledger.take_closed_slabs(), []);
    assert_eq!(ledger.reserved_credits(SLOT), 80.0);
    assert!(ledger.consume(&here, 0.0).is_none());
    let mut lapsed = ledger.lapsed();
    lapsed.sort_by_key(|lapsed| lapsed.hold.id != here.id);
    assert!(lapsed.iter().all(|lapsed| lapsed.row.id == row));
    assert_eq!(
        lapsed.iter().map(|l| &l.hold).collect::<Vec<_>>(),
        [&here, &elsewhere]
    );
    ledger.end_lapsed(&here, 0.0);
    ledger.end_lapsed(&elsewhere, 20.0);
    ledger.end_lapsed(&elsewhere, 50.0);
    assert_eq!(ledger.lapsed(), []);
    assert_eq!(ledger.reserved_credits(SLOT), 0.0);
    // Its row tells of those that were settled elsewhere: here they are not told of again.
    assert_eq!(ledger.take_slab_uses(), []);
    assert_eq!(used(&ledger.take_closed_slabs()), [(row, 0.0)]);
}

#[test]
fn what_was_not_settled_of_a_lapsed_hold_elsewhere_serves_again() {
    let (ledger, ids) = (ledger(), Ids::new([7, 7]));
    let row = open(&ledger, &ids, 100.0, NOW);
    let debit = ledger.try_reserve(SLOT, 60.0, NOW).expect("credits");
    let held = reservation(&ids, 60.0, NOW + 1000);
    assert!(ledger.add(&held, debit.slab, NOW));
    ledger.sweep(NOW + 1000);
    assert_eq!(
        ledger.try_reserve(SLOT, 41.0, NOW + 1000),
        Err(Refusal::Short)
    );
    ledger.end_lapsed(&held, 20.0);
    assert!(ledger.try_reserve(SLOT, 80.0, NOW + 1000).is_ok());
    assert_eq!(used(&ledger.close_slabs(NOW + 1000)), [(row, 80.0)]);
}

#[test]
fn holds_that_are_open_when_slabs_close_are_named() {
    let (ledger, ids) = (ledger(), Ids::new([7, 7]));
    open(&ledger, &ids, 100.0, NOW);
    let settled = hold(&ledger, &ids, 10.0, NOW);
    let debit = ledger.try_reserve(SLOT, 20.0, NOW).expect("credits");
    let lapsing = reservation(&ids, 20.0, NOW + 1000);
    assert!(ledger.add(&lapsing, debit.slab, NOW));
    let held = hold(&ledger, &ids, 30.0, NOW);
    assert_eq!(ledger.consume(&settled, 7.0), Some(7.0));
    ledger.sweep(NOW + 1000);
    let [closed] = &ledger.close_slabs(NOW + 1000)[..] else {
        panic!("one slab");
    };
    let mut named = closed.held.clone();
    named.sort_by(|a, b| a.1.total_cmp(&b.1));
    assert_eq!(named, [(lapsing.id.clone(), 20.0), (held.id.clone(), 30.0)]);
    assert_eq!(closed.used, 7.0);
    assert_eq!(ledger.reserved_credits(SLOT), 30.0);
}

#[test]
fn a_slab_tells_what_was_settled_of_it_once_and_never_what_is_held() {
    let (ledger, ids) = (ledger(), Ids::new([1, 2]));
    let first = open(&ledger, &ids, 100.0, NOW);
    let holds = [10.0, 20.0, 30.0].map(|credits| hold(&ledger, &ids, credits, NOW));
    assert_eq!(ledger.take_slab_uses(), []);
    assert_eq!(ledger.consume(&holds[0], 4.0), Some(4.0));
    assert_eq!(used(&ledger.take_slab_uses()), [(first.clone(), 4.0)]);
    assert_eq!(ledger.take_slab_uses(), []);
    // It goes on telling while it waits for its last hold; what lapses was not used.
    let second = open(&ledger, &ids, 100.0, NOW);
    assert_eq!(ledger.consume(&holds[1], 20.0), Some(20.0));
    assert_eq!(used(&ledger.take_slab_uses()), [(first.clone(), 24.0)]);
    sweep(&ledger, holds[2].expires_at);
    assert_eq!(ledger.take_slab_uses(), []);
    let mut closed = used(&ledger.take_closed_slabs());
    closed.sort_by_key(|(id, _)| id.to_string());
    let mut expected = [(first, 24.0), (second, 0.0)];
    expected.sort_by_key(|(id, _)| id.to_string());
    assert_eq!(closed, expected);
}

#[test]
fn a_slab_that_is_lost_serves_no_more_and_its_holds_end_nowhere() {
    let (ledger, ids) = (ledger(), Ids::new([1, 2]));
    let rows = [0, 1].map(|_| {
        let row = reservation(&ids, 100.0, NOW + SLABS.lifetime + TTL);
        assert!(ledger.open_slab(&row, SLABS.lifetime, NOW));
        let held = hold(&ledger, &ids, 30.0, NOW);
        (row, held)
    });
    let loss = SlabLoss {
        taken: 30.0,
        left: 70.0,
    };
    let mut watched = ledger.take_slabs_in_use();
    watched.sort_by_key(|row| row.id != rows[0].0.id);
    assert_eq!(watched, rows.clone().map(|(row, _)| row));
    assert_eq!(ledger.take_slabs_in_use(), []);
    for (row, held) in &rows {
        assert_eq!(ledger.lose_slab(row, NOW), Some(loss));
        assert_eq!(ledger.lose_slab(row, NOW), None);
        assert_eq!(ledger.consume(held, 10.0), Some(10.0));
    }
    assert_eq!(ledger.try_reserve(SLOT, 1.0, NOW), Err(Refusal::NoLease));
    assert_eq!(ledger.close_slabs(NOW), []);
    assert_eq!(ledger.reserved_credits(SLOT), 0.0);
}

#[test]
fn slabs_follow_demand_within_their_bounds() {
    let (ledger, ids) = (ledger(), Ids::new([1, 2]));
    let plan = |now| ledger.plan_slab(SLOT, now).expect("a slab is due");
    assert_eq!(plan(NOW).credits, SLABS.smallest);
    assert_eq!(plan(NOW).usable_for, SLABS.lifetime);
    assert!(plan(NOW).kept_for > SLABS.lifetime + TTL);
    open(&ledger, &ids, 100.0, NOW);
    assert_eq!(ledger.plan_slab(SLOT, NOW), None, "a fresh slab is enough");
    hold(&ledger, &ids, 90.0, NOW);
    assert_eq!(
        plan(NOW + 100).credits,
        1800.0,
        "0.9 a millisecond, for 2 s"
    );
    assert_eq!(plan(NOW + 1).credits, SLABS.largest);
}

#[test]
fn a_wall_clock_that_steps_prolongs_neither_a_slab_nor_its_holds() {
    for step in [-3_600_000, -60_000, 60_000] {
        let (ledger, ids) = (ledger(), Ids::new([1, 2]));
        let at = |after| Now {
            wall: NOW + step + after,
            steady: NOW + after,
        };
        let row = reservation(&ids, 100.0, NOW + SLABS.lifetime + TTL);
        assert!(ledger.open_slab(&row, SLABS.lifetime, NOW));
        let held = hold(&ledger, &ids, 10.0, NOW);
        // A step forward may end the slab, as after a pause that no clock of ours has counted.
        let serves = ledger
            .try_reserve(SLOT, 0.0, at(SLABS.lifetime - 1))
            .is_ok();
        assert_eq!(serves, step < 0);
        let debit = ledger.try_reserve(SLOT, 0.0, at(SLABS.lifetime));
        assert_eq!(debit, Err(Refusal::NoLease));
        assert_eq!(ledger.live_leases(at(SLABS.lifetime)), []);
        assert_eq!(ledger.sweep(at(TTL - 1)), 0);
        assert!(ledger.holds(&held.id));
        assert_eq!(ledger.sweep(at(TTL)), 1);
    }
}

#[test]
fn a_hold_made_after_a_step_lives_as_long_as_any() {
    let (ledger, ids) = (ledger(), Ids::new([1, 2]));
    let at = |after| Now {
        wall: NOW - 60_000 + after,
        steady: NOW + after,
    };
    let row = reservation(&ids, 100.0, NOW + SLABS.lifetime + TTL);
    assert!(ledger.open_slab(&row, SLABS.lifetime, at(0)));
    let debit = ledger.try_reserve(SLOT, 10.0, at(0)).expect("credits");
    let held = reservation(&ids, 10.0, at(0).wall + TTL);
    assert!(ledger.add(&held, debit.slab, at(0)));
    assert_eq!(ledger.sweep(at(TTL - 1)), 0);
    assert_eq!(ledger.sweep(at(TTL)), 1);
}

#[test]
fn a_slab_is_never_smaller_than_is_worth_its_while() {
    let narrow = SlabKnobs {
        smallest: 100.5,
        largest: 100.75,
        ..SLABS
    };
    for demand in [0.0, 1.0] {
        let plan = narrow.plan(demand, TTL);
        assert!(plan.credits >= plan.smallest);
    }
}

#[test]
fn there_are_no_slabs_without_knobs_for_them() {
    let ledger = Ledger::new(Knobs::new(LeaseKnobs::default()));
    assert_eq!(ledger.plan_slab(SLOT, NOW), None);
}

#[derive(Clone, Debug)]
enum Operation {
    Open { credits: u32 },
    Hold { credits: u32 },
    Settle { which: usize, credits: u32 },
    SettleElsewhere { which: usize, credits: u32 },
    Advance { millis: Millis },
    Sweep,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        1 => (1_u32..500).prop_map(|credits| Operation::Open { credits }),
        5 => (0_u32..80).prop_map(|credits| Operation::Hold { credits }),
        4 => (any::<usize>(), 0_u32..120)
            .prop_map(|(which, credits)| Operation::Settle { which, credits }),
        2 => (any::<usize>(), 0_u32..120)
            .prop_map(|(which, credits)| Operation::SettleElsewhere { which, credits }),
        1 => (0_i64..40_000).prop_map(|millis| Operation::Advance { millis }),
        1 => Just(Operation::Sweep),
    ]
}

/// Ends what has lapsed by what was settled elsewhere.
fn hear(ledger: &Ledger, elsewhere: &HashMap<String, f64>) {
    for lapsed in ledger.lapsed() {
        let used = elsewhere.get(&lapsed.hold.id.to_string());
        ledger.end_lapsed(&lapsed.hold, used.copied().unwrap_or(0.0));
    }
}

proptest! {
    #[test]
    fn each_slab_is_told_once_and_all_that_was_settled_is_in_them(
        operations in prop::collection::vec(operation(), 1..120)
    ) {
        let (ledger, ids) = (ledger(), Ids::new([3, 4]));
        let mut now = NOW;
        let (mut holds, mut granted) = (Vec::new(), HashMap::new());
        let mut elsewhere = HashMap::new();
        let (mut settled, mut told) = (0.0, HashMap::new());
        for operation in operations {
            match operation {
                Operation::Open { credits } => {
                    let id = open(&ledger, &ids, f64::from(credits), now);
                    granted.insert(id.to_string(), f64::from(credits));
                }
                Operation::Hold { credits } => {
                    let credits = f64::from(credits);
                    if let Ok(debit) = ledger.try_reserve(SLOT, credits, now) {
                        let hold = reservation(&ids, credits, now + TTL);
                        prop_assert!(ledger.add(&hold, debit.slab, now));
                        holds.push(hold);
                    }
                }
                Operation::Settle { which, credits } if !holds.is_empty() => {
                    let at = which % holds.len();
                    let hold = holds.swap_remove(at);
                    settled += ledger.consume(&hold, f64::from(credits)).unwrap_or(0.0);
                }
                Operation::SettleElsewhere { which, credits } if !holds.is_empty() => {
                    let at = which % holds.len();
                    let hold = holds.swap_remove(at);
                    if ledger.holds(&hold.id) {
                        let used = f64::from(credits).min(hold.credits_reserved);
                        elsewhere.insert(hold.id.to_string(), used);
                    }
                }
                Operation::Settle { .. } | Operation::SettleElsewhere { .. } => {}
                Operation::Advance { millis } => now += millis,
                Operation::Sweep => {
                    ledger.sweep(now);
                    hear(&ledger, &elsewhere);
                }
            }
            for slab in ledger.take_closed_slabs() {
                prop_assert!(slab.used <= granted[&slab.row.id.to_string()]);
                prop_assert_eq!(told.insert(slab.row.id.to_string(), slab.used), None);
            }
        }
        ledger.sweep(now + 1_000_000);
        hear(&ledger, &elsewhere);
        for slab in ledger.close_slabs(now + 1_000_000) {
            prop_assert_eq!(told.insert(slab.row.id.to_string(), slab.used), None);
        }
        prop_assert_eq!(told.len(), granted.len());
        prop_assert_eq!(told.values().sum::<f64>(), settled);
        prop_assert_eq!(ledger.open_holds(), 0);
        prop_assert_eq!(ledger.reserved_credits(SLOT), 0.0);
    }
}
