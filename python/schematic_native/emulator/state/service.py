"""The emulated service: one state, a clock, and a journal of the commands it obeyed.

Every change goes through here: it gets its instant and its new ids, is written to the journal, and
is then carried out by the state. Nothing else may change the state, or a replay would differ.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from schematic_native.emulator.credits.amounts import is_finite
from schematic_native.emulator.credits.audit import audit
from schematic_native.emulator.errors import InvalidRequestError, ServiceError
from schematic_native.emulator.seed import load_seed
from schematic_native.emulator.state import commands
from schematic_native.emulator.state.changes import Changes
from schematic_native.emulator.state.state import State
from schematic_native.emulator.state.summary import summarize, write_seed
from schematic_native.ground import json_text

if TYPE_CHECKING:
    from schematic_native.emulator.clock import Clock
    from schematic_native.emulator.credits.grants import Grant
    from schematic_native.emulator.credits.holds import Lease, Reservation
    from schematic_native.emulator.credits.ledger import Ledger
    from schematic_native.emulator.seed import Seed
    from schematic_native.emulator.state.directory import Directory
    from schematic_native.emulator.state.journal import Journal

Entity = dict[str, Any]

# The year after it is left for what expires later: no datetime holds more.
LAST_INSTANT = 253_370_764_800.0


class Service:
    """The entrance to everything that the emulator knows."""

    def __init__(self, seed: Seed, clock: Clock, journal: Journal | None = None) -> None:
        self.clock = clock
        self.changes = Changes()
        self.obeyed = 0  # how many commands; the dashboard looks at it
        self._begin(seed)
        self._journal: Journal | None = None
        if journal is not None:
            for command in journal.commands:
                self._repeat(command)
            journal.commands = []
            self._journal = journal
        # Nobody has listened so far; what changes from here on is announced.
        self.changes.take()

    def _begin(self, seed: Seed) -> None:
        self._seed = seed
        self.api_key = seed.api_key
        self.state = State(seed, self.changes)

    @property
    def directory(self) -> Directory:
        """Flags, companies and users, to read."""
        return self.state.directory

    @property
    def ledger(self) -> Ledger:
        """Balances, leases and reservations, to read."""
        return self.state.ledger

    # Commands

    def _obey(self, command: commands.Command) -> Any:
        at = self.clock.now()
        self._write(command.do, at, vars(command))
        return self.state.carry_out(at, command)

    def _write(self, do: str, at: float, arguments: Entity) -> None:
        self.obeyed += 1
        if self._journal is not None:
            self._journal.append({"do": do, "at": at, **arguments})

    def _repeat(self, record: Entity) -> None:
        """Carry out a journaled command again; one that was refused is refused again."""
        do, at = record.pop("do"), record.pop("at")
        if do == "capture":
            self.state.take(at, json_text.write(record["body"]), record["body"]["events"])
        elif do == "turn":
            self._turn(at, **record)
        elif do == "reset":
            self._reset(None if record["seed"] is None else load_seed(record["seed"]))
        else:
            try:
                self.state.carry_out(at, commands.BY_NAME[do](**record))
            except ServiceError:
                return

    def sweep(self) -> None:
        """End what has expired by now. It needs no journal: a replay sweeps before each command."""
        self.state.sweep(self.clock.now())

    def reset(self, seed: Seed | None = None) -> None:
        """Begin anew, from the same seed or another one, with the clock at the real time."""
        written = None if seed is None else seed.content()
        self._write("reset", self.clock.now(), {"seed": written})
        self._reset(seed)

    def _reset(self, seed: Seed | None) -> None:
        self.clock.reset()
        self._begin(seed or self._seed)
        self.changes.take()

    # Leases and reservations

    def acquire(self, company_id: str, credit: str, amount: float, expires_at: float) -> Lease:
        """Lend `amount` credits until `expires_at`, or return the slot's active lease."""
        return cast("Lease", self._obey(commands.Acquire(company_id, credit, amount, expires_at)))

    def extend(
        self, lease_id: str, amount: float, expires_at: float | None, key: str | None
    ) -> Lease:
        """Add `amount` credits to a lease; a repeated key gets the first answer again."""
        return cast("Lease", self._obey(commands.Extend(lease_id, amount, expires_at, key)))

    def release(self, lease_id: str) -> Lease:
        """End a lease and refund what it did not spend."""
        return cast("Lease", self._obey(commands.Release(lease_id)))

    def reserve(self, command: commands.Reserve) -> tuple[Entity, Reservation]:
        """Hold credits for a check; return its verdict and the reservation."""
        return cast("tuple[Entity, Reservation]", self._obey(command))

    def repeated_reserve(
        self, company_id: str, key: str | None
    ) -> tuple[Entity, Reservation] | None:
        """Return the first answer to an idempotency key, for a day."""
        reservation = self.ledger.repeated_reserve(self.clock.now(), company_id, key)
        return None if reservation is None else (self.state.verdicts[reservation.id], reservation)

    def release_reservation(self, reservation_id: str) -> Reservation:
        """Refund a reservation whole."""
        return cast("Reservation", self._obey(commands.ReleaseReservation(reservation_id)))

    # Events

    def capture(self, body: bytes, events: list[Entity]) -> None:
        """Take a checked batch; `body` is the request it came in."""
        at = self.clock.now()
        if self._journal is not None:
            self._journal.append_batch(at, body)
        self.state.take(at, body, events)

    def events(self, after: int = 0, limit: int = 10_000) -> list[Entity]:
        """Return events as they were posted, from number `after` on, duplicates marked."""
        return [
            {**logged.event, "duplicate": True} if logged.duplicate else logged.event
            for logged in islice(self.state.log.read(after), limit)
        ]

    # Entities

    def set_company(self, company: Entity) -> None:
        """Add or replace a checked company; the balances it names become its balances."""
        self._obey(commands.SetCompany(company))

    def set_flag(self, flag: Entity) -> None:
        """Add or replace a checked flag."""
        self._obey(commands.SetFlag(flag))

    def set_user(self, user: Entity) -> None:
        """Add or replace a checked user."""
        self._obey(commands.SetUser(user))

    def delete(self, kind: str, entity_id: str) -> None:
        """Forget a flag, company or user; what its ledger holds stays."""
        self._obey(commands.Delete(kind, entity_id))

    def set_balance(self, company_id: str, credit: str, amount: float) -> None:
        """Make a company's remaining balance exactly `amount` credits."""
        self._obey(commands.SetBalance(company_id, credit, amount))

    # Grants and tokens

    def grant_credits(
        self, company_id: str, credit: str, amount: float, reason: str, expires_at: float | None
    ) -> Grant:
        """Give a company credits, until they expire if they do."""
        command = commands.GrantCredits(company_id, credit, amount, reason, expires_at)
        return cast("Grant", self._obey(command))

    def zero_out_grant(self, grant_id: str, reason: str) -> Grant:
        """Take back what is left of a grant."""
        return cast("Grant", self._obey(commands.ZeroOutGrant(grant_id, reason)))

    def issue_token(self, company_id: str, seconds: float) -> Entity:
        """Make a temporary access token for a company."""
        return cast("Entity", self._obey(commands.IssueToken(company_id, seconds)))

    # Time

    def advance(self, seconds: float) -> None:
        """Move the clock forward by `seconds` and end what has expired."""
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
            raise InvalidRequestError(f"seconds must be a number, got {seconds!r}")
        if not is_finite(seconds) or seconds < 0:
            raise InvalidRequestError(
                f"seconds must be a finite number, not negative, got {seconds!r}"
            )
        _require_instant("seconds", self.clock.now() + seconds)
        self.clock.advance(seconds)
        self._set_clock()

    def freeze_clock(self, at: float | None = None) -> None:
        """Stop the clock at `at` (epoch seconds), now by default."""
        if at is not None:
            _require_instant("freeze", at)
        self.clock.freeze(at)
        self._set_clock()

    def resume_clock(self) -> None:
        """Let a frozen clock run on."""
        self.clock.resume()
        self._set_clock()

    def _set_clock(self) -> None:
        at, clock = self.clock.now(), self.clock
        self._write("turn", at, {"offset": clock.offset, "frozen_at": clock.frozen_at})
        self.state.sweep(at)

    def _turn(self, at: float, offset: float, frozen_at: float | None) -> None:
        self.clock.offset, self.clock.frozen_at = offset, frozen_at
        self.state.sweep(at)

    # Reading

    def company_wire(self, company_id: str) -> Entity:
        """Return a company as DataStream sends it now."""
        self.sweep()
        return self.directory.company_wire(company_id, self.state.lines(company_id))

    def summary(self) -> Entity:
        """Return companies, balances, leases, reservations and billed usage as plain JSON."""
        self.sweep()
        return {"now": self.clock.now(), **summarize(self.state)}

    def as_seed(self) -> Entity:
        """Return a seed that starts with what is known now; what is held goes back to its company."""
        self.sweep()
        return write_seed(self.api_key, self.state)

    def audit(self) -> Entity:
        """Audit the ledger against its book; see `credits.audit`."""
        self.sweep()
        return {**audit(self.ledger), "anomalies": dict(self.state.billing.anomalies)}


def _require_instant(name: str, at: float) -> None:
    if at > LAST_INSTANT:
        raise InvalidRequestError(f"{name} must not move the clock beyond the year 9998")
