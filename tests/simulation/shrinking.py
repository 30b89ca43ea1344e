"""From a schedule that breaks a promise to the smallest that still does, printed as a test."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

from tests.simulation.schedules import Scenario, Schedule
from tests.simulation.simulation import Simulation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MOST_TRIES = 600


def breaks(schedule: Schedule) -> str | None:
    """Run a schedule; the promise that it breaks."""
    return Simulation(schedule).run().violation


def kind_of(violation: str) -> str:
    """Return what is the same in all violations of one kind: the words, without ids and amounts."""
    return " ".join(word for word in violation.split() if word.strip(",:").isalpha())


def shrink(schedule: Schedule, fails: Callable[[Schedule], str | None] = breaks) -> Schedule:
    """Return a smaller schedule that breaks the same promise."""
    violation = fails(schedule)
    if violation is None:
        raise ValueError("the schedule breaks no promise")
    kind, tries = kind_of(violation), 0
    is_smaller = True
    while is_smaller and tries < MOST_TRIES:
        is_smaller = False
        for smaller in _smaller(schedule):
            tries += 1
            found = fails(smaller)
            if found is not None and kind_of(found) == kind:
                schedule, is_smaller = smaller, True
                break
            if tries >= MOST_TRIES:
                break
    return schedule


def _smaller(schedule: Schedule) -> Iterator[Schedule]:
    """Yield schedules with less in them, those with much less first."""
    count = len(schedule.steps)
    size = max(1, count // 2)
    while True:
        for first in range(count - size, -1, -size):
            yield schedule.without(first, first + size)
        if size == 1:
            break
        size //= 2
    yield from _simpler_scenarios(schedule)
    for at, (gap, kind, particulars) in enumerate(schedule.steps):
        if gap:
            yield schedule.with_step(at, (0.0, kind, particulars))
        if gap != round(gap, 1):
            yield schedule.with_step(at, (round(gap, 1), kind, particulars))


def _simpler_scenarios(schedule: Schedule) -> Iterator[Schedule]:
    scenario = schedule.scenario
    if scenario.pods > 1:
        yield replace(schedule, scenario=replace(scenario, pods=scenario.pods - 1))
    plain = Scenario()
    for name in ("is_spread", "companies", "has_colons", "rate", "balance", "lease_size", "ttl"):
        if getattr(scenario, name) != getattr(plain, name):
            simpler = replace(scenario, **{name: getattr(plain, name)})
            yield replace(schedule, scenario=simpler)


def as_test(schedule: Schedule, violation: str) -> str:
    """Write a schedule as a test."""
    plain = Scenario()
    scenario = ", ".join(
        f"{each.name}={getattr(schedule.scenario, each.name)!r}"
        for each in fields(Scenario)
        if getattr(schedule.scenario, each.name) != getattr(plain, each.name)
    )
    steps = "".join(f"            {step!r},\n" for step in schedule.steps)
    return (
        f"def test_seed_{schedule.seed}() -> None:\n"
        f"    # {violation}\n"
        f"    schedule = Schedule(\n"
        f"        {schedule.seed},\n"
        f"        Scenario({scenario}),\n"
        f"        (\n{steps}        ),\n"
        f"    )\n"
        f"    assert breaks(schedule) is None\n"
    )
