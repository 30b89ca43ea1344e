"""Writes the figures of a run into the documentation, as tables between markers; the rest is never touched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from schematic_native.tools.bench import delivered, scenarios
from schematic_native.tools.bench.estimates import estimate, ratio
from schematic_native.tools.bench.subjects import ASYNC, CHECK, CHECK_FLAG, COROUTINE, SETTLE, SYNC
from schematic_native.tools.bench.table import amount, interval

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from schematic_native.tools.bench.series import Series

BEGIN, SUMMARY, END = "<!-- bench: begin -->", "<!-- bench: summary -->", "<!-- bench: end -->"


@dataclass(frozen=True)
class Target:
    """A figure with its target: the most that it may be, or the least that it must be."""

    label: str
    call: str
    subject: str
    goal: float
    at_least: bool = False

    def is_met(self, value: float) -> bool:
        """Tell whether a figure meets the target."""
        return value >= self.goal if self.at_least else value <= self.goal


TARGETS = (
    Target("`check` + `track_with_reservation`, all in", delivered.PAIR, SYNC, 5.0),
    Target("`await check` + `await track_with_reservation`, all in", delivered.PAIR, ASYNC, 6.0),
    Target("one event, from the queue to the service", delivered.DELIVERY, SYNC, 1.5),
    Target(
        "`check` + `track_with_reservation` sustained, nothing dropped",
        delivered.SUSTAINED,
        SYNC,
        120_000,
        at_least=True,
    ),
    Target("events delivered to a service far away", delivered.FAR, SYNC, 30_000, at_least=True),
    Target("p99.9 of a check while the sender is at work", delivered.TAIL, SYNC, 10.0),
    Target("the same, but for the first after a sleep", delivered.AWAKE_TAIL, SYNC, 10.0),
    Target("`Schematic.check_flag`", CHECK_FLAG, SYNC, 0.45),
    Target("`Schematic.check(usage=...)`", CHECK, SYNC, 1.0),
    Target("`Schematic.track_with_reservation`", SETTLE, SYNC, 0.7),
    Target("`await AsyncSchematic.check_flag`", CHECK_FLAG, ASYNC, 0.6),
    Target("`await AsyncSchematic.check(usage=...)`", CHECK, ASYNC, 1.15),
    Target("`await AsyncSchematic.track_with_reservation`", SETTLE, ASYNC, 0.85),
    Target("take in a company", scenarios.INGEST_FULL, scenarios.US, 60),
    Target("take in a partial", scenarios.INGEST_PARTIAL, scenarios.US, 15),
    Target("memory of a cached company", scenarios.MEMORY, scenarios.US, 20),
    Target("import + ready", scenarios.IMPORT, scenarios.US, 25),
    Target("p99.9 of a check while messages stream in", scenarios.TAIL, scenarios.US, 20),
)


def update(text: str, series: Sequence[Series]) -> str:
    """Return a document with the tables between its markers replaced.

    Raises:
        ValueError: there are no markers, or one has no end.

    """
    tables = [(marker, table) for marker, table in _TABLES if marker in text]
    if not tables:
        raise ValueError(f"the document must have the markers {BEGIN} or {SUMMARY}, and {END}")
    for marker, table in tables:
        before, _, rest = text.partition(marker)
        _, end, after = rest.partition(END)
        if not end:
            raise ValueError(f"what begins with the marker {marker} must end with {END}")
        lines = "\n".join(table(series))
        text = f"{before}{marker}\n{lines}\n{end}{after}"
    return text


def summary(series: Sequence[Series]) -> Iterator[str]:
    """Yield a short table in Markdown: calls with the published SDK and with this package."""
    name = next((one.subject for one in series if _is_published(one)), "schematichq")
    yield f"| median | {name} | schematic_native | |"
    yield "| --- | ---: | ---: | ---: |"
    for target in TARGETS:
        for ours in _of(series, target):
            theirs = [one for one in series if _is_published(one) and _same_call(one, ours)]
            if ours.subject == SYNC and theirs:
                before, after = estimate(theirs[0].values).median, estimate(ours.values).median
                times = ratio(theirs[0].values, ours.values).median
                yield (
                    f"| {target.label}, {ours.world} | {amount(before, ours.unit)} "
                    f"| {amount(after, ours.unit)} | {times:,.0f}x |"
                )


def _is_published(series: Series) -> bool:
    return series.subject.startswith("schematichq")


def _same_call(series: Series, other: Series) -> bool:
    """Tell whether two subjects made the same call in the same rounds."""
    same = (series.call, series.world) == (other.call, other.world)
    return same and len(series.values) == len(other.values)


def rows(series: Sequence[Series]) -> Iterator[str]:
    """Yield the table in Markdown: each target with the figure, and ratios from the same rounds."""
    yield "| | target | median (95 % confidence) | beside, in the same rounds |"
    yield "| --- | --- | --- | --- |"
    for target in TARGETS:
        for one in _of(series, target):
            found = estimate(one.values)
            mark = "" if target.is_met(found.median) else " **missed**"
            size = f", {one.world}" if one.world else ""
            goal = f"{target.goal:,.0f}" if target.at_least else f"{target.goal:g}"
            yield (
                f"| {target.label}{size} | {goal} {one.unit} | {amount(found.median, one.unit)} "
                f"({interval(found, one.unit)}){mark} | {_beside(series, one)} |"
            )


def _of(series: Sequence[Series], target: Target) -> list[Series]:
    return [one for one in series if (one.call, one.subject) == (target.call, target.subject)]


def _beside(series: Sequence[Series], one: Series) -> str:
    """Write the cost of each other subject as a multiple of ours, the nearest first."""
    ratios = [
        (ratio(other.values, one.values).median, other.subject)
        for other in series
        if _same_call(other, one) and other.subject not in {one.subject, SYNC, ASYNC, COROUTINE}
    ]
    return ", ".join(f"{subject} {times:,.2f}x" for times, subject in sorted(ratios))


_TABLES = ((BEGIN, rows), (SUMMARY, summary))
