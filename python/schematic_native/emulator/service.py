"""The emulated service: the ledger, the entities and the events behind one set of commands.

Every change goes through `_obey`: it is journaled with its instant and the ids it will use, then
carried out. Carrying out reads no clock and draws no randomness, so replaying the journal rebuilds
the same service.
"""

from __future__ import annotations

import math
import secrets
from bisect import bisect_right
from typing import TYPE_CHECKING, Any, cast

from schematic_native.emulator.amounts import ONE, AmountError, is_finite, to_credits, to_units
from schematic_native.emulator.audit import audit
from schematic_native.emulator.directory import I64_MAX, CreditLine, Directory, KeyConflictError
from schematic_native.emulator.errors import InvalidRequestError, ServiceError, UnknownIdError
from schematic_native.emulator.grants import Grant, Grants
from schematic_native.emulator.ledger import REPEAT_WINDOW, Lease, Ledger, Reservation
from schematic_native.ground import json_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from schematic_native.emulator.clock import Clock
    from schematic_native.emulator.journal import Journal
    from schematic_native.emulator.ledger import Slot
    from schematic_native.emulator.seed import Seed

Entity = dict[str, Any]


# The year after it is left for what expires later: no datetime holds more.
LAST_INSTANT = 253_370_764_800.0


class Meter:
    """What one event of one company moves: its metric rows and the credits it costs a unit."""

    __slots__ = ("plain", "rates", "rows")

    def __init__(self, rows: list[Entity], rates: dict[str, int], plain: list[str]) -> None:
        self.rows = rows
        self.rates = rates  # credit type id -> units for each event unit
        self.plain = plain  # the credit types that a track without a lease is billed in


class Moved:
    """What has changed about one company since the last push."""

    __slots__ = ("credits", "fields", "rows")

    def __init__(self) -> None:
        self.credits: set[str] = set()
        self.rows: dict[int, Entity] = {}
        self.fields: Entity = {}


class Service:
    """Everything that the emulator knows."""

    def __init__(self, seed: Seed, clock: Clock, journal: Journal | None = None) -> None:
        self.clock = clock
        self.api_key = seed.api_key
        self.ledger = Ledger()
        self.directory = Directory()
        self.grants = Grants()
        self.tokens: dict[str, Entity] = {}
        self.on_move: Callable[[], None] = _nothing
        self.moved: dict[str, Moved] = {}
        self.usage: dict[str, dict[str, int]] = {}
        self.anomalies: dict[str, int] = {}
        self._batches: list[tuple[bytes, frozenset[int]]] = []
        self._batch_starts: list[int] = []
        self._event_count = 0
        self._seen: dict[str, float] = {}
        self._meters: dict[tuple[str, str], Meter] = {}
        self._verdicts: dict[str, Entity] = {}
        self._journal: Journal | None = None
        self._plant(seed)
        if journal is not None:
            for command in journal.commands:
                self._repeat(command)
            journal.commands = []
            self._journal = journal
        # Nobody has listened so far; what is noted from here on is announced.
        self.moved = {}

    def _plant(self, seed: Seed) -> None:
        seed_copy = json_text.read(json_text.write([seed.flags, seed.companies, seed.users]))
        for flag in seed_copy[0]:
            self.directory.put_flag(flag)
        for company in seed_copy[1]:
            self._put_company(0.0, company, "opening")
        for user in seed_copy[2]:
            self.directory.put_user(user)

    # Commands

    def _obey(self, do: str, **arguments: Any) -> Any:
        at = self.clock.now()
        if self._journal is not None:
            self._journal.append({"do": do, "at": at, **arguments})
        return getattr(self, f"_{do}")(at, **arguments)

    def _repeat(self, command: Entity) -> None:
        """Carry out a journaled command again; one that was refused is refused again."""
        do, at = command.pop("do"), command.pop("at")
        if do == "capture":
            self._take(at, json_text.write(command["body"]), command["body"]["events"])
            return
        try:
            getattr(self, f"_{do}")(at, **command)
        except ServiceError:
            return

    def sweep(self) -> None:
        """End what has expired by now. It needs no journal: a replay sweeps before each command."""
        self._sweep(self.clock.now())

    def _sweep(self, at: float) -> None:
        for company_id, credit in self.ledger.sweep(at):
            self._note_credit(company_id, credit)
        for grant in list(self.grants.due(at)):
            self._end_grant(at, grant, "expire")

    # Leases

    def acquire(self, company_id: str, credit: str, amount: float, expires_at: float) -> Lease:
        """Lend `amount` credits until `expires_at`, or return the slot's active lease."""
        answer = self._obey(
            "acquire",
            lease_id=_new_id("lse"),
            company_id=company_id,
            credit=credit,
            amount=amount,
            expires_at=expires_at,
        )
        return cast("Lease", answer)

    def _acquire(
        self,
        at: float,
        *,
        lease_id: str,
        company_id: str,
        credit: str,
        amount: float,
        expires_at: float,
    ) -> Lease:
        self._sweep(at)
        slot = self._slot(company_id, credit)
        lease = self.ledger.acquire(
            at, lease_id, slot, _units(amount, "requested_amount"), expires_at
        )
        self._note_credit(*slot)
        return lease

    def extend(
        self, lease_id: str, amount: float, expires_at: float | None, key: str | None
    ) -> Lease:
        """Add `amount` credits to a lease; a repeated key gets the first answer again."""
        answer = self._obey(
            "extend", lease_id=lease_id, amount=amount, expires_at=expires_at, key=key
        )
        return cast("Lease", answer)

    def _extend(
        self, at: float, *, lease_id: str, amount: float, expires_at: float | None, key: str | None
    ) -> Lease:
        self._sweep(at)
        units = _units(amount, "additional_amount")
        lease = self.ledger.extend(at, lease_id, units, expires_at, key)
        self._note_credit(lease.company_id, lease.credit_type_id)
        return lease

    def release(self, lease_id: str) -> Lease:
        """End a lease and refund what it did not spend."""
        return cast("Lease", self._obey("release", lease_id=lease_id))

    def _release(self, at: float, lease_id: str) -> Lease:
        self._sweep(at)
        lease = self.ledger.release(at, lease_id)
        self._note_credit(lease.company_id, lease.credit_type_id)
        return lease

    # Reservations

    def reserve(
        self,
        slot: Slot,
        *,
        event_subtype: str | None,
        rate: float,
        quantity: int,
        expires_at: float,
        key: str | None,
        verdict: Entity,
    ) -> tuple[Entity, Reservation]:
        """Hold `quantity * rate` credits for a check; return its verdict and the reservation."""
        answer = self._obey(
            "reserve",
            reservation_id=_new_id("res"),
            slot=slot,
            event_subtype=event_subtype,
            rate=rate,
            quantity=quantity,
            expires_at=expires_at,
            key=key,
            verdict=verdict,
        )
        return cast("tuple[Entity, Reservation]", answer)

    def _reserve(
        self,
        at: float,
        *,
        reservation_id: str,
        slot: Slot,
        event_subtype: str | None,
        rate: float,
        quantity: int,
        expires_at: float,
        key: str | None,
        verdict: Entity,
    ) -> tuple[Entity, Reservation]:
        self._sweep(at)
        slot = self._slot(*slot)
        units = _units(rate, "consumption_rate")
        reservation = self.ledger.reserve(
            at,
            Reservation(
                id=reservation_id,
                company_id=slot[0],
                credit_type_id=slot[1],
                event_subtype=event_subtype,
                rate=units,
                quantity=quantity,
                reserved=quantity * units,
                expires_at=expires_at,
                created_at=at,
                updated_at=at,
            ),
            key,
        )
        self._verdicts[reservation_id] = verdict
        self._note_credit(*slot)
        return verdict, reservation

    def repeated_reserve(
        self, company_id: str, key: str | None
    ) -> tuple[Entity, Reservation] | None:
        """Return the first answer to an idempotency key, for a day."""
        reservation = self.ledger.repeated_reserve(self.clock.now(), company_id, key)
        return None if reservation is None else (self._verdicts[reservation.id], reservation)

    def release_reservation(self, reservation_id: str) -> Reservation:
        """Refund a reservation whole."""
        answer = self._obey("release_reservation", reservation_id=reservation_id)
        return cast("Reservation", answer)

    def _release_reservation(self, at: float, reservation_id: str) -> Reservation:
        self._sweep(at)
        reservation = self.ledger.release_reservation(at, reservation_id)
        self._note_credit(reservation.company_id, reservation.credit_type_id)
        return reservation

    # Events

    def capture(self, body: bytes, events: list[Entity]) -> None:
        """Take a checked batch; `body` is the request it came in."""
        at = self.clock.now()
        if self._journal is not None:
            self._journal.append_batch(at, body)
        self._take(at, body, events)

    def _take(self, at: float, body: bytes, events: list[Entity]) -> None:
        self._sweep(at)
        seen = self._seen
        duplicates: list[int] = []
        for index, event in enumerate(events):
            key = event.get("idempotency_key")
            if key:
                first = seen.get(key)
                if first is not None and at - first < REPEAT_WINDOW:
                    duplicates.append(index)
                    continue
                seen.pop(key, None)  # so that the oldest keys stay in front
                seen[key] = at
            kind = event["type"]
            if kind == "track":
                self._track(at, event["body"])
            elif kind == "identify":
                self._identify(event["body"])
        self._batches.append((body, frozenset(duplicates)))
        self._batch_starts.append(self._event_count)
        self._event_count += len(events)
        self._forget_keys(at)

    def _forget_keys(self, at: float) -> None:
        seen = self._seen
        while seen and at - seen[oldest := next(iter(seen))] >= REPEAT_WINDOW:
            del seen[oldest]

    def _track(self, at: float, body: Entity) -> None:
        event = body.get("event")
        quantity = _quantity(body.get("quantity"))
        if not isinstance(event, str) or quantity is None:
            self._note_anomaly("unreadable track event")
            return
        lease_id, reservation_id = _hold_id(body, "lease_id"), _hold_id(body, "reservation_id")
        lease = self.ledger.leases.get(lease_id) if lease_id else None
        reservation = None
        if not lease_id and reservation_id:
            reservation = self.ledger.reservations.get(reservation_id)
        hold = lease or reservation
        company_id = self._billed_company(body, hold)
        if company_id is None:
            self._note_anomaly("track event of an unknown company")
            return
        usage = self.usage.setdefault(company_id, {})
        usage[event] = usage.get(event, 0) + quantity
        meter = self._meters.get((company_id, event)) or self._meter(at, company_id, event)
        moved = self._note(company_id)
        for row in meter.rows:
            row["value"] = min(row["value"] + quantity, I64_MAX)
            moved.rows[id(row)] = row
        if lease is not None:
            self._track_lease(at, lease, meter, quantity, moved)
        elif reservation is not None:
            self._settle(at, reservation, quantity)
        else:
            if lease_id or reservation_id:
                self._note_anomaly("track event of an unknown lease or reservation")
            for credit in meter.plain:
                self.ledger.bill(at, (company_id, credit), quantity * meter.rates[credit])
                moved.credits.add(credit)

    def _billed_company(self, body: Entity, hold: Lease | Reservation | None) -> str | None:
        """Name who pays: the hold's company, else the one that the event names."""
        keys = body.get("company")
        try:
            named = self.directory.company_id(keys) if isinstance(keys, dict) else None
        except (KeyConflictError, AttributeError):
            named = None
        if hold is None:
            return named
        if named is not None and named != hold.company_id:
            self._note_anomaly("track event of one company with the lease of another")
        return hold.company_id

    def _track_lease(
        self, at: float, lease: Lease, meter: Meter, quantity: int, moved: Moved
    ) -> None:
        rate = meter.rates.get(lease.credit_type_id)
        if rate is None:
            self._note_anomaly("track event that its lease's credit does not meter")
            return
        ended = lease.status != "active"
        consumption = self.ledger.consume_lease(at, lease.id, quantity * rate)
        moved.credits.add(lease.credit_type_id)
        if ended:
            self._note_anomaly("track event of an ended lease")
        elif consumption.direct:
            self._note_anomaly("track event beyond its lease")

    def _settle(self, at: float, reservation: Reservation, quantity: int) -> None:
        ended = reservation.status != "held"
        consumption = self.ledger.settle(at, reservation.id, quantity)
        self._note_credit(reservation.company_id, reservation.credit_type_id)
        if ended:
            self._note_anomaly("track event of an ended reservation")
        elif consumption.direct:
            self._note_anomaly("track event beyond its reservation")

    def _identify(self, body: Entity) -> None:
        """Merge keys and traits into what is known already; nobody new is made."""
        company = body.get("company")
        if isinstance(company, dict):
            self._merge("companies", company)
        self._merge("users", body)

    def _merge(self, kind: str, body: Entity) -> None:
        keys, traits = body.get("keys"), body.get("traits")
        pairs = (
            {k: v for k, v in keys.items() if isinstance(v, str)} if isinstance(keys, dict) else {}
        )
        find = self.directory.company_id if kind == "companies" else self.directory.user_id
        try:
            entity_id = find(pairs)
        except KeyConflictError:
            self._note_anomaly("identify event whose keys name several entities")
            return
        if entity_id is None:
            return
        entity = getattr(self.directory, kind)[entity_id]
        changed = self.directory.merge(entity, pairs, traits if isinstance(traits, dict) else {})
        if changed:
            self._note(entity_id).fields.update(changed)

    def _meter(self, at: float, company_id: str, event: str) -> Meter:
        rates: dict[str, int] = {}
        plain: list[str] = []
        for credit, rate, entitled in self.directory.rates(company_id, event):
            if credit in rates:
                continue
            rates[credit] = to_units(rate, "consumption_rate")
            if entitled or (company_id, credit) in self.ledger.balances:
                plain.append(credit)
        rows = self.directory.metric_rows(company_id, event, at)
        meter = self._meters[company_id, event] = Meter(rows, rates, plain)
        return meter

    # Entities

    def set_company(self, company: Entity) -> None:
        """Add or replace a checked company; the balances it names become its balances."""
        self._obey("set_company", company=company)

    def _set_company(self, at: float, company: Entity) -> None:
        self._sweep(at)
        self._put_company(at, company, "adjust")

    def _put_company(self, at: float, company: Entity, kind: str) -> None:
        self._meters.clear()
        self.directory.put_company(company)
        postpaid = company.get("credit_postpaid") or {}
        amounts = {
            credit: _units(v, "balance")
            for credit, v in (company.get("credit_balances") or {}).items()
        }
        for credit, units in amounts.items():
            slot = (company["id"], credit)
            self.ledger.grant(at, slot, units - self.ledger.balances.get(slot, 0), kind)
        for credit, terms in postpaid.items():
            if terms is not None:
                limit = terms.get("overdraft_limit")
                self.ledger.overdraft[company["id"], credit] = (
                    None if limit is None else _units(limit, "overdraft_limit")
                )

    def set_flag(self, flag: Entity) -> None:
        """Add or replace a checked flag."""
        self._obey("set_flag", flag=flag)

    def _set_flag(self, at: float, flag: Entity) -> None:
        self._sweep(at)
        self._meters.clear()
        self.directory.put_flag(flag)

    def set_user(self, user: Entity) -> None:
        """Add or replace a checked user."""
        self._obey("set_user", user=user)

    def _set_user(self, at: float, user: Entity) -> None:
        self._sweep(at)
        self.directory.put_user(user)

    def delete(self, kind: str, entity_id: str) -> None:
        """Forget a flag, company or user; what its ledger holds stays."""
        self._obey("delete", kind=kind, entity_id=entity_id)

    def _delete(self, at: float, kind: str, entity_id: str) -> None:
        self._sweep(at)
        self._meters.clear()
        drops = {
            "flag": self.directory.drop_flag,
            "company": self.directory.drop_company,
            "user": self.directory.drop_user,
        }
        if drops[kind](entity_id) is None:
            raise UnknownIdError(f"{kind} not found: {entity_id}")

    def set_balance(self, company_id: str, credit: str, amount: float) -> None:
        """Make a company's remaining balance exactly `amount` credits."""
        self._obey("set_balance", company_id=company_id, credit=credit, amount=amount)

    def _set_balance(self, at: float, company_id: str, credit: str, amount: float) -> None:
        self._sweep(at)
        if company_id not in self.directory.companies:
            raise UnknownIdError(f"company not found: {company_id}")
        self._meters.clear()
        self.ledger.set_balance(at, (company_id, credit), _units(amount, "amount"))
        self._note_credit(company_id, credit)

    # Grants and tokens

    def grant_credits(
        self, company_id: str, credit: str, amount: float, reason: str, expires_at: float | None
    ) -> Grant:
        """Give a company credits, until they expire if they do."""
        answer = self._obey(
            "grant_credits",
            grant_id=_new_id("bcgrt"),
            company_id=company_id,
            credit=credit,
            amount=amount,
            reason=reason,
            expires_at=expires_at,
        )
        return cast("Grant", answer)

    def _grant_credits(
        self,
        at: float,
        *,
        grant_id: str,
        company_id: str,
        credit: str,
        amount: float,
        reason: str,
        expires_at: float | None,
    ) -> Grant:
        self._sweep(at)
        if company_id not in self.directory.companies:
            raise UnknownIdError(f"company not found: {company_id}")
        if credit not in self.credit_types():
            raise UnknownIdError(f"credit type not found: {credit}")
        units = _units(amount, "quantity")
        if units <= 0:
            raise InvalidRequestError("quantity must be greater than 0")
        if expires_at is not None and expires_at <= at:
            raise InvalidRequestError("expires_at must be in the future")
        grant = Grant(grant_id, company_id, credit, units, reason, at, expires_at)
        self.grants.add(grant)
        self._meters.clear()
        self.ledger.grant(at, grant.slot, units)
        self._note_credit(company_id, credit)
        return grant

    def zero_out_grant(self, grant_id: str, reason: str) -> Grant:
        """Take back what is left of a grant."""
        return cast("Grant", self._obey("zero_out_grant", grant_id=grant_id, reason=reason))

    def _zero_out_grant(self, at: float, grant_id: str, reason: str) -> Grant:
        self._sweep(at)
        grant = self.grants.get(grant_id)
        self._end_grant(at, grant, reason)
        return grant

    def _end_grant(self, at: float, grant: Grant, reason: str) -> None:
        left = self.grants.remaining(grant.slot, self.ledger.balances.get(grant.slot, 0))
        self.grants.end(at, grant, reason)
        self.ledger.grant(at, grant.slot, -left[grant.id], "expire")
        self._note_credit(*grant.slot)

    def issue_token(self, company_id: str, seconds: float) -> Entity:
        """Make a temporary access token for a company."""
        answer = self._obey(
            "issue_token",
            token_id=_new_id("tmptok"),
            token=_new_id("token"),
            company_id=company_id,
            seconds=seconds,
        )
        return cast("Entity", answer)

    def _issue_token(
        self, at: float, *, token_id: str, token: str, company_id: str, seconds: float
    ) -> Entity:
        issued = {
            "id": token_id,
            "token": token,
            "company_id": company_id,
            "created_at": at,
            "expires_at": at + seconds,
        }
        self.tokens[token_id] = issued
        return issued

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
        self._obey("turn", offset=self.clock.offset, frozen_at=self.clock.frozen_at)

    def _turn(self, at: float, offset: float, frozen_at: float | None) -> None:
        self.clock.offset, self.clock.frozen_at = offset, frozen_at
        self._sweep(at)

    # Reading

    def line(self, company_id: str, credit: str) -> CreditLine:
        """Return what a company has of one credit type."""
        slot = (company_id, credit)
        remaining = self.ledger.balances.get(slot, 0)
        held, settled = self.ledger.held(slot), self.ledger.billed.get(slot, 0)
        return CreditLine(
            remaining=to_credits(remaining),
            reserved=to_credits(held),
            settled=to_credits(settled),
            total=to_credits(remaining + held + settled),
        )

    def lines(self, company_id: str) -> dict[str, CreditLine]:
        """Return what a company has of every credit type, by id."""
        return {
            credit: self.line(owner, credit)
            for owner, credit in self.ledger.balances
            if owner == company_id
        }

    def credit_types(self) -> set[str]:
        """Return the ids of the credit types that balances, entitlements or rules name."""
        return {credit for _, credit in self.ledger.balances} | self.directory.credit_types()

    def company_wire(self, company_id: str) -> Entity:
        """Return a company as DataStream sends it now."""
        self.sweep()
        return self.directory.company_wire(company_id, self.lines(company_id))

    def events(self, after: int = 0, limit: int = 10_000) -> list[Entity]:
        """Return events as they were posted, from number `after` on, duplicates marked."""
        found: list[Entity] = []
        index = max(bisect_right(self._batch_starts, after) - 1, 0)
        while index < len(self._batches) and len(found) < limit:
            body, duplicates = self._batches[index]
            start = self._batch_starts[index]
            for place, event in enumerate(json_text.read(body)["events"]):
                if place in duplicates:
                    event["duplicate"] = True
                if start + place >= after and len(found) < limit:
                    found.append(event)
            index += 1
        return found

    def state(self) -> Entity:
        """Return companies, balances, leases, reservations and billed usage as plain JSON."""
        self.sweep()
        owners = {owner for owner, _ in self.ledger.balances} | set(self.directory.companies)
        return {
            "now": self.clock.now(),
            "companies": {owner: self._company_state(owner) for owner in sorted(owners)},
            "leases": {lease.id: _lease_state(lease) for lease in self.ledger.leases.values()},
            "reservations": {
                r.id: _reservation_state(r) for r in self.ledger.reservations.values()
            },
            "events": self._event_count,
            "billed": {owner: dict(usage) for owner, usage in self.usage.items()},
            "anomalies": dict(self.anomalies),
            "grants": {grant.id: self._grant_state(grant) for grant in self.grants.by_id.values()},
            "tokens": {
                token_id: {"company_id": token["company_id"], "expires_at": token["expires_at"]}
                for token_id, token in self.tokens.items()
            },
        }

    def grant_left(self, grant: Grant) -> int:
        """Return the units that are left of a grant."""
        balance = self.ledger.balances.get(grant.slot, 0)
        return self.grants.remaining(grant.slot, balance).get(grant.id, 0)

    def _grant_state(self, grant: Grant) -> Entity:
        return {
            "company_id": grant.company_id,
            "credit_type_id": grant.credit_type_id,
            "quantity": to_credits(grant.quantity),
            "remaining": to_credits(self.grant_left(grant)),
            "expires_at": grant.expires_at,
            "ended_at": grant.ended_at,
        }

    def _company_state(self, company_id: str) -> Entity:
        company = self.directory.companies.get(company_id, {})
        lines = self.lines(company_id)
        return {
            "keys": company.get("keys") or {},
            "balances": {credit: line.remaining for credit, line in lines.items()},
            "held": {credit: line.reserved for credit, line in lines.items()},
            "settled": {credit: line.settled for credit, line in lines.items()},
            "overage": {
                credit: to_credits(self.ledger.overage[company_id, credit])
                for credit in lines
                if (company_id, credit) in self.ledger.overage
            },
            "metrics": company.get("metrics") or [],
        }

    def audit(self) -> Entity:
        """Audit the ledger against its book; see `audit.audit`."""
        self.sweep()
        return {**audit(self.ledger), "anomalies": dict(self.anomalies)}

    # Notes

    def take_moved(self) -> dict[str, Moved]:
        """Return what has changed since the last call, by company or user id."""
        moved, self.moved = self.moved, {}
        return moved

    def _note(self, entity_id: str) -> Moved:
        moved = self.moved.get(entity_id)
        if moved is None:
            moved = self.moved[entity_id] = Moved()
            self.on_move()
        return moved

    def _note_credit(self, company_id: str, credit: str) -> None:
        self._note(company_id).credits.add(credit)

    def _note_anomaly(self, what: str) -> None:
        self.anomalies[what] = self.anomalies.get(what, 0) + 1

    def _slot(self, company_id: str, credit: str) -> Slot:
        if company_id not in self.directory.companies:
            raise UnknownIdError(f"company not found: {company_id}")
        if not any(known == credit for _, known in self.ledger.balances):
            raise UnknownIdError(f"credit type not found: {credit}")
        return (company_id, credit)


def _nothing() -> None:
    """Stand in for a listener where nobody listens."""


def _new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(10)}"


def _units(amount: object, name: str) -> int:
    try:
        return to_units(amount, name)
    except AmountError as error:
        raise InvalidRequestError(str(error)) from error


def _hold_id(body: Entity, name: str) -> str | None:
    value = body.get(name)
    return value if isinstance(value, str) else None


def _quantity(value: object) -> int | None:
    """Read an event's quantity as whole event units; None if it cannot be billed."""
    if value is None:
        return 1
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= I64_MAX:
        return None
    return math.ceil(value)


def _lease_state(lease: Lease) -> Entity:
    return {
        "company_id": lease.company_id,
        "credit_type_id": lease.credit_type_id,
        "granted": to_credits(lease.granted),
        "tracked": to_credits(lease.tracked),
        "refunded": to_credits(lease.refunded),
        "held": to_credits(lease.unspent),
        "status": lease.status,
        "expires_at": lease.expires_at,
        "released_at": lease.released_at,
    }


def _reservation_state(reservation: Reservation) -> Entity:
    return {
        "company_id": reservation.company_id,
        "credit_type_id": reservation.credit_type_id,
        "event_subtype": reservation.event_subtype,
        "quantity": reservation.quantity,
        "reserved": to_credits(reservation.reserved),
        "settled": to_credits(reservation.settled),
        "refunded": to_credits(reservation.refunded),
        "consumption_rate": reservation.rate / ONE,
        "status": reservation.status,
        "expires_at": reservation.expires_at,
        "released_at": reservation.released_at,
    }


def _require_instant(name: str, at: float) -> None:
    if at > LAST_INSTANT:
        raise InvalidRequestError(f"{name} must not move the clock beyond the year 9998")
