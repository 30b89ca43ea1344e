"""Schedules with a shared Redis that once broke a promise, each shrunk to the steps that matter."""

from __future__ import annotations

import pytest

pytest.importorskip("lupa")

from tests.simulation.schedules import Scenario, Schedule
from tests.simulation.shrinking import breaks


def test_the_end_of_a_loop_in_the_midst_of_a_block_that_ends_is_nothing_to_complain_of() -> None:
    schedule = Schedule(
        6,
        Scenario(duration=20.0, sweep_interval=2.0),
        (
            (0.0, "check", (1, 0, 0.5, 0.5, "fail-closed")),
            (0.013121, "check", (1, 1, 120, 2.0, "fail-closed")),
            (0.007285, "hold", (0, 1, 40.0, 0.0, 4.0)),
            (0.005062, "hold", (0, 0, 10.0, 2.2, 1.0)),
            (0.0, "cancel", (0, 606)),
            (0.000747, "change loop", (0,)),
        ),
    )
    assert breaks(schedule) is None


def test_slots_that_share_a_key_do_not_share_their_open_holds() -> None:
    schedule = Schedule(
        23,
        Scenario(pods=3, has_colons=True, duration=6.0, sweep_interval=2.0, connections=2),
        (
            (0.0, "check", (1, 0, 1.0, 0.05, "fail-closed")),
            (0.0, "wait", (5.0,)),
            (0.0, "ask balance", (1, 1)),
        ),
    )
    assert breaks(schedule) is None


def test_a_shutdown_bills_the_fraction_of_a_unit_that_an_open_block_has_used() -> None:
    schedule = Schedule(
        534,
        Scenario(pods=3, duration=6.0, sweep_interval=4.0, connections=2),
        (
            (0.0, "hold", (2, 0, 10.0, 1.0, 4.0)),
            (0.3, "check", (0, 0, 120, 0.05, "fail-open")),
            (0.3, "check", (1, 1, 1.0, 2.0, "fail-closed")),
        ),
    )
    assert breaks(schedule) is None


def test_the_use_of_a_slab_that_redis_refused_is_noted_at_the_next_sweep() -> None:
    schedule = Schedule(
        398,
        Scenario(
            store="slabs",
            pods=3,
            duration=60.0,
            sweep_interval=2.0,
            slab_lifetime=10.0,
            connections=2,
            spool="never",
            shares_disk=True,
        ),
        (
            (0.0, "check", (0, 0, 1.0, 2.0, "fail-open")),
            (0.0, "wait", (1.0,)),
            (0.0, "redis refuses", ("full", 4.0)),
            (0.0, "check", (0, 0, 1.0, 2.0, "fail-open")),
            (0.001133, "settle", (0, 657, 1.0)),
            (1.9, "settle", (2, 809, 0.5)),
            (1.4, "settle", (1, 897, 1.3)),
            (2.2, "check", (1, 0, 1.0, 0.5, "fail-closed")),
            (3.7, "be busy", (0, 0, 1.0, 20, 0.06)),
            (0.0, "disk loses power", (0,)),
        ),
    )
    assert breaks(schedule) is None


def test_a_shutdown_bills_what_a_block_has_used_whose_renewal_was_refused() -> None:
    schedule = Schedule(
        1147,
        Scenario(
            store="slabs",
            pods=3,
            companies=2,
            rate=2.5,
            balance=150.0,
            duration=20.0,
            ttl=2.0,
            sweep_interval=4.0,
            slab_lifetime=10.0,
            connections=2,
        ),
        (
            (0.0, "check", (0, 0, 3.0, 2.0, "fail-open")),
            (0.0, "be busy", (0, 0, 5.0, 20, 0.06)),
            (0.0, "be busy", (1, 1, 5.0, 20, 0.1)),
            (0.0, "check", (2, 0, 3.0, 2.0, "fail-open")),
            (0.0, "hold", (2, 0, 3.0, 0.5, 4.0)),
        ),
    )
    assert breaks(schedule) is None


def test_a_check_whose_debit_has_not_been_sent_when_the_client_closes_sends_none() -> None:
    schedule = Schedule(
        3011000847,
        Scenario(
            store="slabs",
            is_spread=True,
            pods=1,
            lease_size=1000.0,
            duration=20.0,
            ttl=2.0,
            sweep_interval=2.0,
        ),
        (
            (0.0, "check", (0, 0, 1.0, 0.5, "fail-closed")),
            (0.001493, "check", (0, 0, 1.0, 2.0, "fail-closed")),
            (0.0, "check", (0, 0, 1200, 0.5, "fail-closed")),
            (0.004732, "check many", (0, 0, 1.0, 2.0, "fail-closed", 3)),
            (0.004085, "check", (0, 0, 0.5, 0.05, "fail-closed")),
            (0.0, "check", (0, 0, 1.0, 0.05, "fail-closed")),
            (0.004038, "check", (0, 0, 3.0, 0.5, "fail-closed")),
            (0.3, "check", (0, 0, 130.0, 2.0, "fail-open")),
            (0.0, "check", (0, 0, 3.0, 0.05, "fail-closed")),
            (0.0, "check", (0, 0, 3.0, 2.0, "fail-closed")),
            (0.0, "settle elsewhere", (0, 0, 819, 0.5)),
            (0.0, "check", (0, 0, 1.0, 2.0, "fail-closed")),
            (3.7, "check", (0, 0, 330.0, 2.0, "fail-closed")),
            (4.0, "settle elsewhere", (0, 0, 421, 0.0)),
            (0.0, "settle", (0, 321, 0.5)),
            (0.005723, "prewarm", (0, 0)),
            (0.002976, "check", (0, 0, 1200, 0.5, "fail-closed")),
            (0.001043, "check", (0, 0, 0.5, 2.0, "fail-open")),
            (0.000555, "settle elsewhere", (0, 0, 270, 1.0)),
            (0.005411, "settle", (0, 372, 0.0)),
            (0.0, "settle elsewhere", (0, 0, 911, 1.0)),
            (1.428, "check", (0, 0, 1200, 0.05, "fail-open")),
            (0.006155, "shut down", (0,)),
        ),
    )
    assert breaks(schedule) is None


def test_a_check_keeps_its_timeout_when_the_replicators_cache_does_not_answer() -> None:
    schedule = Schedule(
        482,
        Scenario(
            pods=1,
            duration=20.0,
            sweep_interval=2.0,
            slab_lifetime=10.0,
            spool="never",
            is_replicated=True,
        ),
        (
            (2.0, "check", (0, 0, 0.5, 0.05, "fail-closed")),
            (0.0, "cache fate", (0, "unanswered", "get")),
            (0.003216, "ask gate", (0, 0, 2.0)),
        ),
    )
    assert breaks(schedule) is None


def test_a_company_that_changes_while_the_replicators_flag_is_read_does_not_count_as_nobody() -> (
    None
):
    schedule = Schedule(
        522,
        Scenario(pods=3, duration=20.0, sweep_interval=0.5, shares_disk=True, is_replicated=True),
        (
            (0.0, "prewarm", (2, 0)),
            (0.4, "change gate", ()),
            (0.2827, "ask gate", (1, 0, 2.0)),
            (0.0224, "ask gate", (2, 0, 2.0)),
            (0.0, "ask gate", (0, 0, 2.0)),
            (0.002033, "ask gate", (0, 0, 2.0)),
            (0.002274, "ask balance", (2, 0)),
            (0.002101, "ask gate", (0, 0, 0.5)),
            (1.302, "change gate", ()),
            (0.002019, "check everywhere", (0, 0.5, 2.0, "fail-open")),
            (0.1, "ask gate", (2, 0, 2.0)),
            (0.001674, "change company", (0,)),
        ),
    )
    assert breaks(schedule) is None


def test_a_company_that_this_process_counts_usage_for_is_not_kept_longer_for_that() -> None:
    schedule = Schedule(
        8004711,
        Scenario(
            duration=20.0,
            sweep_interval=0.5,
            slab_lifetime=10.0,
            skew=-3.0,
            buffer_period=0.25,
            shares_disk=True,
            is_replicated=True,
            is_tracked=False,
        ),
        (
            (0.0, "hold", (0, 0, 10.0, 1.0, 4.0)),
            (0.0, "change unheard", (1, 0, "down", 4.0)),
            (1.4, "ask often", (0, 30, 0.003)),
            (3.1, "kill", (2, 2)),
        ),
    )
    assert breaks(schedule) is None


def test_a_flag_that_is_gone_when_it_is_read_again_is_not_used_any_more() -> None:
    schedule = Schedule(
        30001427,
        Scenario(
            store="slabs",
            duration=6.0,
            sweep_interval=2.0,
            shares_disk=True,
            is_replicated=True,
            is_tracked=False,
        ),
        (
            (0.0, "change while read", (0, "gate", 31, 0.5)),
            (0.0326, "key is deleted", ("flag", 1)),
            (0.0, "change unheard", (0, 0, "down", 4.0)),
            (0.0, "wait", (2.0,)),
        ),
    )
    assert breaks(schedule) is None


def test_a_check_during_which_a_newer_replicator_takes_over_does_not_mix_what_both_wrote() -> None:
    schedule = Schedule(
        30002208,
        Scenario(
            pods=1,
            duration=20.0,
            sweep_interval=2.0,
            spool=0.5,
            shares_disk=True,
            is_replicated=True,
        ),
        (
            (0.2, "ask gate", (1, 0, 0.5)),
            (0.0, "change while read", (0, "company", 22, 2.0)),
            (0.005547, "replicator restarts", (True, 0, 0.5)),
            (0.0, "wait", (1.0,)),
        ),
    )
    assert breaks(schedule) is None


def test_a_claim_that_waits_for_a_connection_while_all_are_silent_is_not_expected_in_time() -> None:
    many = (0.0, "check many", (0, 0, 1.0, 2.0, "fail-closed", 3))
    schedule = Schedule(
        80000944,
        Scenario(
            is_spread=True,
            pods=1,
            balance=30.0,
            lease_size=20.0,
            duration=20.0,
            sweep_interval=2.0,
            connections=2,
        ),
        (
            (0.0, "check many", (0, 0, 1.0, 0.5, "fail-open", 12)),
            (0.0, "check", (0, 0, 1.0, 0.5, "fail-closed")),
            many,
            many,
            (0.0, "check", (0, 0, 24, 0.5, "fail-closed")),
            (0.3351, "check", (0, 0, 0.8, 0.5, "fail-closed")),
            (0.0, "check many", (0, 0, 1.0, 2.0, "fail-open", 3)),
            (0.001448, "slow", (0, "service", 300.0, 4.0)),
            (0.000386, "check", (0, 0, 24, 0.5, "fail-closed")),
            (0.0, "settle", (0, 735, 1.3)),
            (0.000702, "silent", (0, "redis", 1.5)),
            (1.0, "redis fate", (0, "lost", 0, "record")),
            (0.4, "be busy", (0, 0, 5.0, 20, 0.06)),
        ),
    )
    assert breaks(schedule) is None


def test_a_lease_that_redis_has_lost_and_that_ends_in_the_millisecond_asked_for_is_not_ours() -> (
    None
):
    schedule = Schedule(
        80005728,
        Scenario(is_spread=True, pods=3, rate=0.1, duration=6.0, sweep_interval=2.0, connections=2),
        (
            (0.1028, "check", (1, 0, 0.5, 0.5, "fail-closed")),
            (0.010896, "check", (2, 0, 62.0, 0.05, "fail-closed")),
            (0.005215, "hold and end", (2, 0, 0.4, 0.5, 0.7)),
            (0.4336, "settle elsewhere", (2, 1, 766, 0.0)),
            (0.006942, "check", (2, 0, 16.0, 0.5, "fail-open")),
            (0.0, "redis restarts", ()),
            (0.0, "check", (2, 0, 240, 0.05, "fail-closed")),
            (0.0, "check", (2, 0, 3.0, 2.0, "fail-closed")),
            (0.001958, "check", (2, 0, 0.5, 0.5, "fail-closed")),
        ),
    )
    assert breaks(schedule) is None


def test_no_request_reaches_redis_when_its_pod_has_long_ended() -> None:
    schedule = Schedule(
        80013852,
        Scenario(pods=3, rate=2.5, lease_size=20.0, duration=20.0, sweep_interval=0.5),
        (
            (0.0043, "settle", (1, 287, 1.3)),
            (0.002543, "settle", (1, 657, 0.0)),
            (0.003338, "wait", (20.0,)),
            (0.002284, "settle", (2, 675, 0.5)),
            (0.0911, "settle", (0, 720, 1.0)),
            (0.0, "hold", (2, 0, 3.0, 0.0, 0.1)),
            (0.006457, "wait", (1.0,)),
            (0.0, "check", (2, 0, 1.0, 2.0, "fail-closed")),
            (0.1013, "redis fate", (1, "cut after", 0, "time")),
            (0.00094, "settle", (1, 197, 0.5)),
            (0.007343, "check", (0, 0, 10, 0.5, "fail-closed")),
            (0.000954, "settle all", (0, 0.5)),
            (0.0, "slow", (2, "redis", 300.0, 4.0)),
            (0.0, "be busy", (2, 0, 1.0, 40, 0.06)),
            (0.1392, "cancel", (1, 319)),
            (0.001075, "redis fate", (0, "cut", 0, "settle")),
            (1.363, "settle", (0, 616, 1.3)),
            (0.2503, "cancel", (1, 386)),
            (0.6357, "check", (1, 0, 0.88, 2.0, "fail-closed")),
            (1.1, "check", (0, 0, 0.5, 2.0, "fail-closed")),
        ),
    )
    assert breaks(schedule) is None


def test_a_request_on_its_way_to_a_redis_that_restarts_never_reaches_the_new_one() -> None:
    schedule = Schedule(
        90014701,
        Scenario(
            pods=3,
            companies=2,
            balance=2000.0,
            lease_size=1000.0,
            duration=20.0,
            sweep_interval=4.0,
            skew=0.4,
            spool="never",
            shares_disk=True,
        ),
        (
            (0.0, "hold and end", (1, 0, 0.8, 1.0, 0.2)),
            (0.3, "check everywhere", (1, 1200, 2.0, "fail-closed")),
            (0.0, "block overtaken", (2, 0, 0.1, "fatal", "hold")),
            (0.001877, "hold and end", (2, 0, 0.8, 1.0, 0.45)),
            (0.0, "redis fate", (2, "late", 0, "install")),
            (0.4, "cut", (1, "redis")),
            (0.0, "check everywhere", (0, 0.5, 2.0, "fail-closed")),
            (0.0, "settle", (0, 811, 1.3)),
            (0.0, "redis restarts", ()),
        ),
    )
    assert breaks(schedule) is None
