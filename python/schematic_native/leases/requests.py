"""What a check asks, checked before anything is done, and the answer that is none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from schematic_native._native import CheckFlagResult, CheckResult, read_quantity
from schematic_native.config.options import CheckFlagOptions, EventQuantities, EventUsage
from schematic_native.ground.arguments import (
    Keys,
    check_text,
    is_usage,
    read_amount,
    read_amounts,
    read_keys,
    read_text,
    wrong_kind,
)

if TYPE_CHECKING:
    from schematic_native._native import Core, FailureMode, PendingCheck
    from schematic_native.config.options import DefaultValue

REASON_OFFLINE = "offline: default value"
REASON_FLAG_NOT_FOUND = "flag not found: default value"
# What went wrong comes after it.
REASON_ERROR = "error: default value"
INSUFFICIENT_CREDITS_REASON = "Insufficient credits"
KEY_CONFLICT = "key conflict"
TIMED_OUT = "timed out: default value"
CLOSED = "client is shut down: default value"


class Unanswered(NamedTuple):
    """No answer could be had: the caller's default applies."""

    reason: str
    error: str | None = None


class Told(NamedTuple):
    """An answer of the API, which the caller's thread keeps for a while."""

    answer: CheckFlagResult


class Preflight(NamedTuple):
    """What a plain check asks on top of the entities as they are."""

    usage: float | None = None
    event_usage: tuple[str, float] | None = None
    event_quantities: tuple[str, Mapping[str, float], float | None] | None = None
    credit_cost: Mapping[str, float] | None = None

    def __bool__(self) -> bool:
        return self != NO_PREFLIGHT

    def to_wire(self) -> dict[str, object]:
        """Write it as the REST API takes it, leaving out what is not set."""
        wire: dict[str, object] = {}
        if self.usage is not None:
            wire["usage"] = math.ceil(self.usage)
        if self.event_usage is not None:
            event, quantity = self.event_usage
            wire["event_usage"] = {"event_subtype": event, "quantity": math.ceil(quantity)}
        if self.event_quantities is not None:
            event, named, units = self.event_quantities
            quantities: dict[str, object] = {"event_subtype": event, "quantities": dict(named)}
            if units is not None:
                quantities["quantity"] = units
            wire["event_quantities"] = quantities
        if self.credit_cost is not None:
            wire["credit_cost"] = dict(self.credit_cost)
        return wire


NO_PREFLIGHT = Preflight()


class FlagQuestion(NamedTuple):
    """A plain check of one flag."""

    flag_key: str
    company: Keys | None
    user: Keys | None
    preflight: Preflight = NO_PREFLIGHT

    def ask(
        self, core: Core, *, record: bool = True, partial: bool = False
    ) -> CheckFlagResult | str:
        """Ask the core; a str names what is missing. `record` queues the event of the check.

        With `partial`, a company or user that is missing counts as none.
        """
        preflight = self.preflight
        return core.check_flag(
            self.flag_key,
            self.company,
            self.user,
            usage=preflight.usage,
            event_usage=preflight.event_usage,
            event_quantities=preflight.event_quantities,
            credit_cost=preflight.credit_cost,
            partial=partial,
            record=record,
        )


FlagOutcome = CheckFlagResult | Told | Unanswered
Outcomes = Mapping[str, FlagOutcome]


def ask_all(
    core: Core,
    flag_keys: Sequence[str] | None,
    company: Keys | None,
    user: Keys | None,
    *,
    record: bool = True,
) -> Outcomes | None:
    """Ask the core for several flags, or for all; None if an entity is missing."""
    outcomes: dict[str, FlagOutcome] = {}
    for key in core.flag_keys() if flag_keys is None else flag_keys:
        answer = FlagQuestion(key, company, user).ask(core, record=record)
        if isinstance(answer, CheckFlagResult):
            outcomes[key] = answer
        elif answer in _KNOWN_MISSES:
            outcomes[key] = Unanswered(_KNOWN_MISSES[answer])
        else:
            return None
    return outcomes


_KNOWN_MISSES = {"flag": REASON_FLAG_NOT_FOUND, "conflict": KEY_CONFLICT}


class LeaseQuestion(NamedTuple):
    """A check that may reserve credits."""

    flag_key: str
    company: Keys | None
    user: Keys | None
    usage: float | None
    event_subtype: str | None
    on_acquire_failure: FailureMode
    ttl: float | None = None  # seconds that the hold may live; as configured if None
    key: str | None = None  # by which the server tells a repeat of it; its own if None

    def ask(self, core: Core) -> CheckResult | PendingCheck:
        """Ask the core."""
        answer = core.check(*self._arguments(), self.ttl)
        if answer is None:
            raise RuntimeError("the process was forked in the middle of a call")
        return answer

    def unheld(self, core: Core, *, record: bool) -> CheckResult:
        """Decide a check for which no lease can be asked for any more.

        Under "fail-open" the rules still decide. Without the entities that they need, the failure
        mode alone does.
        """
        answer = core.check_unheld(*self._arguments(), record=record)
        return self.fail("lease_acquire_failed") if answer is None else answer

    def _arguments(self) -> tuple[str, Keys | None, Keys | None, float, str | None, FailureMode]:
        """Return what the core is asked with: no usage is none of it."""
        usage = 0.0 if self.usage is None else self.usage
        who = self.flag_key, self.company, self.user
        return *who, usage, self.event_subtype, self.on_acquire_failure

    def plain(self) -> FlagQuestion:
        """Return the plain check that asks the same, the usage as its preflight."""
        usage = self.usage if self.usage is not None and is_usage(self.usage) else None
        if usage is None:
            preflight = NO_PREFLIGHT
        elif self.event_subtype:
            preflight = Preflight(event_usage=(self.event_subtype, usage))
        else:
            preflight = Preflight(usage=usage)
        return FlagQuestion(self.flag_key, self.company, self.user, preflight)

    def fail(self, failure: str) -> CheckResult:
        """Resolve the check by its mode, without an evaluation."""
        if self.on_acquire_failure == "fail-open":
            return CheckResult(
                allowed=True,
                value=True,
                reason=f"{failure}_fail_open",
                flag_key=self.flag_key,
                error=failure,
            )
        return CheckResult(
            allowed=False, value=False, reason=failure, flag_key=self.flag_key, error=failure
        )

    def fail_on_server(self) -> CheckResult | Unanswered:
        """Resolve the check by its mode when the server has not held its credits."""
        failure = "server_reservation_failed"
        if self.on_acquire_failure == "fail-open":
            return Unanswered(f"{failure}_fail_open", failure)
        return self.fail(failure)


def plain_result(answer: CheckFlagResult) -> CheckResult:
    """Return a plain check's answer as the answer of `check`.

    Allowed is the value, nothing is held.
    """
    return CheckResult(
        allowed=answer.value,
        value=answer.value,
        reason=answer.reason,
        flag_key=answer.flag,
        entitlement=answer.entitlement,
        flag_id=answer.flag_id,
        error=answer.error,
    )


def read_flag_question(
    flag_key: object, company: object, user: object, options: CheckFlagOptions | None
) -> FlagQuestion:
    """Check the arguments of a plain check."""
    return FlagQuestion(
        read_text("flag_key", flag_key),
        read_keys("company", company),
        read_keys("user", user),
        NO_PREFLIGHT if options is None else read_preflight(options),
    )


def read_lease_question(
    flag_key: object,
    company: object,
    user: object,
    usage: object,
    event_subtype: object,
    on_acquire_failure: object,
) -> LeaseQuestion:
    """Check the arguments of `check`.

    A usage that is no usage is let through: its check says so.
    """
    subtype = None if event_subtype is None else check_text("event_subtype", event_subtype)
    if on_acquire_failure is None:
        on_acquire_failure = "fail-closed"
    if on_acquire_failure not in ("fail-open", "fail-closed"):
        raise ValueError(
            f"on_acquire_failure must be 'fail-closed' or 'fail-open', got {on_acquire_failure!r}"
        )
    return LeaseQuestion(
        read_text("flag_key", flag_key),
        read_keys("company", company),
        read_keys("user", user),
        None if usage is None else read_quantity("usage", usage),
        subtype or None,
        on_acquire_failure,
    )


def resolve_default(value: DefaultValue, flag_default: bool) -> bool:
    """Return the caller's default, which may be a function, or else the flag's."""
    if value is None:
        return flag_default
    answer = value() if callable(value) else value
    if not isinstance(answer, bool):
        raise TypeError(f"default_value must give a bool, got {answer!r}")
    return answer


def read_preflight(options: CheckFlagOptions) -> Preflight:
    """Read what the options ask on top of the entities, or raise TypeError or ValueError."""
    event_usage = options.event_usage
    if event_usage is not None and not isinstance(event_usage, EventUsage):
        raise wrong_kind("event_usage", EventUsage, event_usage)
    quantities = options.event_quantities
    if quantities is not None and not isinstance(quantities, EventQuantities):
        raise wrong_kind("event_quantities", EventQuantities, quantities)
    return Preflight(
        usage=None if options.usage is None else read_amount("usage", options.usage),
        event_usage=(
            None
            if event_usage is None
            else (
                read_text("event_usage.event_subtype", event_usage.event_subtype),
                read_amount("event_usage.quantity", event_usage.quantity),
            )
        ),
        event_quantities=(
            None
            if quantities is None
            else (
                read_text("event_quantities.event_subtype", quantities.event_subtype),
                read_amounts("event_quantities.quantities", quantities.quantities),
                None
                if quantities.quantity is None
                else read_amount("event_quantities.quantity", quantities.quantity),
            )
        ),
        credit_cost=(
            None
            if options.credit_cost is None
            else read_amounts("credit_cost", options.credit_cost)
        ),
    )
