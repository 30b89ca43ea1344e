"""`Emulator`: the emulated service as an object, in its own process or thread."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

import httpx

from schematic_native.emulator.admin import PREFIX
from schematic_native.emulator.seed import Seed, load_seed
from schematic_native.emulator.server import Server, require_loopback
from schematic_native.ground import json_text
from schematic_native.ground.own_requests import own_request

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from concurrent.futures import Future
    from types import TracebackType

    from typing_extensions import Self

Entity = dict[str, Any]

_START_TIMEOUT = 30.0  # seconds
_STOP_TIMEOUT = 10.0  # seconds
_CONTROL_TIMEOUT = 60.0  # seconds
_EVENTS_PER_PAGE = 10_000
_LAST_PORT = 65_535


class EmulatorError(RuntimeError):
    """The emulator could not be started, or refused what it was told."""


class InjectedFault:
    """A fault in force; `clear()` it, or use it as a context manager."""

    def __init__(self, emulator: Emulator, fault_id: int) -> None:
        self._emulator = emulator
        self.id = fault_id

    @property
    def fired(self) -> int:
        """How many requests have met the fault; 0 once it is cleared."""
        faults = self._emulator.faults()
        return next((fault["fired"] for fault in faults if fault["id"] == self.id), 0)

    def clear(self) -> None:
        """Take the fault out of force."""
        self._emulator.heal(self.id)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.clear()


class _Process:
    """The emulator in a process of its own, which ends with its parent."""

    def __init__(self, job: Entity) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "schematic_native.emulator"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        stdin, stdout = self._popen.stdin, self._popen.stdout
        if stdin is None or stdout is None:
            raise EmulatorError("the emulator's process has no pipes")
        self._stdin, self._stdout = stdin, stdout
        # A child that hangs before it is ready is killed, which ends the read below.
        watchdog = threading.Timer(_START_TIMEOUT, self._popen.kill)
        watchdog.start()
        try:
            self._stdin.write(json_text.write(job) + b"\n")
            self._stdin.flush()
            line = self._stdout.readline()
        except BrokenPipeError:
            line = b""
        finally:
            watchdog.cancel()
            watchdog.join()
        answer: Entity = {"error": "the process ended before it was ready"}
        if line:
            answer = json_text.read(line)
        if "error" in answer:
            self.kill()
            raise EmulatorError(f"the emulator did not start: {answer['error']}")
        self.port: int = answer["port"]
        self.control_port: int = answer["control_port"]

    @property
    def pid(self) -> int:
        return self._popen.pid

    def stop(self) -> None:
        """End in order; kill what does not end."""
        self._close(self._stdin)
        try:
            self._popen.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._popen.kill()
        self.kill()

    def kill(self) -> None:
        """End at once, as `kill -9` does."""
        self._popen.kill()
        self._popen.wait()
        self._close(self._stdin)
        self._stdout.close()

    @staticmethod
    def _close(pipe: Any) -> None:
        try:
            pipe.close()
        except BrokenPipeError:
            return


class _Thread:
    """The emulator on a thread of this process."""

    def __init__(self, seed: Seed, host: str, port: int, journal: Path | None) -> None:
        try:
            self.server = Server(seed, host, port, journal)
        except (OSError, ValueError) as error:
            raise EmulatorError(f"the emulator did not start: {error}") from error
        self.port = self.server.port
        self.control_port = self.server.control_port
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="schematic-emulator", daemon=True)
        self._thread.start()
        if not self._ready.wait(_START_TIMEOUT):
            raise EmulatorError("the emulator did not start in time")

    def _run(self) -> None:
        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            await self.server.run(self._ready.set)

        asyncio.run(serve())

    def stop(self) -> None:
        """End in order."""
        if self._loop is not None and self._thread.is_alive():
            stopped: Future[None] = asyncio.run_coroutine_threadsafe(self.server.stop(), self._loop)
            stopped.result(_STOP_TIMEOUT)
        self._thread.join(_STOP_TIMEOUT)


class Emulator:
    """A stateful stand-in for the service on one loopback port; use it as a context manager.

    Args:
        seed: What it knows at the start: a file of wire JSON or the same as a mapping; by default
            the seed that ships with the package.
        port: Where to listen; 0 takes any free port, and `restart` takes the same one again.
        host: A loopback address, unless `allow_remote` is true.
        process: Run in a process of its own (the default), or on a thread of this one.
        journal: A file that commands are written to before they are obeyed, which
            `restart(keep_state=True)` needs; `True` makes a temporary one. A file that exists is
            replayed, if it is of the same seed.
        allow_remote: Let other machines in, if `host` does.

    Raises:
        SeedError: The seed is malformed; the message names the field.
        ValueError: The host is not a loopback address, or the port cannot be.

    """

    def __init__(
        self,
        seed: str | os.PathLike[str] | Mapping[str, Any] | None = None,
        port: int = 0,
        host: str = "127.0.0.1",
        *,
        process: bool = True,
        journal: str | os.PathLike[str] | bool | None = None,
        allow_remote: bool = False,
    ) -> None:
        require_loopback(host, allow_remote=allow_remote)
        if isinstance(port, bool) or not isinstance(port, int):
            raise TypeError(f"port must be an int, got {port!r}")
        if not 0 <= port <= _LAST_PORT:
            raise ValueError(f"port must be from 0 to {_LAST_PORT}, got {port!r}")
        self._seed = load_seed(seed)
        self._host = host
        self._wanted_port = port
        self._process = process
        self._journal_wanted = journal
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._journal: Path | None = None
        self._running: _Process | _Thread | None = None
        self._http: httpx.Client | None = None
        self._port = 0

    # Running

    def start(self) -> Self:
        """Start, and return when it answers.

        Raises:
            EmulatorError: It did not start, for example because the port is taken.

        """
        if self._running is not None:
            raise EmulatorError("the emulator is running already")
        if self._journal_wanted is True:
            self._temporary = tempfile.TemporaryDirectory(prefix="schematic-emulator-")
            self._journal = Path(self._temporary.name) / "journal.jsonl"
        elif self._journal_wanted:
            self._journal = Path(self._journal_wanted)
        try:
            self._launch(self._wanted_port)
        except BaseException:
            self.stop()
            raise
        return self

    def _launch(self, port: int) -> None:
        if self._process:
            seed = self._seed
            job = {
                "seed": {
                    "api_key": seed.api_key,
                    "flags": seed.flags,
                    "companies": seed.companies,
                    "users": seed.users,
                },
                "host": self._host,
                "port": port,
                "journal": None if self._journal is None else str(self._journal),
            }
            self._running = _Process(job)
        else:
            self._running = _Thread(self._seed, self._host, port, self._journal)
        self._port = self._running.port
        self._http = httpx.Client(
            base_url=f"http://127.0.0.1:{self._running.control_port}{PREFIX}",
            timeout=_CONTROL_TIMEOUT,
            trust_env=False,
            # Plain loopback HTTP: an empty context spares loading the certificates of the world.
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        )

    def stop(self) -> None:
        """Stop; stopping twice is harmless."""
        self._hang_up()
        if self._running is not None:
            self._running.stop()
            self._running = None
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    def kill(self) -> None:
        """End the process as `kill -9` does; `restart` brings it back.

        Raises:
            EmulatorError: It runs on a thread, which cannot be killed.

        """
        if not isinstance(self._running, _Process):
            raise EmulatorError("only an emulator in its own process can be killed")
        self._hang_up()
        self._running.kill()
        self._running = None

    def restart(self, *, keep_state: bool = False) -> None:
        """Start again on the same port, from the seed or, with `keep_state`, from the journal.

        Raises:
            EmulatorError: The state is to be kept and there is no journal.

        """
        if keep_state and self._journal is None:
            raise EmulatorError(
                "keep_state: there is no journal; make the emulator with journal=True"
            )
        self._hang_up()
        if self._running is not None:
            self._running.stop()
            self._running = None
        if not keep_state and self._journal is not None:
            self._journal.unlink(missing_ok=True)
        self._launch(self._port)

    def _hang_up(self) -> None:
        if self._http is not None:
            self._http.close()
            self._http = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    # Where it is

    @property
    def port(self) -> int:
        """The port that clients use."""
        return self._port

    @property
    def base_url(self) -> str:
        """The URL for `base_url` and `event_capture_url` of a client."""
        return f"http://{f'[{self._host}]' if ':' in self._host else self._host}:{self._port}"

    @property
    def api_key(self) -> str:
        """The API key that the seed names."""
        return self._seed.api_key

    @property
    def pid(self) -> int | None:
        """The id of its process, if it runs in one of its own."""
        return self._running.pid if isinstance(self._running, _Process) else None

    # What it knows

    def state(self) -> Entity:
        """Return `now`, companies, leases, reservations, the number of events and billed usage.

        Amounts are credits, instants epoch seconds; `anomalies` counts events that were billed
        otherwise than a well-behaved client would have them.
        """
        return cast("Entity", self._ask("GET", "/state"))

    def events(self) -> list[Entity]:
        """Return every event it took, in order; repeats of a key carry `duplicate: True`."""
        events: list[Entity] = []
        while True:
            page = self._ask("GET", f"/events?after={len(events)}&limit={_EVENTS_PER_PAGE}")
            events += cast("list[Entity]", page)
            if len(cast("list[Entity]", page)) < _EVENTS_PER_PAGE:
                return events

    def audit(self) -> Entity:
        """Return whether the ledger balances, the sums per credit type and what is wrong."""
        return cast("Entity", self._ask("GET", "/audit"))

    # Time

    def advance(self, seconds: float) -> float:
        """Move its clock forward and end what expires; return the new instant in epoch seconds."""
        return self._turn({"advance": seconds})

    def freeze_clock(self, at: float | None = None) -> float:
        """Stop its clock, now or at an instant in epoch seconds; `advance` still moves it."""
        return self._turn({"freeze": True if at is None else at})

    def resume_clock(self) -> float:
        """Let a frozen clock run on."""
        return self._turn({"resume": True})

    def _turn(self, body: Entity) -> float:
        return cast("float", cast("Entity", self._ask("POST", "/clock", body))["now"])

    # Faults

    def fail(
        self,
        kind: str,
        on: str = "any",
        *,
        times: int | None = None,
        probability: float = 1.0,
        seed: int = 0,
        status: int = 503,
        seconds: float = 1.0,
        retry_after: float | None = None,
    ) -> InjectedFault:
        """Make requests fail until the fault has fired `times` times or is cleared.

        Args:
            kind: "refuse", "drop", "delay", "status", "cut" or "freeze"; see the module `faults`.
            on: "acquire", "extend", "release", "check", "capture", "datastream" or "any".
            times: How many requests it hits; None: all.
            probability: How likely it hits a request, 0 to 1, by a generator of its own that
                starts from `seed`.
            seed: See `probability`.
            status: The HTTP status of kind "status": 402, 503 ...
            seconds: How long kind "delay" waits.
            retry_after: The `Retry-After` header of kind "status", in seconds.

        Raises:
            EmulatorError: An argument is not what it should be; the message names it.

        """
        arguments = {
            "kind": kind,
            "on": on,
            "times": times,
            "probability": probability,
            "seed": seed,
            "status": status,
            "seconds": seconds,
            "retry_after": retry_after,
        }
        answer = cast("Entity", self._ask("POST", "/fail", arguments))
        return InjectedFault(self, answer["id"])

    def faults(self) -> list[Entity]:
        """Return the faults in force and how often each has fired."""
        return cast("list[Entity]", self._ask("GET", "/faults"))

    def heal(self, fault_id: int | None = None) -> None:
        """Take one fault, or all, out of force."""
        self._ask("POST", "/heal", {} if fault_id is None else {"id": fault_id})

    def drop_sockets(self) -> int:
        """Cut every open WebSocket; return how many there were."""
        return cast("int", cast("Entity", self._ask("POST", "/drop-sockets"))["dropped"])

    def send_raw(self, text: str) -> int:
        """Send any text to every WebSocket client; return to how many."""
        return cast("int", cast("Entity", self._ask("POST", "/send-raw", content=text))["sent"])

    # Entities

    def set_company(self, company: Mapping[str, Any]) -> None:
        """Add or replace a company and push it; the balances it names become its balances."""
        self._ask("PUT", "/company", dict(company))

    def set_flag(self, flag: Mapping[str, Any]) -> None:
        """Add or replace a flag and push it."""
        self._ask("PUT", "/flag", dict(flag))

    def set_user(self, user: Mapping[str, Any]) -> None:
        """Add or replace a user and push it."""
        self._ask("PUT", "/user", dict(user))

    def delete_company(self, company_id: str) -> None:
        """Forget a company and push that it is gone; its ledger stays."""
        self._ask("DELETE", _path("company", company_id))

    def delete_flag(self, flag_id: str) -> None:
        """Forget a flag and push that it is gone."""
        self._ask("DELETE", _path("flag", flag_id))

    def delete_user(self, user_id: str) -> None:
        """Forget a user and push that it is gone."""
        self._ask("DELETE", _path("user", user_id))

    def set_balance(self, company_id: str, credit_type_id: str, amount: float) -> None:
        """Make a company's remaining balance exactly `amount` credits, and push it."""
        body = {"company_id": company_id, "credit_type_id": credit_type_id, "amount": amount}
        self._ask("POST", "/balance", body)

    def _ask(
        self, method: str, path: str, body: Entity | None = None, content: str | None = None
    ) -> object:
        if self._http is None:
            raise EmulatorError("the emulator is not running")
        payload = content.encode() if content is not None else None
        if body is not None:
            try:
                payload = json_text.write(body)
            except TypeError as error:
                raise EmulatorError(f"not JSON: {error}") from error
        with own_request():
            response = self._http.request(method, path, content=payload)
        if response.is_error:
            message = json_text.read(response.content).get("error", response.text)
            raise EmulatorError(f"{method} {path}: {message}")
        return json_text.read(response.content)


def _path(kind: str, entity_id: object) -> str:
    if not isinstance(entity_id, str) or not entity_id:
        raise EmulatorError(f"{kind}_id must be a str that is not empty, got {entity_id!r}")
    return f"/{kind}/{quote(entity_id, safe='')}"
