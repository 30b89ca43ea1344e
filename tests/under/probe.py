"""What a probe is: a run that bills units on the emulator, whose ledger is audited afterwards.

A probe never decides whether it passed by itself: the ledger does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from schematic_native.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ROOT = Path(__file__).parent.parent.parent
TIMEOUT = 120
# Usage that is billed outside of its lease: nothing is lost, and nothing is billed twice.
ENDED = "track event of an ended lease"


class NotTriedError(Exception):
    """What a probe needs is not here; the message says what."""


class FailedError(Exception):
    """The program did not do what it should; the message says what happened."""


class Finding(NamedTuple):
    """What a run has shown.

    Attributes:
        units: what must be billed.
        versions: of what it ran under.
        result: "works", "works with ..." or "refused".
        note: what a reader should know.
        is_shared: several processes have spent one lease. Then nobody may release it, and one that is
            released all the same has usage billed after its end.

    """

    units: int
    versions: str = ""
    result: str = "works"
    note: str = ""
    is_shared: bool = False


class Probe(NamedTuple):
    """Something to run under."""

    group: str
    name: str
    run: Callable[[Emulator], Finding]


class Row(NamedTuple):
    """One row of the page."""

    group: str
    name: str
    versions: str
    result: str
    note: str


def examine(probe: Probe) -> Row:
    """Run a probe on an emulator of its own, and audit the ledger."""
    try:
        with Emulator() as emulator:
            finding = probe.run(emulator)
            problems = audit(emulator, finding)
    except NotTriedError as error:
        return Row(probe.group, probe.name, "", "not tried", str(error))
    except (FailedError, OSError, subprocess.SubprocessError) as error:
        return Row(probe.group, probe.name, "", "FAILED", f"{type(error).__name__}: {error}")
    if problems:
        return Row(probe.group, probe.name, finding.versions, "FAILED", "; ".join(problems))
    return Row(probe.group, probe.name, finding.versions, finding.result, finding.note)


def audit(emulator: Emulator, finding: Finding) -> Sequence[str]:
    """Compare the emulator's ledger with what a program says it used; returns what disagrees."""
    state, units = emulator.state(), billed(emulator)
    problems = list(emulator.audit()["problems"])
    if units != finding.units:
        problems.append(f"{units} units were billed, not {finding.units}")
    anomalies = {name for name in state["anomalies"] if not finding.is_shared or name != ENDED}
    if anomalies:
        problems.append(f"anomalies: {sorted(anomalies)}")
    active = [lease for lease in state["leases"].values() if lease["status"] == "active"]
    if active and not finding.is_shared:
        problems.append(f"{len(active)} leases were not released")
    return problems


def billed(emulator: Emulator) -> int:
    """Return the units that the ledger has."""
    return int(emulator.state()["billed"].get("comp_acme", {}).get("inference_tokens", 0))


def environment(emulator: Emulator, **more: str) -> dict[str, str]:
    """Return the environment of a program: nothing of this process's own network settings."""
    kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    return {
        **kept,
        "SCHEMATIC_URL": emulator.base_url,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'python'}",
        "PYTHONWARNINGS": "ignore::DeprecationWarning",
        **more,
    }


def program(
    emulator: Emulator,
    name: str,
    *arguments: str,
    python: Sequence[str] = (sys.executable,),
    env: Mapping[str, str] | None = None,
) -> Any:
    """Run a program of this package to its end; returns what it printed."""
    return json.loads(
        output([*python, "-m", f"tests.under.programs.{name}", *arguments], emulator, env or {})
    )


def output(command: Sequence[str], emulator: Emulator, env: Mapping[str, str]) -> str:
    """Run a command to its end; returns what it printed.

    Raises:
        FailedError: its exit status is not 0.

    """
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
        cwd=ROOT,
        env=environment(emulator, **env),
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise FailedError(f"exit status {done.returncode}: {' / '.join(lines[-3:])}")
    return done.stdout
