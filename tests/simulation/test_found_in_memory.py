"""Schedules without a shared store that once broke a promise, each shrunk to the steps that matter."""

from __future__ import annotations

import pytest

pytest.importorskip("lupa")

from tests.simulation.schedules import Scenario, Schedule
from tests.simulation.shrinking import breaks


def test_a_hold_made_right_after_the_clock_was_set_back_lapses_too_early() -> None:
    schedule = Schedule(
        130,
        Scenario(store="memory", pods=1, duration=6.0, ttl=2.0, sweep_interval=0.5),
        (
            (0.6, "clock", (0, -3.0)),
            (0.0, "check", (0, 0, 0.5, 2.0, "fail-closed")),
        ),
    )
    assert breaks(schedule) is None


def test_a_hold_that_another_process_settles_comes_back_when_it_lapses() -> None:
    schedule = Schedule(
        394,
        Scenario(store="memory", sweep_interval=0.5),
        (
            (0.0, "check", (0, 0, 3.0, 2.0, "fail-closed")),
            (0.1, "settle elsewhere", (0, 1, 0, 1.0)),
            (0.5, "wait", (6.0,)),
            (0.1, "check", (0, 0, 1.0, 2.0, "fail-closed")),
        ),
    )
    assert breaks(schedule) is None


def test_a_lease_that_a_sibling_has_extended_to_the_millisecond_is_not_proven_by_a_refusal() -> (
    None
):
    schedule = Schedule(
        102202,
        Scenario(
            store="memory", pods=3, rate=2.5, balance=150.0, duration=20.0, sweep_interval=0.5
        ),
        (
            (0.0, "check", (2, 0, 48, 2.0, "fail-open")),
            (0.0, "wait", (1.0,)),
            (0.0, "check", (2, 0, 0.5, 2.0, "fail-open")),
            (3.3, "wait", (1.0,)),
            (0.0, "check many", (1, 0, 1.0, 2.0, "fail-closed", 6)),
            (0.0, "check", (0, 0, 1.0, 0.5, "fail-closed")),
            (0.003583, "check", (2, 0, 48, 2.0, "fail-closed")),
        ),
    )
    assert breaks(schedule) is None


def test_the_first_owner_leaves_its_lease_to_a_pod_that_has_joined_it_since() -> None:
    schedule = Schedule(
        1,
        Scenario(store="memory", duration=60.0),
        (
            (0.0, "check", (0, 0, 1.0, 2.0, "fail-closed")),
            (0.2, "check", (1, 0, 1.0, 2.0, "fail-closed")),
            (1.5, "shut down", (0,)),
            (0.5, "check", (1, 0, 1.0, 2.0, "fail-closed")),
        ),
    )
    assert breaks(schedule) is None


def test_a_hold_of_the_service_does_not_keep_an_ending_loop_waiting_for_its_release() -> None:
    schedule = Schedule(
        3011002947,
        Scenario(store="memory", pods=1, duration=20.0, sweep_interval=2.0, mode="server"),
        (
            (0.0, "check", (0, 0, 2.4, 0.05, "fail-open")),
            (0.0, "hold", (0, 0, 3.0, 0.0, 1.0)),
            (0.0, "check", (0, 0, 24, 2.0, "fail-closed")),
            (0.002447, "change loop", (0,)),
        ),
    )
    assert breaks(schedule) is None


def test_a_pod_that_joins_a_lease_in_the_moment_of_its_release_replaces_it() -> None:
    schedule = Schedule(
        1,
        Scenario(store="memory", duration=60.0),
        (
            (0.0, "check", (0, 0, 1.0, 2.0, "fail-closed")),
            (0.2, "check", (1, 0, 1.0, 2.0, "fail-closed")),
            (0.01, "shut down", (0,)),
            (3.5, "check", (1, 0, 1.0, 2.0, "fail-closed")),
        ),
    )
    assert breaks(schedule) is None


def test_a_hold_lapses_in_the_midst_of_a_millisecond() -> None:
    # The sweep comes to the instant at which the time of the hold is over.
    schedule = Schedule(
        5000891,
        Scenario(store="memory", duration=20.0, ttl=2.0, sweep_interval=2.0, skew=-3.0),
        (
            (0.0613, "check", (1, 0, 80.0, 2.0, "fail-closed")),
            (0.5964, "hold", (0, 0, 10.0, 1.0, 4.0)),
            (0.3, "check", (0, 0, 0.5, 2.0, "fail-open")),
            (0.2883, "service status", (503, 5, None)),
            (0.005624, "change loop", (1,)),
            (0.0, "check", (1, 0, 60.0, 2.0, "fail-open")),
        ),
    )
    assert breaks(schedule) is None


def test_a_lease_that_was_joined_just_before_its_company_is_deleted_is_left_to_the_other() -> None:
    schedule = Schedule(
        20006817,
        Scenario(
            store="memory",
            pods=3,
            duration=6.0,
            sweep_interval=2.0,
            buffer_period=0.25,
            connections=2,
        ),
        (
            (0.0, "check", (0, 0, 0.4, 2.0, "fail-closed")),
            (0.0, "check", (2, 0, 3.0, 0.5, "fail-closed")),
            (0.005923, "wait", (0.0,)),
            (0.0, "delete", (0,)),
            (0.0, "roll", (0, 3.0, 1.2)),
            (1.7, "wait", (0.0,)),
        ),
    )
    assert breaks(schedule) is None


def test_a_lease_that_was_joined_and_given_back_between_two_pushes_is_replaced() -> None:
    schedule = Schedule(
        40014873,
        Scenario(
            store="memory",
            duration=60.0,
            sweep_interval=2.0,
            buffer_period=0.25,
            connections=2,
            shares_disk=True,
        ),
        (
            (0.0, "check", (1, 0, 1.0, 0.5, "fail-open")),
            (0.0, "check", (0, 0, 3.0, 2.0, "fail-closed")),
            (0.006572, "shut down", (0,)),
            (0.0, "wait", (2.5,)),
            (0.002057, "check", (1, 0, 1.0, 0.05, "fail-closed")),
        ),
    )
    assert breaks(schedule) is None


def test_the_end_of_a_block_does_not_wait_for_a_service_that_says_nothing() -> None:
    schedule = Schedule(
        90023747,
        Scenario(store="memory", pods=1, duration=20.0, sweep_interval=2.0, mode="server"),
        (
            (0.0, "hold", (0, 0, 40.0, 0.0, 1.0)),
            (0.003618, "silent", (0, "service", 4.0)),
            (1.1, "settle", (1, 302, 0.5)),
            (3.395, "settle", (0, 84, 1.0)),
        ),
    )
    assert breaks(schedule) is None


def test_a_lease_that_is_acquired_while_the_books_are_closed_is_waited_for() -> None:
    schedule = Schedule(
        100013152,
        Scenario(store="memory", pods=1, duration=20.0, sweep_interval=2.0, spool=0.5),
        (
            (0.0, "service fate", (0, "late", 500, "acquire")),
            (0.0, "roll", (1, 48, 0.02)),
            (0.5, "check", (0, 1, 0.5, 2.0, "fail-closed")),
        ),
    )
    assert breaks(schedule) is None
