"""The tables of docs/works_under.md, between two marks; the text around them is written by people."""

from __future__ import annotations

import datetime as dt
from itertools import groupby
from typing import TYPE_CHECKING

from tests.under.probe import ROOT, Row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

PAGE = ROOT / "docs/works_under.md"
BEGIN = "<!-- begin: written by `make works-under` -->"
END = "<!-- end -->"
HEAD = "| under | tried with | result | | on |"


def write(rows: Iterable[Row], order: Sequence[str]) -> None:
    """Put rows into the page; those of other probes stay, in the order of the names."""
    PAGE.write_text(update(PAGE.read_text(), rows, order, dt.datetime.now(dt.timezone.utc).date()))


def update(text: str, rows: Iterable[Row], order: Sequence[str], today: dt.date) -> str:
    """Return the page with these rows, dated today, instead of those that it had of the same names."""
    before, _, rest = text.partition(BEGIN)
    table, _, after = rest.partition(END)
    lines = dict(_read(table)) | {row.name: (row.group, _line(row, today)) for row in rows}
    kept = [lines[name] for name in order if name in lines]
    return "\n".join([before + BEGIN, *_tables(kept), END + after])


def _line(row: Row, today: dt.date) -> str:
    return f"| {row.name} | {row.versions} | {row.result} | {row.note} | {today} |"


def _read(table: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield the name, the group and the line of each row."""
    group = ""
    for line in table.splitlines():
        if line.startswith("## "):
            group = line.removeprefix("## ")
        elif line.startswith("| ") and line != HEAD and not line.startswith("| ---"):
            yield line.split(" | ")[0].removeprefix("| "), (group, line)


def _tables(lines: Iterable[tuple[str, str]]) -> Iterator[str]:
    for group, members in groupby(lines, key=lambda line: line[0]):
        yield f"\n## {group}\n\n{HEAD}\n| --- | --- | --- | --- | --- |"
        yield from (line for _, line in members)
    yield ""
