"""The guard over instruction counts: what it lets pass and what not."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHES = Path(__file__).parent.parent / "benches"
SPEC = importlib.util.spec_from_file_location("instructions", BENCHES / "instructions.py")
assert SPEC is not None
assert SPEC.loader is not None
instructions = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(instructions)


@pytest.mark.parametrize(
    ("counted", "is_within", "says"),
    [
        (1000, True, "ok"),
        (1049, True, "ok"),
        (1060, False, "over the budget by 6.0%"),
        (900, True, "lower the budget"),
    ],
)
def test_a_count_is_within_the_tolerance_or_over_the_budget(counted, is_within, says):
    ((line, verdict),) = instructions.compare({"check:small": counted}, {"check:small": 1000})
    assert verdict is is_within
    assert says in line


def test_a_call_without_a_budget_is_told():
    ((line, verdict),) = instructions.compare({"check:small": 1000}, {})
    assert not verdict
    assert "--update" in line


def test_every_call_has_a_budget():
    budget = json.loads((BENCHES / "instructions.json").read_text())
    assert set(budget["instructions"]) == set(instructions.CASES)


@pytest.mark.parametrize(
    ("program", "call"),
    [
        ("batches.py", "write:small=1"),
        ("batches.py", "deliver:small=1"),
        ("loop.py", "check:small=1"),
    ],
)
def test_the_programs_that_are_counted_run(program, call):
    command = [sys.executable, str(BENCHES / program), call]
    subprocess.run(command, timeout=250, check=True)
