"""Writes samples in the format of pyperf, for its `stats`, `hist`, `check` and `compare_to`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyperf

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from schematic_native.tools.bench.series import Series

SECONDS = {"us": 1e-6, "ms": 1e-3}


def export(path: Path, series: Sequence[Series]) -> None:
    """Write each series of times as one benchmark; the others are left out."""
    benchmarks = [
        pyperf.Benchmark(
            [
                pyperf.Run(
                    [value * SECONDS[one.unit] for value in one.values],
                    metadata={"name": " / ".join(filter(None, one.name)), "unit": "second"},
                    collect_metadata=False,
                )
            ]
        )
        for one in series
        if one.unit in SECONDS
    ]
    pyperf.BenchmarkSuite(benchmarks).dump(str(path), replace=True)
