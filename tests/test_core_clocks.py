"""The extension's `Core` as time passes: low leases, lapsed holds, and wall clocks that are set."""

from __future__ import annotations

import copy
import pickle

import pytest

from schematic_native import CheckResult, Reservation
from schematic_native._native import PendingCheck
from tests.core_world import World


def test_a_low_lease_wakes_once_until_it_was_attended_to() -> None:
    world = World()
    world.lend(100)
    for _ in range(4):
        world.hold(10)
    assert world.woken == ["extend"]
    assert world.core.take_low_slots() == [("comp", "ct")]
    plan = world.core.plan_extend("comp", "ct")
    assert plan is not None
    assert (plan.lease_id, plan.additional_amount) == ("lease", 1000)
    assert world.core.apply_extend("comp", "ct", plan.lease_id, 1100, world.now + 600)
    assert world.remaining() == 1020
    assert world.core.plan_extend("comp", "ct") is None


def test_a_lapsed_hold_is_swept_back_and_still_billed() -> None:
    world = World()
    world.lend()
    reservation = world.hold(10).reservation
    assert reservation is not None
    world.now += 59.999
    assert world.core.sweep() == 0
    world.now += 0.001
    assert world.core.sweep() == 1
    assert world.remaining() == 1000
    assert world.core.settle_shared(reservation, 10) is None
    assert world.remaining() == 1000
    assert [event["type"] for event in world.events()] == ["track", "flag_check"]


@pytest.mark.parametrize("leave", [copy.copy, pickle.dumps, Reservation.to_dict])
def test_a_lapsed_hold_of_a_slab_tells_whether_a_copy_of_it_has_left(leave) -> None:
    world = World(shared=True, slabs=(100.0, 400.0, 10.0))
    plan = world.core.plan_slab("comp", "ct")
    assert plan is not None
    assert (plan.usable_for, plan.kept_for) == (10, 75)
    row = world.core.slab_row("comp", "ct", "lease", 100.0, world.now + plan.kept_for)
    assert world.core.open_slab(row, plan, plan.usable_for)
    here, elsewhere = world.hold(5), world.hold(5)
    assert "Reservation" in repr(here)
    leave(elsewhere.reservation)
    world.now += 60
    world.core.sweep()
    lapsed = {hold.id: (slab, has_left) for slab, hold, has_left in world.core.lapsed()}
    assert lapsed == {
        here.reservation.id: (row, False),
        elsewhere.reservation.id: (row, True),
    }


def test_a_wall_clock_that_is_set_back_prolongs_no_lease() -> None:
    world = World(reservation_ttl=1000.0)
    world.lend()
    world.step(-60.0)
    world.now += 299
    assert isinstance(world.check(), CheckResult)
    world.now += 1
    assert isinstance(world.check(), PendingCheck)


@pytest.mark.parametrize("seconds", [-3600.0, -60.0, 60.0, 250.0])
def test_a_hold_lasts_as_long_as_it_was_meant_to_whichever_way_the_wall_clock_is_set(
    seconds,
) -> None:
    world = World(reservation_ttl=60.0)
    world.lend()
    world.hold()
    world.step(seconds)
    assert world.core.counts()["open_holds"] == 1
    world.now += 59
    assert world.core.sweep() == 0
    world.now += 2
    assert world.core.sweep() == 1


@pytest.mark.parametrize("seconds", [-60.0, -3.0, 3.0])
def test_a_hold_made_right_after_a_step_of_the_wall_clock_lasts_as_long_as_it_was_meant_to(
    seconds,
) -> None:
    world = World(reservation_ttl=60.0)
    world.lend()
    world.core.sweep()
    world.now += seconds
    world.stepped += seconds
    world.hold()
    world.now += 59
    assert world.core.sweep() == 0


def test_a_hold_made_after_a_step_back_that_idle_time_hides_does_not_lapse_early() -> None:
    world = World(reservation_ttl=60.0)
    world.lend()
    world.core.sweep()
    world.now += 5 - 3
    world.stepped -= 3
    world.hold()
    world.now += 59
    assert world.core.sweep() == 0


def test_a_hold_of_which_a_copy_has_left_counts_as_used_when_it_lapses() -> None:
    world = World(reservation_ttl=60.0)
    world.lend()
    world.hold()
    given = world.hold().reservation
    assert given is not None
    given.to_dict()
    world.now += 61
    assert world.core.sweep() == 2
    assert world.remaining() == 1000 - given.credits_reserved


def test_a_clock_that_drifts_below_a_second_has_not_stepped() -> None:
    world = World(reservation_ttl=60.0)
    world.lend()
    world.hold()
    for _ in range(5):
        world.step(-0.3)
    world.now += 60.4
    assert world.core.sweep() == 0, "a second was made up for, and no more"
    world.now += 0.2
    assert world.core.sweep() == 1
