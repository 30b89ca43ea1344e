"""Probes of processes, event loops and interpreters within one machine."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.stores.servers import RedisServer
from tests.under.probe import (
    ROOT,
    FailedError,
    Finding,
    NotTriedError,
    Probe,
    environment,
    output,
    program,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schematic_native.emulator import Emulator

PYTHON = f"CPython {platform.python_version()}"


def installed(*names: str) -> str:
    """Return the versions of distributions.

    Raises:
        NotTriedError: one is not installed.

    """
    try:
        return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    except importlib.metadata.PackageNotFoundError as error:
        raise NotTriedError(f"{error.name} is not installed") from error


def fork(emulator: Emulator) -> Finding:
    return Finding(program(emulator, "forking")["units"], PYTHON, is_shared=True)


def start(method: str, emulator: Emulator) -> Finding:
    return Finding(program(emulator, "starting", method)["units"], PYTHON, is_shared=True)


def on_loop(kind: str, emulator: Emulator) -> Finding:
    versions = PYTHON if kind == "asyncio" else installed(kind)
    return Finding(program(emulator, "on_loop", kind)["units"], versions)


def gevent(emulator: Emulator) -> Finding:
    versions = installed("gevent")
    return Finding(program(emulator, "greenlets")["units"], versions)


def sub_interpreter(emulator: Emulator) -> Finding:
    """Find how an import in a second interpreter is refused: in words, and not by a crash."""
    refusal = program(emulator, "interpreters")["refusal"]
    if "interpreter" not in refusal:
        raise FailedError(f"it was not refused in words: {refusal!r}")
    note = f"one interpreter of a process may import it; in another the import raises `{refusal}`"
    return Finding(0, PYTHON, "refused", note)


def xdist(emulator: Emulator) -> Finding:
    versions = installed("pytest", "pytest-xdist")
    with tempfile.TemporaryDirectory() as folder:
        tests = ROOT / "tests/under/programs/parallel_tests.py"
        command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider"]
        output([*command, str(tests)], emulator, {"UNITS": folder})
        files = list(Path(folder).iterdir())
        workers = {file.name.partition("-")[2] for file in files}
        if len(workers) != 2:
            raise FailedError(f"{len(workers)} processes ran tests, not 2")
        return Finding(sum(int(file.read_text()) for file in files), versions, is_shared=True)


def celery(emulator: Emulator) -> Finding:
    versions = installed("celery")
    import celery as library

    with redis_server() as server:
        broker = f"redis://127.0.0.1:{server.port}/1"
        app = library.Celery("caller", broker=broker, backend=broker)
        command = ["-m", "celery", "-A", "tests.under.programs.celery_app:app", "worker"]
        command += ["--concurrency", "2", "--loglevel", "ERROR", "--without-gossip"]
        env = environment(emulator, CELERY_BROKER=broker)
        with subprocess.Popen([sys.executable, *command], env=env, cwd=ROOT) as worker:
            try:
                sent = [app.send_task("summarise", ("acme", units)) for units in range(1, 9)]
                units = sum(each.get(timeout=60) for each in sent)
            finally:
                worker.terminate()
                worker.wait(60)
                app.close()
        return Finding(units, f"{versions}, broker {version_of(server)}", is_shared=True)


@contextlib.contextmanager
def redis_server() -> Iterator[RedisServer]:
    server = RedisServer().start()
    try:
        yield server
    finally:
        server.remove()


def version_of(server: RedisServer) -> str:
    """Return the name and version that a server tells of itself."""
    about = server.command("INFO", "server")
    for name in ("valkey", "redict"):
        if f"{name}_version" in about:
            return f"{name} {about[f'{name}_version']}"
    return f"redis {about['redis_version']}"


_GROUP = "Processes and loops"
PROBES = [
    Probe(_GROUP, "fork", fork),
    Probe(_GROUP, "spawn", partial(start, "spawn")),
    Probe(_GROUP, "forkserver", partial(start, "forkserver")),
    Probe(_GROUP, "asyncio", partial(on_loop, "asyncio")),
    Probe(_GROUP, "uvloop", partial(on_loop, "uvloop")),
    Probe(_GROUP, "gevent", gevent),
    Probe(_GROUP, "Celery, prefork pool", celery),
    Probe(_GROUP, "pytest-xdist", xdist),
    Probe(_GROUP, "sub-interpreters", sub_interpreter),
]
