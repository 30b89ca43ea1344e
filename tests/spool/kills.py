"""Kills processes in the midst of settling, and holds what they said against what the service billed.

`python -m tests.spool.kills --settles 10000 --kills 100 --seed 1` runs it in full.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schematic_native.emulator import Emulator
from tests.conftest import eventually
from tests.spool import settler

if TYPE_CHECKING:
    from schematic_native import Schematic

PERIOD = 0.02  # seconds between two flushes: kills are to hit deliveries, too
CREDIT = 1e9
# Room for all that a process says, so that it never waits for the reader.
PIPE = 1024 * 1024
# Seconds that a check and its settle take there, more or less.
SETTLE = 10e-6
# For whatever a busy machine may take.
PATIENCE = 120.0


@dataclass
class Outcome:
    """What processes said of their settles, and what came of it."""

    begun: set[str] = field(default_factory=set)
    done: set[str] = field(default_factory=set)
    billed: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    repeats: int = 0
    adopted: int = 0

    @property
    def lost(self) -> set[str]:
        """Settles that returned and were not billed."""
        return self.done - self.billed.keys()

    @property
    def invented(self) -> set[str]:
        """Settles that were billed and never begun."""
        return self.billed.keys() - self.begun

    @property
    def doubled(self) -> set[str]:
        return {each for each, units in self.billed.items() if units != 1}

    def __str__(self) -> str:
        cut = len(self.begun - self.done)
        return (
            f"{self.kills} kills: {len(self.done)} settles returned, {cut} were cut short. "
            f"{len(self.billed)} are billed, with {sum(self.billed.values())} units; {self.repeats} were "
            f"sent again, {self.adopted} adopted by the last. Lost {len(self.lost)}, billed twice "
            f"{len(self.doubled)}, invented {len(self.invented)}."
        )


def run(settles: int, kills: int, seed: int, fsync: float | str = "never") -> Outcome:
    """Settle so often in all, by so many processes of which each is killed."""
    chance, outcome = random.Random(seed), Outcome()
    with Emulator() as emulator, tempfile.TemporaryDirectory() as directory:
        for company in emulator.state()["companies"].values():
            for credit in company.get("credit_balances", {}):
                emulator.set_balance(company["id"], credit, CREDIT)
        job = {
            "url": emulator.base_url,
            "api_key": emulator.api_key,
            "directory": directory,
            "period": PERIOD,
            "fsync": fsync,
        }
        longest = 2 * settles / kills * SETTLE
        while outcome.kills < kills or len(outcome.done) < settles:
            _settle_and_kill(job, outcome, chance.uniform(0, longest))
        outcome.adopted = _deliver_the_rest(job)
        _read(emulator.events(), outcome)
        assert not list(Path(directory).rglob("*.v1")), "a segment was left"
    return outcome


def _settle_and_kill(job: dict[str, Any], outcome: Outcome, seconds: float) -> None:
    """Let one process settle for so long, and kill it wherever it is then."""
    command = [sys.executable, "-m", "tests.spool.settler", json.dumps(job)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, pipesize=PIPE
    ) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        # Not until anything: a kill is to come at any point.
        threading.Event().wait(seconds)
        process.kill()
        said += process.stdout.read()
    assert process.returncode == -signal.SIGKILL, "it ended by itself"
    outcome.kills += 1
    for line in said.decode().splitlines():
        word, reservation_id = line.split()
        (outcome.begun if word == "begun" else outcome.done).add(reservation_id)


def _deliver_the_rest(job: dict[str, Any]) -> int:
    client: Schematic = settler.make(job)
    try:
        client.initialize()
        eventually(lambda: not _left(client, Path(job["directory"])), PATIENCE)
        spool = client.status().spool
        assert spool is not None
        assert spool.parked == 0
        return spool.adopted
    finally:
        client.shutdown()


def _left(client: Schematic, directory: Path) -> bool:
    """Whether there are files of others, or events that were not delivered."""
    spool = client.status().spool
    assert spool is not None
    owners = {path.stem for path in directory.rglob("*.lock")}
    owners |= {path.stem.rpartition(".")[0] for path in directory.rglob("*.v1")}
    return spool.events > 0 or len(owners) > 1


def _read(events: list[dict[str, Any]], outcome: Outcome) -> None:
    for event in events:
        if event["type"] != "track":
            continue
        if event.get("duplicate"):
            outcome.repeats += 1
            continue
        key = event["idempotency_key"].removeprefix("lease-reservation:")
        outcome.billed[key] += event["body"]["quantity"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settles", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    outcome = run(options.settles, options.kills, options.seed)
    sys.stdout.write(f"{outcome}\n")
    sys.exit(bool(outcome.lost or outcome.doubled or outcome.invented))


if __name__ == "__main__":
    main()
