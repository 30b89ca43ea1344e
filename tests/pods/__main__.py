"""Run the pods, kill them, and audit."""

from __future__ import annotations

import argparse
import itertools
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis

from schematic_native.emulator import Emulator
from schematic_native.redis import SyncStore, open_store
from tests.conftest import eventually
from tests.pods import journal
from tests.pods.audit import Books, Pods, audit
from tests.pods.pod import LARGEST_SLAB, LARGEST_USAGE, Job
from tests.pods.watch import BY_EXPIRY, CREDIT, RATE, Watch, read_row
from tests.stores.inspection import sweep_all
from tests.stores.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.pods.journal import Story

OPENING = 1e9
# A pod that ends in order must do so within this many seconds.
ENDING = 60.0


class Fleet:
    """Starts pods, kills them and reads what they wrote."""

    def __init__(self, job: dict[str, Any], folder: Path) -> None:
        self._job = job
        self._folder = folder
        self._numbers = itertools.count()
        self._running: list[tuple[subprocess.Popen[bytes], Path]] = []
        self.stories: list[Story] = []

    def start(self) -> None:
        """Start one more pod."""
        number = next(self._numbers)
        path = self._folder / f"{number}.journal"
        fields = self._job | {"journal": str(path), "seed": self._job["seed"] * 1000 + number}
        command = [sys.executable, "-m", "tests.pods.pod", Job(**fields).to_json()]
        self._running.append((subprocess.Popen(command), path))

    def kill(self, at: int) -> None:
        """Kill one without a word."""
        pod, path = self._running.pop(at)
        pod.kill()
        pod.wait()
        self.stories.append(journal.read(path, killed=True))

    def end(self) -> None:
        """Let those that are left come to their end."""
        for pod, path in self._running:
            # Before it is ready a signal would end it without a word.
            eventually(lambda path=path: path.exists() and path.stat().st_size, ENDING)
            pod.send_signal(signal.SIGTERM)
        for pod, path in self._running:
            try:
                pod.wait(ENDING)
            except subprocess.TimeoutExpired:
                pod.kill()
                pod.wait()
            self.stories.append(journal.read(path, killed=False))
        self._running.clear()

    def __len__(self) -> int:
        return len(self._running)


def run(
    *,
    seconds: float,
    pods: int,
    workers: int,
    every: float,
    seed: int,
    asynchronous: bool,
    slabs: bool,
    say: Callable[[str], object] = print,
) -> bool:
    """Run for so many seconds with a kill in each `every`; returns whether every claim held."""
    choose, pause = random.Random(seed), threading.Event()
    server = RedisServer("--appendfsync", "no").start()
    with tempfile.TemporaryDirectory() as folder, Emulator(seed=seed_file()) as emulator:
        job = {
            "url": emulator.base_url,
            "api_key": emulator.api_key,
            "redis_url": server.url,
            "asynchronous": asynchronous,
            "slabs": slabs,
            "workers": workers,
            "seed": seed,
        }
        fleet = Fleet(job, Path(folder))
        try:
            with Watch(server.url, emulator) as watch:
                for _ in range(pods):
                    fleet.start()
                # What is killed before it has held anything shows nothing.
                eventually(lambda: _is_leased(server), ENDING)
                until = time.monotonic() + seconds
                while not pause.wait(every) and time.monotonic() < until:
                    fleet.kill(choose.randrange(len(fleet)))
                    fleet.start()
                fleet.end()
            books = close_books(server, emulator)
        finally:
            fleet.end()
            server.remove()
    in_flight = workers * LARGEST_USAGE * RATE + (LARGEST_SLAB if slabs else 0.0)
    total = Pods(fleet.stories, in_flight)
    _report(say, total, seed)
    claims = audit(total, watch.seen, books)
    for claim in claims:
        say(f"  {'ok  ' if claim.holds else 'FAIL'}  {claim.text}")
    return all(claim.holds for claim in claims)


def _is_leased(server: RedisServer) -> bool:
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        return read_row(client) is not None


def seed_file() -> dict[str, Any]:
    """Make the emulator's seed: one company whose credits never run out."""
    from tests.stress.companies import seed_file as whole  # noqa: PLC0415 - its flags serve here, too

    seed = whole()
    acme = dict(seed["companies"][0])
    acme |= {"id": "comp_acme", "keys": {"id": "acme"}, "credit_balances": {CREDIT: OPENING}}
    return seed | {"companies": [acme]}


def close_books(server: RedisServer, emulator: Emulator) -> Books:
    """Sweep every hold as if its time had come, and end the lease."""
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        store = open_store(client, "schematic:")
        assert isinstance(store, SyncStore)
        while store.run(sweep_all(store.operations, time.time() + 3600)):
            continue
        store.close()
        row = read_row(client)
        assert row is not None
        left = [
            *client.scan_iter("schematic:credit-reservation:*"),
            *client.zrange(BY_EXPIRY, 0, -1),
        ]
    state, events = emulator.state(), emulator.events()
    emulator.advance(3601)
    return Books(row, left, state, events, emulator.audit(), OPENING)


def _report(say: Callable[[str], object], pods: Pods, seed: int) -> None:
    denied = sum((story.denied for story in pods.stories), Counter())
    held = sum(len(story.held) for story in pods.stories)
    say(f"  seed {seed}: {len(pods.stories)} pods, {len(pods.killed)} of them killed")
    say(f"  {held:,} holds, {len(pods.settles):,} settled; denied: {dict(denied)}")


def main() -> int:
    """Run from the command line; 0 only if every claim held."""
    parser = argparse.ArgumentParser(prog="python -m tests.pods", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--pods", type=int, default=8)
    parser.add_argument("--workers", type=int, default=4, help="threads of a pod, or tasks")
    parser.add_argument("--every", type=float, default=1.0, help="seconds between two kills")
    parser.add_argument("--seed", type=int, default=None, help="default: a random one")
    parser.add_argument("--async", dest="asynchronous", action="store_true")
    parser.add_argument("--slabs", action="store_true")
    arguments = parser.parse_args()
    if arguments.seed is None:
        arguments.seed = random.SystemRandom().randrange(1_000_000)
    return 0 if run(**vars(arguments)) else 1


if __name__ == "__main__":
    sys.exit(main())
