"""`Emulator`: the emulated service as an object, in its own process or thread.

It starts, stops and commands a server; what the service knows and does is the server's.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from schematic_native.emulator.child_process import ChildProcess
from schematic_native.emulator.control import Control
from schematic_native.emulator.errors import EmulatorError
from schematic_native.emulator.seed import load_seed
from schematic_native.emulator.server import require_loopback
from schematic_native.emulator.server_thread import ServerThread

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from types import TracebackType

    from typing_extensions import Self

Entity = dict[str, Any]

_EVENTS_PER_PAGE = 10_000
_LAST_PORT = 65_535


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
        # What the journal begins with, which a reset to another seed does not change.
        self._first_seed = self._seed
        self._host = host
        self._wanted_port = port
        self._process = process
        self._journal_wanted = journal
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._journal: Path | None = None
        self._running: ChildProcess | ServerThread | None = None
        self._control: Control | None = None
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
            job = {
                "seed": self._first_seed.content(),
                "host": self._host,
                "port": port,
                "journal": None if self._journal is None else str(self._journal),
            }
            self._running = ChildProcess(job)
        else:
            self._running = ServerThread(self._first_seed, self._host, port, self._journal)
        self._port = self._running.port
        self._control = Control(self._running.control_port)

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
        if not isinstance(self._running, ChildProcess):
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
        if not keep_state:
            self._first_seed = self._seed
            if self._journal is not None:
                self._journal.unlink(missing_ok=True)
        self._launch(self._port)

    def reset(self, seed: str | os.PathLike[str] | Mapping[str, Any] | None = None) -> None:
        """Begin anew in a few milliseconds, from its seed or from another one, which it then has.

        Balances, leases, events, counts, faults and the clock are as at the start; connected clients
        are sent what they follow. Leases that a client still holds are unknown from then on.

        Raises:
            SeedError: The seed is malformed; the message names the field.

        """
        if seed is None:
            self._ask("POST", "/reset", {})
            return
        checked = load_seed(seed)
        self._ask("POST", "/reset", {"seed": checked.content()})
        self._seed = checked

    def _hang_up(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None

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
    def is_running(self) -> bool:
        """Whether it was started, and neither stopped nor killed since."""
        return self._running is not None

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
        return self._running.pid if isinstance(self._running, ChildProcess) else None

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
            kind: "refuse", "drop", "delay", "status", "cut" or "freeze"; see the module `injected_faults`.
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
        if self._control is None:
            raise EmulatorError("the emulator is not running")
        return self._control.ask(method, path, body, content)


def _path(kind: str, entity_id: object) -> str:
    if not isinstance(entity_id, str) or not entity_id:
        raise EmulatorError(f"{kind}_id must be a str that is not empty, got {entity_id!r}")
    return f"/{kind}/{quote(entity_id, safe='')}"
