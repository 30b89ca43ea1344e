"""Probes of application servers that fork: the app is called, and the server told to end."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

import httpx

from tests.conftest import eventually
from tests.ports import free_port
from tests.under.probe import ROOT, FailedError, Finding, Probe, billed, environment
from tests.under.processes import installed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schematic_native.emulator import Emulator

REQUESTS = 40
# Seconds without a request in which events should be sent; each client sends once a second.
IDLE = 10.0
WSGI = "tests.under.programs.wsgi_app:application"
ASGI = "tests.under.programs.asgi_app:application"
UWSGI = ["uwsgi", "--need-app", "--master", "--processes", "2", "--die-on-term"]
UWSGI += ["--virtualenv", sys.prefix, "--module", WSGI, "--socket-timeout", "30"]
# Programs that came with their packages.
SCRIPTS = Path(sys.executable).parent


def serve(words: Sequence[str], needs: Sequence[str], emulator: Emulator) -> Finding:
    """Run a server, call the app in several threads, end the server."""
    versions = installed(*needs)
    port = str(free_port())
    places = {"ADDRESS": f"127.0.0.1:{port}", "PORT": port}
    program, *arguments = words
    command = [str(SCRIPTS / program), *[places.get(word, word) for word in arguments]]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            command, env=environment(emulator), cwd=ROOT, stdout=log, stderr=subprocess.STDOUT
        ) as server,
    ):
        try:
            units = call(f"http://127.0.0.1:{port}", server)
            is_idle = has_billed(emulator, units)
            server.send_signal(signal.SIGTERM)
            status = server.wait(60)
        except (AssertionError, httpx.HTTPError) as error:
            raise FailedError(f"{type(error).__name__}: {error}; {last_line(log)}") from error
        finally:
            server.kill()
    if status not in {0, -signal.SIGTERM}:
        raise FailedError(f"exit status {status}")
    note = "" if is_idle else "events wait for the next request, or for the end of the process"
    return Finding(units, versions, note=note, is_shared=True)


def call(url: str, server: subprocess.Popen[bytes]) -> int:
    """Call the app until it answers, then from several threads; returns the units that it used."""
    with httpx.Client(base_url=url, timeout=20, trust_env=False) as client:
        first: list[int] = []
        eventually(lambda: server.poll() is not None or answers(client, first), timeout=30)
        with ThreadPoolExecutor(4) as pool:
            return sum(first) + sum(pool.map(lambda _: used(client), range(REQUESTS)))


def answers(client: httpx.Client, units: list[int]) -> bool:
    """Tell whether the app answers; what it used for that is added to `units`."""
    with contextlib.suppress(httpx.TransportError):
        units.append(used(client))
    return bool(units)


def used(client: httpx.Client) -> int:
    return client.get("/").raise_for_status().json()["used"]


def has_billed(emulator: Emulator, units: int) -> bool:
    """Tell whether everything is delivered while the server has nothing to do."""
    with contextlib.suppress(AssertionError):
        eventually(lambda: billed(emulator) == units, timeout=IDLE)
        return True
    return False


def last_line(log: IO[bytes]) -> str:
    """Return the last line that a server wrote."""
    log.seek(0)
    return log.read().decode(errors="replace").strip().rpartition("\n")[2]


def gunicorn(*options: str) -> list[str]:
    return ["gunicorn", "--bind", "ADDRESS", "--workers", "2", *options]


def uwsgi(*options: str) -> list[str]:
    return [*UWSGI, "--http-socket", "ADDRESS", *options]


def _probe(name: str, words: Sequence[str], *needs: str) -> Probe:
    return Probe("Application servers", name, partial(serve, words, needs))


PROBES = [
    _probe("gunicorn, preload", gunicorn("--preload", WSGI), "gunicorn"),
    _probe(
        "gunicorn, gthread",
        gunicorn("--worker-class", "gthread", "--threads", "4", WSGI),
        "gunicorn",
    ),
    _probe(
        "gunicorn, gthread and preload",
        gunicorn("--preload", "--worker-class", "gthread", "--threads", "4", WSGI),
        "gunicorn",
    ),
    _probe(
        "gunicorn, uvicorn workers",
        gunicorn("--worker-class", "uvicorn_worker.UvicornWorker", ASGI),
        "gunicorn", "uvicorn", "uvicorn-worker",
    ),
    _probe(
        "gunicorn, gevent workers", gunicorn("--worker-class", "gevent", WSGI), "gunicorn", "gevent"
    ),
    _probe("uvicorn, 2 processes", [
        "uvicorn", "--workers", "2", "--host", "127.0.0.1", "--port", "PORT", ASGI,
    ], "uvicorn"),
    _probe("uWSGI with threads", uwsgi("--enable-threads", "--threads", "4"), "uwsgi"),
    _probe("uWSGI, lazy-apps with threads", uwsgi("--lazy-apps", "--enable-threads"), "uwsgi"),
    _probe("uWSGI without threads", uwsgi(), "uwsgi"),
]  # fmt: skip
