"""Schedules with fixed and with fresh seeds; each breaks no promise."""

from __future__ import annotations

import os
import random

import pytest

pytest.importorskip("lupa")

from tests.simulation.runner import run_seeds, spread
from tests.simulation.schedules import Scenario, Schedule, draw_schedule
from tests.simulation.shrinking import as_test, breaks, shrink
from tests.simulation.simulation import Outcome, Simulation

STEPS = 50
FIXED = int(os.environ.get("SCHEMATIC_SCHEDULES", "1700"))
# Other seeds each time: what they find need not be a fault of the change that is tested, but it is one.
FRESH = int(os.environ.get("SCHEMATIC_FRESH_SCHEDULES", "300"))
# So many seeds are one test: several processes of pytest share them.
SHARE = 100


def run_all(seeds: range) -> None:
    for outcome in run_seeds(seeds, STEPS):
        if outcome.violation is not None:
            small = shrink(outcome.schedule)
            pytest.fail(
                f"seed {outcome.schedule.seed}: {outcome.violation}\n{as_test(small, breaks(small) or '')}"
            )


@pytest.mark.parametrize("first", range(1, 1 + FIXED, SHARE))
def test_fixed_seeds_break_no_promise(first: int) -> None:
    run_all(range(first, min(first + SHARE, 1 + FIXED)))


@pytest.mark.parametrize("begun", range(0, FRESH, SHARE))
def test_fresh_seeds_break_no_promise(begun: int) -> None:
    first = random.SystemRandom().randrange(10**9)
    run_all(range(first, first + min(SHARE, FRESH - begun)))


def told(seed: int) -> list[str]:
    """Run a schedule, and return all that it tells."""
    lines: list[str] = []
    Simulation(draw_schedule(seed, STEPS), lines.append).run()
    return lines


def run_and_told(seed: int) -> tuple[Outcome, list[str]]:
    [outcome] = run_seeds(range(seed, seed + 1), STEPS)
    return outcome, told(seed)


def test_a_seed_replays_to_the_letter() -> None:
    # The last has a disk that is full: the error names a directory, and it has another name each time.
    for seed in (3, 14, 79, 117):
        once, again = told(seed), told(seed)
        assert len(once) > STEPS
        assert once == again


def test_a_seed_replays_to_the_letter_in_another_process() -> None:
    # Several pods hear of one change at the same instant in these: whoever is told first must be so anywhere,
    # though objects lie elsewhere and texts have other hashes.
    # In the last three, several batches or timeouts end at one instant.
    seeds = (6, 9, 18, 20, 22, 23, 34, 427, 852, 857)
    here = [run_and_told(seed) for seed in seeds]
    assert all(len(lines) > STEPS for _, lines in here)
    assert list(spread(run_and_told, seeds, 2)) == here


def test_a_schedule_shrinks_to_the_steps_that_matter() -> None:
    def fails(schedule: Schedule) -> str | None:
        kinds = [kind for _, kind, _ in schedule.steps]
        return "both are there" if {"kill", "check"} <= set(kinds) else None

    schedule = Schedule(
        7,
        Scenario(pods=3, rate=2.5),
        tuple((0.25, kind, (0,)) for kind in ("wait", "check", "settle", "kill", "check", "wait")),
    )
    small = shrink(schedule, fails)
    assert [kind for _, kind, _ in small.steps] in (["check", "kill"], ["kill", "check"])
    assert small.scenario == Scenario(pods=1)
    assert "assert breaks(schedule) is None" in as_test(small, "both are there")
