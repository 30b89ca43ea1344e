"""Programs for the published package: their output is the same with this one in its place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from schematic_native.emulator import Emulator

pytest.importorskip("schematic.client", reason="dependency group `peer`")

PROGRAMS = Path(__file__).parent / "programs"
OURS = [sys.executable, "-m", "schematic_native.install"]


def run(emulator: Emulator, words: list[str], program: str, *arguments: str) -> list[str]:
    place = {"SCHEMATIC_URL": emulator.base_url, "SCHEMATIC_KEY": emulator.api_key}
    done = subprocess.run(
        [*words, str(PROGRAMS / program), *arguments],
        env={**os.environ, **place},
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def billed(emulator: Emulator) -> list[dict[str, int]]:
    """Tell what was billed, whatever ids the companies have."""
    return sorted(emulator.state()["billed"].values(), key=str)


def test_a_day_of_a_service_is_the_same_with_either_package() -> None:
    source = (PROGRAMS / "one_day.py").read_text()
    assert "schematic_native" not in source
    with Emulator() as before, Emulator() as after:
        theirs = run(before, [sys.executable], "one_day.py", "a", "b")
        ours = run(after, OURS, "one_day.py", "a", "b")
        assert ours == theirs
        assert "as arguments: ['a', 'b']" in ours
        assert billed(after) == billed(before) == [{"inference_tokens": 60, "report_exported": 2}]
        assert after.state()["unknown"] == {}
        assert after.audit()["balanced"]


def test_the_jobs_of_the_manual_are_done_the_same_with_either_package() -> None:
    with Emulator() as before, Emulator() as after:
        theirs = run(before, [sys.executable], "jobs.py")
        ours = run(after, OURS, "jobs.py")
        assert theirs.pop() == "# schematic.client"
        assert ours.pop().startswith("# schematic_native.client")
        assert ours == theirs
        assert billed(after) == billed(before)
        assert after.audit()["balanced"]


def sent(emulator: Emulator) -> list[str]:
    """Tell which events were sent, apart from the ids of holds and the instant of sending."""
    bodies = [
        {name: value for name, value in event["body"].items() if value is not None}
        for event in emulator.events()
        if event["type"] != "flag_check"
    ]
    ids = ("lease_id", "reservation_id")
    return sorted(
        json.dumps({name: "an id" if name in ids else body[name] for name in body}, sort_keys=True)
        for body in bodies
    )


def test_a_worker_sends_the_same_events_with_either_package() -> None:
    with Emulator() as before, Emulator() as after:
        theirs = run(before, [sys.executable], "worker.py")
        ours = run(after, OURS, "worker.py")
        assert ours == theirs
        assert sent(after) == sent(before)
        assert any('"2026-01-02T12:00:00Z"' in each for each in sent(after))
        assert billed(after) == billed(before)
        assert after.audit()["balanced"]
