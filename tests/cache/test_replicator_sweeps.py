"""How often a process in replicator mode wakes to forget what is old, under a clock of the test's own."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("lupa")

from schematic_native.cache.replicator import SWEEP
from tests.simulation.schedules import Scenario, Schedule
from tests.simulation.simulation import Simulation
from tests.simulation.world import Loop

SECONDS = 10.0


def sweeps(monkeypatch: pytest.MonkeyPatch, *, is_tracked: bool) -> int:
    """Return how often a process that nobody asks has woken to sweep, once it was connected."""
    delays: list[float] = []
    call_later = Loop.call_later

    def noted(loop: Loop, delay: float, *call: Any, **settings: Any) -> Any:
        delays.append(delay)
        return call_later(loop, delay, *call, **settings)

    scenario = Scenario(pods=1, is_replicated=True, is_tracked=is_tracked)
    simulation = Simulation(Schedule(1, scenario, ()))
    simulation.world.run(1.0)
    monkeypatch.setattr(Loop, "call_later", noted)
    simulation.world.run(SECONDS)
    simulation._dispose()
    return delays.count(SWEEP)


def test_nothing_is_swept_where_changes_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sweeps(monkeypatch, is_tracked=True) == 0


def test_what_is_old_is_swept_where_changes_are_not_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert sweeps(monkeypatch, is_tracked=False) == pytest.approx(SECONDS / SWEEP, abs=2)
