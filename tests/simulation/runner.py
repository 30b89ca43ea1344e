"""Runs the schedules of many seeds, in this process or spread over several; what each comes to is the same."""

from __future__ import annotations

import gc
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import chain
from multiprocessing import get_context
from typing import TYPE_CHECKING, TypeVar

from tests.simulation.schedules import draw_schedule
from tests.simulation.simulation import Outcome, Simulation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")
U = TypeVar("U")
# Schedules of which a process is told at once, and between two looks at all that is in memory.
BATCH = 20


def run_seeds(seeds: range, steps: int, jobs: int = 1) -> Iterator[Outcome]:
    """Run a schedule of each seed, in so many processes; yields in the order of the seeds."""
    batches = [seeds[at : at + BATCH] for at in range(0, len(seeds), BATCH)]
    return chain.from_iterable(spread(partial(_run_batch, steps), batches, jobs))


def spread(call: Callable[[T], U], over: Iterable[T], jobs: int) -> Iterator[U]:
    """Call something with each of these, in so many processes; yields in their order."""
    if jobs == 1:
        with _collected_rarely():
            yield from map(call, over)
        return
    # Spawned rather than forked, so that no process starts with what another has left.
    with ProcessPoolExecutor(jobs, get_context("spawn"), _settle_in) as pool:
        yield from pool.map(call, over)


def _run_batch(steps: int, seeds: Iterable[int]) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for seed in seeds:
        outcomes.append(Simulation(draw_schedule(seed, steps)).run())
        # What a schedule leaves is young, and still at hand.
        gc.collect(0)
    gc.collect()
    return outcomes


@contextmanager
def _collected_rarely() -> Iterator[None]:
    """Let the collector run between schedules only, and look at what they have left only."""
    _settle_in()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.enable()


def _settle_in() -> None:
    gc.disable()
    gc.collect()
    gc.freeze()
