"""The benchmark: its estimates, verdicts, reports and command line. No test asserts a time."""

from __future__ import annotations

import html.parser
import json
import random
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest
import redis

from schematic_native._native import Core
from schematic_native.tools.bench import delivered, series, shared, sink
from schematic_native.tools.bench.document import BEGIN, END, SUMMARY, TARGETS, update
from schematic_native.tools.bench.estimates import change, count_outliers, estimate, ratio
from schematic_native.tools.bench.page import render
from schematic_native.tools.bench.rounds import measure
from schematic_native.tools.bench.series import Series
from schematic_native.tools.bench.subjects import ASYNC, CHECK, CHECK_FLAG, SETTLE, SYNC, Subject
from schematic_native.tools.bench.table import amount, changes, lines
from schematic_native.tools.subcommands import main

if TYPE_CHECKING:
    from pathlib import Path

CHANCE = random.Random(1)
STEADY = [1.0 + CHANCE.gauss(0, 0.01) for _ in range(40)]


def faster(values: list[float], times: float) -> list[float]:
    return [value / times for value in values]


def one(
    call: str, subject: str, values: list[float], world: str = "small", unit: str = "us"
) -> Series:
    return Series(call, world, subject, unit, values)


RUN = [
    one(CHECK_FLAG, SYNC, STEADY),
    one(CHECK_FLAG, ASYNC, faster(STEADY, 0.5)),
    one(CHECK_FLAG, "another <SDK>", faster(STEADY, 0.1)),
    one(CHECK, SYNC, faster(STEADY, 2)),
    one("ingest a company", "schematic_native", [30.0, 31.0, 95.0, 30.5], "15 KB"),
    one("a cached company", "schematic_native", [18.3], "15 KB of JSON", "KB"),
]


# Estimates


def test_the_interval_holds_the_median_and_is_narrow_for_steady_samples():
    found = estimate(STEADY)
    assert found.low <= found.median <= found.high
    assert found.high - found.low < 0.02
    wide = estimate([1.0, 9.0, 2.0, 8.0, 3.0, 7.0])
    assert wide.high - wide.low > 2


def test_the_same_samples_give_the_same_interval():
    assert estimate(STEADY) == estimate(list(STEADY))


def test_a_single_sample_is_its_own_interval():
    found = estimate([4.0])
    assert (found.median, found.low, found.high, found.outliers) == (4.0, 4.0, 4.0, 0)


def test_samples_beyond_the_fences_are_counted_and_kept():
    assert count_outliers([*STEADY, 5.0, 0.1]) - count_outliers(STEADY) == 2
    assert estimate([1.0, 1.0, 50.0]).median == 1.0


def test_a_ratio_is_taken_round_by_round():
    drifting = [1.0, 2.0, 3.0, 4.0]
    found = ratio([3.0, 6.0, 9.0, 12.0], drifting)
    assert (found.median, found.low, found.high) == (3.0, 3.0, 3.0)
    with pytest.raises(ValueError, match="longer"):
        ratio([1.0], drifting)


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        (STEADY, "same"),
        (faster(STEADY, 1.2), "faster"),
        (faster(STEADY, 0.8), "slower"),
        (faster(STEADY, 1.01), "same"),  # certain, but too small to matter
        ([0.2, 3.0, 0.3, 2.0, 0.25, 1.4], "same"),  # large, but not certain
    ],
)
def test_a_change_must_be_certain_and_noteworthy(after, verdict):
    found = change(STEADY, after)
    assert found.verdict == verdict
    assert found.low <= found.high


# Rounds


async def test_every_subject_takes_its_turn_in_every_round():
    order = []

    def subject(name: str) -> Subject:
        async def sample(count: int) -> dict[str, float]:
            order.append(name)
            return {CHECK: count * 2e-6, SETTLE: count * 1e-6}

        return Subject(name, sample, most=8)

    found = await measure("small", [subject("a"), subject("b"), subject("c")], 5)
    turns = order[-15:]
    assert [set(turns[at : at + 3]) for at in range(0, 15, 3)] == [{"a", "b", "c"}] * 5
    assert len({tuple(turns[at : at + 3]) for at in range(0, 15, 3)}) > 1
    assert {one.name for one in found} == {
        (call, "small", name) for call in (CHECK, SETTLE) for name in "abc"
    }
    assert all(len(one.values) == 5 for one in found)
    (checks,) = {value for one in found for value in one.values if one.call == CHECK}
    assert checks == pytest.approx(2.0)


# Showing


def test_the_table_shows_ratios_to_our_own_client():
    text = "\n".join(lines(RUN))
    assert "10.00x" in text
    assert "2.00x" in text
    assert "30.75 us" in text
    assert "1/4" in text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(0.1234, "us", "0.123 us"), (12.345, "ms", "12.35 ms"), (1234.5, "us", "1,234 us")],
)
def test_an_amount_shows_three_digits(value, unit, text):
    assert amount(value, unit) == text


def test_changes_are_shown_for_the_series_of_the_baseline():
    before = {one.name: one for one in RUN[:2]}
    after = [one(CHECK_FLAG, SYNC, faster(STEADY, 2)), *RUN[2:]]
    (line,) = changes(after, before)
    assert line.endswith("faster")
    assert "-50.0%" in line


class Outline(html.parser.HTMLParser):
    """Which elements are open, and what the page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.references: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.references += [value for name, value in attrs if name in {"src", "href"}]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_refers_to_nothing_outside():
    page = render(RUN)
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    assert outline.references == []
    assert "<SDK>" not in page
    assert "another &lt;SDK&gt;" in page
    assert outline.seen.count("circle") == sum(len(one.values) for one in RUN)
    assert "10.00x" in page


def test_the_document_gets_the_table_and_keeps_the_rest():
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    new = update(text, RUN)
    assert new.startswith(f"before\n{BEGIN}\n|")
    assert new.endswith(f"|\n{END}\nafter\n")
    assert "old" not in new
    assert "another <SDK> 10.00x" in new
    assert "schematic_native 1.00x" not in new
    missed = [line.split(" | ")[0] for line in new.splitlines() if "**missed**" in line]
    # 1 us and 2 us are above the targets of a flag check, 0.5 us is below that of a check.
    assert missed == [
        "| `Schematic.check_flag`, small",
        "| `await AsyncSchematic.check_flag`, small",
    ]
    assert update(new, RUN) == new


def test_the_summary_compares_with_the_published_sdk_alone():
    pairs = [("schematichq 1.4.6", 500.0), (SYNC, 0.5), (ASYNC, 0.6), ("another <SDK>", 5.0)]
    run = [one(CHECK, subject, [cost] * 5) for subject, cost in pairs]
    new = update(f"a\n{SUMMARY}\nold\n{END}\nb\n{BEGIN}\n{END}\n", run)
    summary, rest = new.split(END, 1)
    lines = summary.splitlines()
    assert lines[:2] == ["a", SUMMARY]
    assert "schematichq 1.4.6" in lines[2]
    assert lines[4:] == ["| `Schematic.check(usage=...)`, small | 500 us | 0.500 us | 1,000x |"]
    assert rest.startswith(f"\nb\n{BEGIN}\n|")


def test_a_document_without_markers_is_refused():
    with pytest.raises(ValueError, match="bench: begin"):
        update("text", RUN)
    with pytest.raises(ValueError, match="must end with"):
        update(f"text {SUMMARY} text", RUN)


def test_a_rate_is_missed_below_its_target_and_a_time_above():
    run = [
        one(delivered.SUSTAINED, SYNC, [119_000.0], "", "/s"),
        one(delivered.FAR, SYNC, [50_000.0], "100 ms", "/s"),
        one(delivered.PAIR, SYNC, [5.1]),
    ]
    *_, pair, sustained, far = update(f"{BEGIN}\n{END}", run).splitlines()[:-1]
    assert "| 5 us | 5.10 us (5.10 to 5.10) **missed** |" in pair
    assert "| 120,000 /s | 119,000 /s (119,000 to 119,000) **missed** |" in sustained
    assert "| 30,000 /s | 50,000 /s (50,000 to 50,000) |" in far


def test_every_target_has_its_own_call():
    assert len({(target.call, target.subject) for target in TARGETS}) == len(TARGETS)


# Files and the command line


def test_a_run_reads_back_as_it_was_written(tmp_path: Path):
    file = tmp_path / "deep" / "run.json"
    series.write(file, RUN)
    assert series.read(file) == RUN


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 0}'])
def test_a_file_that_is_not_a_run_is_refused(tmp_path: Path, text: str):
    file = tmp_path / "run.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"run\.json"):
        series.read(file)


def test_the_samples_reach_pyperf(tmp_path: Path):
    pyperf = pytest.importorskip("pyperf")
    from schematic_native.tools.bench.pyperf import export  # noqa: PLC0415 - it needs pyperf

    export(tmp_path / "run.json", RUN)
    suite = pyperf.BenchmarkSuite.load(str(tmp_path / "run.json"))
    found = suite.get_benchmark(f"{CHECK} / small / {SYNC}")
    assert found.median() == pytest.approx(estimate(RUN[3].values).median * 1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--samples", "0"], "--samples must be 1 or more"),
        (["--save", "../x"], "a baseline's name"),
        (["--baseline", "never-saved"], "the baseline cannot be read"),
        (["--redis", "localhost:6379"], "--redis must be the URL of a Redis server"),
        (["--redis", "--document", "README.md"], "leave --redis out"),
    ],
)
def test_a_wrong_argument_is_reported_before_anything_is_measured(arguments, message, capsys):
    assert main(["bench", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_command_measures_saves_and_compares(tmp_path: Path):
    command = [
        sys.executable,
        "-m",
        "schematic_native.tools.subcommands",
        "bench",
        "--samples",
        "2",
    ]
    command += ["--worlds", "small", "--calls-only"]

    def run(*more: str) -> str:
        done = subprocess.run(
            [*command, *more],
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    first = run("--save", "first", "--html", "report.html")
    assert first.splitlines()[-1] == f"report: {(tmp_path / 'report.html').as_uri()}"
    second = run("--baseline", "first", "--json", "second.json")
    assert "changed from first:" in second
    measured = json.loads((tmp_path / "second.json").read_text())["series"]
    names = {(one["call"], one["subject"]) for one in measured}
    assert {(call, who) for call in (CHECK_FLAG, CHECK, SETTLE) for who in (SYNC, ASYNC)} <= names
    assert all(value > 0 for one in measured for value in one["values"])
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


# Until delivered


def test_every_client_is_measured_until_its_events_are_delivered(monkeypatch):
    monkeypatch.setattr(delivered, "OUR_PAIRS", 100)
    monkeypatch.setattr(delivered, "WARM_PAIRS", 50)
    found = list(delivered.measure(["small"], 2, None))
    assert [series.name for series in found] == [
        (delivered.PAIR, "small", SYNC),
        (delivered.PAIR, "small", ASYNC),
        (delivered.DELIVERY, "small", SYNC),
    ]
    assert all(len(series.values) == 2 and min(series.values) > 0 for series in found)


def test_a_client_is_measured_while_its_sender_is_at_work(monkeypatch):
    monkeypatch.setattr(delivered, "PACED_SECONDS", 0.05)
    monkeypatch.setattr(delivered, "RATES", (1000, 2000))
    monkeypatch.setattr(delivered, "RATE_SECONDS", 0.1)
    monkeypatch.setattr(delivered, "KEPT", 0.1)
    monkeypatch.setattr(delivered, "EVENTS", 1000)
    found = {series.name: series.values for series in delivered.at_work()}
    assert {call for call, _, _ in found} == {
        delivered.TAIL,
        delivered.AWAKE_TAIL,
        delivered.SUSTAINED,
        delivered.FAR,
    }
    assert all(min(values) > 0 for values in found.values())


def test_the_sink_counts_the_events_of_every_request():
    core = Core(api_key="k")
    for _ in range(150):
        core.track("tokens")
    with sink.running() as service:
        for count in (100, 150):
            batch = core.take_batch()
            answer = httpx.post(f"{service.url}/batch", content=batch.body, timeout=60)
            assert answer.status_code == 200
            assert service.taken() == count


# Leases in Redis


def test_the_table_of_redis_shows_the_speed_relative_to_the_published_sdk():
    series = [
        one(shared.PAIR, shared.SYNC, STEADY),
        one(shared.PAIR, shared.SYNC_SLAB, faster(STEADY, 100)),
        one(shared.PAIR, "schematichq 1.4.6, Redis", faster(STEADY, 0.125)),
    ]
    header, *rows = shared.lines(series)
    assert header.endswith("times as fast")
    assert [row.split()[-1] for row in rows[:2]] == ["8.0x", "800.0x"]
    assert not rows[2].endswith("x")


def test_the_command_measures_leases_in_redis_and_leaves_the_server_as_it_was(
    redis_server, tmp_path: Path
):
    with redis.Redis.from_url(redis_server.url) as client:
        client.set("of somebody else", 1)
        file = tmp_path / "run.json"
        command = ["bench", "--redis", redis_server.url, "--samples", "2", "--worlds", "small"]
        assert main([*command, "--json", str(file)]) == 0
        assert client.keys() == [b"of somebody else"]
    measured = json.loads(file.read_text())["series"]
    names = {(one["call"], one["subject"]) for one in measured}
    ours = (shared.SYNC, shared.ASYNC, shared.SYNC_SLAB, shared.ASYNC_SLAB)
    assert {(call, who) for call in (CHECK, SETTLE, shared.PAIR) for who in ours} <= names
    assert all(value > 0 for one in measured for value in one["values"])


def test_a_server_of_its_own_is_started_and_stopped():
    with shared.own_server() as url, redis.Redis.from_url(url) as client:
        assert client.ping()
    with redis.Redis.from_url(url) as client, pytest.raises(redis.ConnectionError):
        client.ping()


def test_a_missing_server_is_named(monkeypatch, capsys):
    monkeypatch.setattr(shared.shutil, "which", lambda _: None)
    assert main(["bench", "--redis", "--samples", "1"]) == 1
    assert "redis-server is not installed" in capsys.readouterr().err
