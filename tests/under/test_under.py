"""Probes that need nothing but the tests' own packages run here; and the page has a row for each probe."""

from __future__ import annotations

import datetime as dt
import sys

import pytest

from tests.under import networks, page, processes
from tests.under.__main__ import PROBES
from tests.under.probe import FailedError, Finding, NotTriedError, Probe, Row, examine

QUICK = ["fork", "spawn", "sub-interpreters", "TLS, authority of one's own", "IPv6 only"]
BY_NAME = {probe.name: probe for probe in [*processes.PROBES, *networks.PROBES]}


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
@pytest.mark.parametrize("name", QUICK)
def test_it_works_under(name):
    row = examine(BY_NAME[name])
    assert row.result in {"works", "works with", "refused"}, row


def test_what_the_ledger_does_not_confirm_has_failed():
    row = examine(Probe("group", "name", lambda _: Finding(units=3)))
    assert (row.result, row.note) == ("FAILED", "0 units were billed, not 3")


@pytest.mark.parametrize(
    ("error", "result"), [(NotTriedError("no server"), "not tried"), (FailedError("why"), "FAILED")]
)
def test_a_probe_that_cannot_be_run_says_why(error, result):
    def run(_):
        raise error

    row = examine(Probe("group", "name", run))
    assert row.result == result
    assert str(error) in row.note


def test_a_row_takes_the_place_of_the_one_of_its_name_and_leaves_the_rest():
    order = ["one", "two", "three"]
    first, second = (dt.date(2026, 1, day) for day in (2, 3))
    empty = f"before\n{page.BEGIN}\n{page.END}\nafter\n"
    rows = [
        Row("Networks", "three", "", "not tried", "nothing there"),
        Row("Servers", "one", "1.0", "works", ""),
        Row("Servers", "two", "1.0", "FAILED", "why"),
    ]
    text = page.update(empty, rows, order, first)
    text = page.update(text, [Row("Servers", "two", "1.1", "works", "")], order, second)
    assert text == (
        f"before\n{page.BEGIN}\n"
        "\n## Servers\n\n"
        f"{page.HEAD}\n| --- | --- | --- | --- | --- |\n"
        "| one | 1.0 | works |  | 2026-01-02 |\n"
        "| two | 1.1 | works |  | 2026-01-03 |\n"
        "\n## Networks\n\n"
        f"{page.HEAD}\n| --- | --- | --- | --- | --- |\n"
        "| three |  | not tried | nothing there | 2026-01-02 |\n"
        f"\n{page.END}\nafter\n"
    )


def test_every_probe_is_on_the_page():
    text = page.PAGE.read_text()
    assert [probe.name for probe in PROBES if f"| {probe.name} |" not in text] == []
