"""The whole state of the emulated service, and what each command does to it.

Carrying out a command reads no clock and draws no randomness: the instant and new ids come with it.
So replaying the same commands rebuilds the same state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schematic_native.emulator.credits.amounts import AmountError, to_credits, to_units
from schematic_native.emulator.credits.grants import Grant, Grants
from schematic_native.emulator.credits.holds import Lease, Reservation, Slot
from schematic_native.emulator.credits.ledger import Ledger
from schematic_native.emulator.errors import InvalidRequestError, UnknownIdError
from schematic_native.emulator.state import commands
from schematic_native.emulator.state.billing import Billing
from schematic_native.emulator.state.directory import CreditLine, Directory
from schematic_native.emulator.state.event_log import Batch, EventLog
from schematic_native.emulator.state.metering import Meters
from schematic_native.ground import json_text

if TYPE_CHECKING:
    from schematic_native.emulator.seed import Seed
    from schematic_native.emulator.state.changes import Changes

Entity = dict[str, Any]


class State:
    """Ledger, entities, grants, tokens and events, as they are at one instant."""

    def __init__(self, seed: Seed, changes: Changes) -> None:
        self.changes = changes
        self.ledger = Ledger()
        self.directory = Directory()
        self.grants = Grants()
        self.log = EventLog()
        self.tokens: dict[str, Entity] = {}
        self.verdicts: dict[str, Entity] = {}  # of each reservation's check, by its id
        self._meters = Meters(self.directory, self.ledger)
        self.billing = Billing(self.ledger, self.directory, self._meters, changes)
        self._carry_out = {
            commands.Acquire: self._acquire,
            commands.Extend: self._extend,
            commands.Release: self._release,
            commands.Reserve: self._reserve,
            commands.ReleaseReservation: self._release_reservation,
            commands.SetCompany: self._set_company,
            commands.SetFlag: self._set_flag,
            commands.SetUser: self._set_user,
            commands.Delete: self._delete,
            commands.SetBalance: self._set_balance,
            commands.GrantCredits: self._grant_credits,
            commands.ZeroOutGrant: self._zero_out_grant,
            commands.IssueToken: self._issue_token,
        }
        self._plant(seed)

    def _plant(self, seed: Seed) -> None:
        seed_copy = json_text.read(json_text.write([seed.flags, seed.companies, seed.users]))
        for flag in seed_copy[0]:
            self.directory.put_flag(flag)
        for company in seed_copy[1]:
            self._put_company(0.0, company, "opening")
        for user in seed_copy[2]:
            self.directory.put_user(user)

    def carry_out(self, at: float, command: commands.Command) -> Any:
        """Do what a command says, and return what it is answered with.

        Raises:
            ServiceError: The command is refused, and has changed nothing.

        """
        self.sweep(at)
        handle: Any = self._carry_out[type(command)]
        return handle(at, command)

    def sweep(self, at: float) -> None:
        """End the leases, reservations and grants that have expired by an instant."""
        for company_id, credit in self.ledger.sweep(at):
            self.changes.add_credit(company_id, credit)
        for grant in list(self.grants.due(at)):
            self._end_grant(at, grant, "expire")

    # Leases

    def _acquire(self, at: float, command: commands.Acquire) -> Lease:
        slot = self._slot(command.company_id, command.credit)
        units = _units(command.amount, "requested_amount")
        lease = self.ledger.acquire(at, command.lease_id, slot, units, command.expires_at)
        self.changes.add_credit(*slot)
        return lease

    def _extend(self, at: float, command: commands.Extend) -> Lease:
        units = _units(command.amount, "additional_amount")
        lease = self.ledger.extend(at, command.lease_id, units, command.expires_at, command.key)
        self.changes.add_credit(lease.company_id, lease.credit_type_id)
        return lease

    def _release(self, at: float, command: commands.Release) -> Lease:
        lease = self.ledger.release(at, command.lease_id)
        self.changes.add_credit(lease.company_id, lease.credit_type_id)
        return lease

    # Reservations

    def _reserve(self, at: float, command: commands.Reserve) -> tuple[Entity, Reservation]:
        slot = self._slot(*command.slot)
        units = _units(command.rate, "consumption_rate")
        reservation = self.ledger.reserve(
            at,
            Reservation(
                id=command.reservation_id,
                company_id=slot[0],
                credit_type_id=slot[1],
                event_subtype=command.event_subtype,
                rate=units,
                quantity=command.quantity,
                reserved=command.quantity * units,
                expires_at=command.expires_at,
                created_at=at,
                updated_at=at,
            ),
            command.key,
        )
        self.verdicts[reservation.id] = command.verdict
        self.changes.add_credit(*slot)
        return command.verdict, reservation

    def _release_reservation(self, at: float, command: commands.ReleaseReservation) -> Reservation:
        reservation = self.ledger.release_reservation(at, command.reservation_id)
        self.changes.add_credit(reservation.company_id, reservation.credit_type_id)
        return reservation

    # Events

    def take(self, at: float, body: bytes, events: list[Entity]) -> None:
        """Take a checked batch; `body` is the request it came in."""
        self.sweep(at)
        duplicates: list[int] = []
        anomalies: dict[int, str] = {}
        is_duplicate, bill = self.log.is_duplicate, self.billing.bill
        for place, event in enumerate(events):
            if is_duplicate(at, event.get("idempotency_key")):
                duplicates.append(place)
                continue
            anomaly = bill(at, event)
            if anomaly is not None:
                anomalies[place] = anomaly
        self.log.add(Batch(at, body, frozenset(duplicates), anomalies), len(events))

    # Entities

    def _set_company(self, at: float, command: commands.SetCompany) -> None:
        self._put_company(at, command.company, "adjust")

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

    def _set_flag(self, _at: float, command: commands.SetFlag) -> None:
        self._meters.clear()
        self.directory.put_flag(command.flag)

    def _set_user(self, _at: float, command: commands.SetUser) -> None:
        self.directory.put_user(command.user)

    def _delete(self, _at: float, command: commands.Delete) -> None:
        self._meters.clear()
        drops = {
            "flag": self.directory.drop_flag,
            "company": self.directory.drop_company,
            "user": self.directory.drop_user,
        }
        if drops[command.kind](command.entity_id) is None:
            raise UnknownIdError(f"{command.kind} not found: {command.entity_id}")

    def _set_balance(self, at: float, command: commands.SetBalance) -> None:
        slot = (command.company_id, command.credit)
        self._require_company(command.company_id)
        self._meters.clear()
        self.ledger.set_balance(at, slot, _units(command.amount, "amount"))
        self.changes.add_credit(*slot)

    # Grants and tokens

    def _grant_credits(self, at: float, command: commands.GrantCredits) -> Grant:
        self._require_company(command.company_id)
        if command.credit not in self.credit_types():
            raise UnknownIdError(f"credit type not found: {command.credit}")
        units = _units(command.amount, "quantity")
        if units <= 0:
            raise InvalidRequestError("quantity must be greater than 0")
        if command.expires_at is not None and command.expires_at <= at:
            raise InvalidRequestError("expires_at must be in the future")
        grant = Grant(
            command.grant_id,
            command.company_id,
            command.credit,
            units,
            command.reason,
            at,
            command.expires_at,
        )
        self.grants.add(grant)
        self._meters.clear()
        self.ledger.grant(at, grant.slot, units)
        self.changes.add_credit(*grant.slot)
        return grant

    def _zero_out_grant(self, at: float, command: commands.ZeroOutGrant) -> Grant:
        grant = self.grants.get(command.grant_id)
        self._end_grant(at, grant, command.reason)
        return grant

    def _end_grant(self, at: float, grant: Grant, reason: str) -> None:
        left = self.grants.remaining(grant.slot, self.ledger.balances.get(grant.slot, 0))
        self.grants.end(at, grant, reason)
        self.ledger.grant(at, grant.slot, -left[grant.id], "expire")
        self.changes.add_credit(*grant.slot)

    def grant_left(self, grant: Grant) -> int:
        """Return the units that are left of a grant."""
        balance = self.ledger.balances.get(grant.slot, 0)
        return self.grants.remaining(grant.slot, balance).get(grant.id, 0)

    def _issue_token(self, at: float, command: commands.IssueToken) -> Entity:
        issued = {
            "id": command.token_id,
            "token": command.token,
            "company_id": command.company_id,
            "created_at": at,
            "expires_at": at + command.seconds,
        }
        self.tokens[command.token_id] = issued
        return issued

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

    def _slot(self, company_id: str, credit: str) -> Slot:
        self._require_company(company_id)
        if not any(known == credit for _, known in self.ledger.balances):
            raise UnknownIdError(f"credit type not found: {credit}")
        return (company_id, credit)

    def _require_company(self, company_id: str) -> None:
        if company_id not in self.directory.companies:
            raise UnknownIdError(f"company not found: {company_id}")


def _units(amount: object, name: str) -> int:
    try:
        return to_units(amount, name)
    except AmountError as error:
        raise InvalidRequestError(str(error)) from error
