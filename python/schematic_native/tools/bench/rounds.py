"""Measures subjects in turns, so that what slows the machine down affects all of them alike."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from schematic_native.tools.bench.series import Series

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schematic_native.tools.bench.subjects import Subject

# Seconds of a sample: long compared with the resolution of the clock, short compared with disturbances.
SAMPLE_SECONDS = 0.001
MICROSECONDS = 1e6
WARM_UP = 3


async def measure(world: str, subjects: Sequence[Subject], rounds: int) -> list[Series]:
    """Take one sample of each subject per round, after a warm-up that also finds the number of calls."""
    sizes = [await _size(subject) for subject in subjects]
    values: dict[tuple[str, str], list[float]] = {}
    turns = list(zip(subjects, sizes, strict=True))
    gc.collect()
    gc.freeze()
    try:
        for _ in range(rounds):
            for subject, size in turns:
                for call, seconds in (await subject.sample(size)).items():
                    each = seconds / size * MICROSECONDS
                    values.setdefault((call, subject.name), []).append(each)
            # The order changes, so that no subject always comes after the slowest.
            turns = [*turns[1:], turns[0]]
    finally:
        gc.unfreeze()
    return [
        Series(call, world, subject, "us", samples) for (call, subject), samples in values.items()
    ]


async def _size(subject: Subject) -> int:
    """Find how many calls make a sample of the right length, which warms the subject up."""
    size = subject.least
    while size < subject.most:
        slowest = max((await subject.sample(size)).values())
        if slowest >= SAMPLE_SECONDS:
            break
        size *= 2
    size = min(size, subject.most)
    for _ in range(WARM_UP):
        await subject.sample(size)
    return size
