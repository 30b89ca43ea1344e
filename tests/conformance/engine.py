"""The engine of a vector: it answers from a script and notes what it was asked."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from schematic_native import CheckFlagResult, FeatureEntitlement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

UNLIMITED = 2**53 - 1
FEATURE = {"feature_id": "feat_vector", "feature_key": "vector"}


class Script:
    """What one check's questions are answered with, and how they were put."""

    def __init__(self, answers: Sequence[Mapping[str, Any]], balances: Mapping[str, float]) -> None:
        self._answers = deque(answers)
        self._balances = balances
        self.calls: list[dict[str, Any]] = []
        self.faults: list[str] = []

    def answer(self, call: dict[str, Any]) -> Mapping[str, Any]:
        self.calls.append(call)
        if not self._answers:
            self.faults.append(f"the script has no answer to {call}")
            return {"error": "no answer"}
        answer = self._answers.popleft()
        if "credit_balance" not in call:
            # A probe is asked with the company as it is; which of its balances counts, only the
            # answer tells.
            entitlement = answer.get("entitlement") or {}
            call["credit_balance"] = self._balances.get(entitlement.get("credit_id"))
        return answer


class Engine:
    """Answers the questions of a client's lease-backed checks, each flag from a script of its own."""

    def __init__(self) -> None:
        self._scripts: dict[str, Script] = {}

    def follow(self, flag_key: str, script: Script) -> None:
        self._scripts[flag_key] = script

    def __call__(
        self,
        flag_key: str,
        company_id: str | None,
        balance: tuple[str, float] | None,
        credit_cost: Mapping[str, float],
        event_usage: tuple[str, int] | None,
    ) -> CheckFlagResult:
        call = _describe(balance, credit_cost, event_usage)
        return _result(flag_key, self._scripts[flag_key].answer(call))


def _describe(
    balance: tuple[str, float] | None,
    credit_cost: Mapping[str, float],
    event_usage: tuple[str, int] | None,
) -> dict[str, Any]:
    call: dict[str, Any] = {}
    if balance is not None:
        call["credit_id"], amount = balance
        call["credit_balance"] = "max_safe_integer" if amount == UNLIMITED else amount
    if credit_cost:
        [(credit_id, cost)] = credit_cost.items()
        # A cost in another credit than the balance is told as what it is, which no vector expects.
        call["credit_cost"] = cost if credit_id == call.get("credit_id") else dict(credit_cost)
    if event_usage is not None:
        event, quantity = event_usage
        call["event_usage"] = {"event_subtype": event, "quantity": quantity}
    return call


def _result(flag_key: str, answer: Mapping[str, Any]) -> CheckFlagResult:
    if "error" in answer:
        return CheckFlagResult(flag=flag_key, value=False, reason="", error=answer["error"])
    entitlement = answer.get("entitlement")
    return CheckFlagResult(
        flag=flag_key,
        value=answer["value"],
        reason=answer.get("reason", ""),
        entitlement=None if entitlement is None else FeatureEntitlement(**FEATURE, **entitlement),
    )
