"""The demo, as a user runs it: it exits with 0 only if the ledger balances."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from schematic_native.tools import demo
from tests.conftest import PATIENCE

EXAMPLE = Path(demo.__file__).parents[1] / "emulator" / "inference.json"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "schematic_native.tools.subcommands", "demo", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)


@pytest.mark.parametrize("kind", [[], ["--async"]], ids=["sync", "async"])
def test_the_demo_audits_what_it_did(kind: list[str]) -> None:
    done = run("--seconds", "1", "--threads", "3", *kind)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAIL" not in done.stdout
    for row in (
        "checks",
        "allowed",
        "denied:",
        "credits consumed",
        "lease calls",
        "events delivered",
        "processor time",
        "p50",
        "audit",
    ):
        assert row in done.stdout
    checks = re.search(r"checks +([\d,]+) \(", done.stdout)
    assert checks is not None
    assert int(checks[1].replace(",", "")) > 0


def test_the_demo_says_how_to_look_at_its_ledger() -> None:
    assert (
        run("--seconds", "0.2").stdout.splitlines()[-1].startswith("The emulator ends now: --stay")
    )


STAY = """
import signal, sys
from schematic_native.tools.subcommands import main

# Ignored in what a shell runs in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main(["demo", "--stay", "--seconds", "0.2"]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for one process")
def test_a_demo_that_stays_shows_its_dashboard_until_it_is_interrupted() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STAY], stdout=subprocess.PIPE, text=True
    ) as staying:
        try:
            assert staying.stdout is not None
            line = next(line for line in staying.stdout if line.startswith("dashboard: "))
            page = httpx.get(line.split()[1])
            assert page.is_success
            assert "acme" in page.text
        finally:
            staying.send_signal(signal.SIGINT)
        assert staying.wait(PATIENCE) == 0


@pytest.mark.parametrize("kind", [[], ["--async"]], ids=["sync", "async"])
def test_the_ledger_adds_up_after_the_service_was_killed_and_came_back(kind: list[str]) -> None:
    done = run("--seconds", "5", "--threads", "2", "--outage", "0.5", *kind)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kill -9 of the emulator" in done.stdout
    assert "the emulator is back" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--seconds", "0"),
        ("--seconds", "nan"),
        ("--seconds", "1e400"),
        ("--threads", "-1"),
        ("--threads", "99999999999"),
        ("--outage", "-1"),
    ],
)
def test_an_impossible_run_is_refused(option: str, value: str) -> None:
    done = run(option, value)
    assert done.returncode == 2
    assert f"{option} must be more than 0" in done.stderr


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "No such file"), ("{", "not valid JSON"), ('{"api_key": 5}', "api_key")],
)
def test_an_unreadable_seed_is_reported_without_a_traceback(
    tmp_path: Path, content: str | None, says: str
) -> None:
    seed = tmp_path / "seed.json"
    if content is not None:
        seed.write_text(content)
    done = run("--seed", str(seed))
    assert done.returncode == 1
    assert done.stderr.startswith("schematic-native demo: ")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("lacking", ["flags", "companies"])
def test_a_demo_that_held_no_credits_has_not_succeeded(tmp_path: Path, lacking: str) -> None:
    seed = tmp_path / "seed.json"
    seed.write_text(json.dumps(json.loads(EXAMPLE.read_text()) | {lacking: []}))
    done = run("--seconds", "0.2", "--seed", str(seed))
    assert done.returncode == 1
    assert "no check held credits" in done.stderr


def test_an_audit_that_does_not_balance_fails() -> None:
    tally = demo.Tally(credits=20.0)
    tally.units["comp_acme"] = 10
    lease = {"granted": 100, "tracked": 20, "released_at": 1.0}
    state = {"billed": {"comp_acme": {demo.EVENT: 10}}, "leases": {"l": lease}}
    book = {"balanced": True, "problems": []}
    assert demo.audit(tally, state, book)
    assert not demo.audit(tally, state, book | {"balanced": False})
    assert not demo.audit(tally, state | {"billed": {"comp_acme": {demo.EVENT: 9}}}, book)
    assert not demo.audit(tally, state | {"leases": {"l": lease | {"released_at": None}}}, book)
    assert not demo.audit(tally, state | {"leases": {"l": lease | {"tracked": 18}}}, book)
