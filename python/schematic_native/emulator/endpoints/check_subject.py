"""Whom a check is about, and the evaluation of flags for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schematic_native.emulator.endpoints import request_body
from schematic_native.emulator.errors import InvalidRequestError
from schematic_native.emulator.state.directory import KeyConflictError
from schematic_native.emulator.state.evaluation import evaluate

if TYPE_CHECKING:
    from schematic_native.emulator.state.service import Service

Entity = dict[str, Any]

_ENDLESS = float(2**53 - 1)  # credits: a balance that covers any cost


class Subject:
    """Whom a check is about: a company and a user, as far as they are known."""

    def __init__(self, service: Service, body: Entity) -> None:
        self._service = service
        directory = service.directory
        self.conflict: str | None = None
        self.company_id = self.user_id = None
        try:
            self.company_id = directory.company_id(request_body.keys(body, "company"))
            self.user_id = directory.user_id(request_body.keys(body, "user"))
        except KeyConflictError as error:
            self.conflict = str(error)
        self._company = None if self.company_id is None else service.company_wire(self.company_id)
        self._user = None if self.user_id is None else directory.users[self.user_id]

    def check(self, flag: Entity, options: Entity, endless: str | None = None) -> Entity:
        """Evaluate a flag; `endless` names a credit type to assume enough of."""
        if self.conflict is not None:
            return {
                "flag": flag["key"],
                "flag_id": flag["id"],
                "value": flag["default_value"],
                "reason": "key conflict",
                "error": self.conflict,
            }
        company = self._company
        if company is not None and endless is not None:
            company = {
                **company,
                "credit_balances": {**company["credit_balances"], endless: _ENDLESS},
            }
        try:
            return evaluate(flag, company, self._user, options, self._service.clock.now())
        except ValueError as error:
            raise InvalidRequestError(f"preflight: {error}") from error

    def credit_balances(self) -> Entity:
        """Return the company's credits as the check of all flags answers them."""
        if self.company_id is None or self._company is None:
            return {}
        postpaid = self._company.get("credit_postpaid") or {}
        balances: Entity = {}
        for credit, line in self._service.state.lines(self.company_id).items():
            terms = postpaid.get(credit)
            balances[credit] = {
                "remaining": line.remaining,
                "reserved": line.reserved,
                "settled": line.settled,
                "postpaid": terms is not None,
            }
            if terms is not None and terms.get("overdraft_limit") is not None:
                balances[credit]["overdraft_limit"] = terms["overdraft_limit"]
        return balances

    def spend_policies(self) -> list[Entity]:
        """Return the spend policies of the company and the user."""
        holders = (self._company or {}, self._user or {})
        return [
            policy for holder in holders for policy in holder.get("credit_spend_policies") or []
        ]
