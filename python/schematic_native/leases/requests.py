"""The requests of the public check methods, as objects, and the reading of their arguments.

Arguments are refused here, before anything is done; nothing here waits or does I/O.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from schematic_native._native import CheckFlagResult, CheckResult, read_quantity
from schematic_native.config.options import (
    CheckFlagOptions,
    CheckOptions,
    EventQuantities,
    EventUsage,
)
from schematic_native.ground.arguments import (
    LONGEST_WAIT,
    Keys,
    check_default,
    check_options,
    check_text,
    is_usage,
    read_amount,
    read_amounts,
    read_keys,
    read_text,
    read_timeout,
    shown,
    wrong_kind,
)

if TYPE_CHECKING:
    from schematic_native._native import Core, FailureMode, PendingCheck
    from schematic_native.config.options import DefaultValue, LookupKeys

# The arguments of `check` as its caller gave them, in the order of its signature.
CheckArguments: TypeAlias = """tuple[
    str, LookupKeys | None, LookupKeys | None, CheckOptions | None, float | None, str | None,
    FailureMode | None, DefaultValue, float | None
]"""

REASON_OFFLINE = "offline: default value"
REASON_FLAG_NOT_FOUND = "flag not found: default value"
# Followed by the error's text.
REASON_ERROR = "error: default value"
INSUFFICIENT_CREDITS_REASON = "Insufficient credits"
KEY_CONFLICT = "key conflict"
TIMED_OUT = "timed out: default value"
CLOSED = "client is shut down: default value"


class NoAnswer(NamedTuple):
    """Neither the core nor the service could decide: the caller's default applies."""

    reason: str
    error: str | None = None


class ServiceAnswer(NamedTuple):
    """An answer of the service's REST API, which the client caches for a while."""

    answer: CheckFlagResult


class Preflight(NamedTuple):
    """Usage that a plain check is to evaluate as if it had happened already."""

    usage: float | None = None
    event_usage: tuple[str, float] | None = None
    event_quantities: tuple[str, Mapping[str, float], float | None] | None = None
    credit_cost: Mapping[str, float] | None = None

    def __bool__(self) -> bool:
        return self != NO_PREFLIGHT

    def to_wire(self) -> dict[str, object]:
        """Return the fields of a REST request, without those that are not set."""
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


class FlagRequest(NamedTuple):
    """A plain check of one flag."""

    flag_key: str
    company: Keys | None
    user: Keys | None
    preflight: Preflight = NO_PREFLIGHT
    default: DefaultValue = None  # the answer if no other can be had; the flag's own if None
    timeout: float = LONGEST_WAIT  # seconds

    def decide(
        self, core: Core, *, record: bool = True, partial: bool = False
    ) -> CheckFlagResult | str:
        """Evaluate the flag in memory; a str names what is missing for that.

        `record` queues the event of the check. With `partial`, an unknown company or user is
        evaluated as if none had been named.
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


FlagOutcome: TypeAlias = "CheckFlagResult | ServiceAnswer | NoAnswer"
Outcomes = Mapping[str, FlagOutcome]


def decide_all(core: Core, request: FlagsRequest, *, record: bool = True) -> Outcomes | None:
    """Evaluate several flags in memory, or all; None if an entity is missing for that."""
    outcomes: dict[str, FlagOutcome] = {}
    for key in core.flag_keys() if request.flag_keys is None else request.flag_keys:
        answer = request.of(key).decide(core, record=record)
        if isinstance(answer, CheckFlagResult):
            outcomes[key] = answer
        elif answer in _KNOWN_MISSES:
            outcomes[key] = NoAnswer(_KNOWN_MISSES[answer])
        else:
            return None
    return outcomes


_KNOWN_MISSES = {"flag": REASON_FLAG_NOT_FOUND, "conflict": KEY_CONFLICT}


class CheckRequest(NamedTuple):
    """A check that may reserve credits."""

    flag_key: str
    company: Keys | None
    user: Keys | None
    usage: float | None
    event_subtype: str | None
    on_acquire_failure: FailureMode
    default: DefaultValue  # the answer if no other can be had; the flag's own if None
    timeout: float  # seconds
    ttl: float | None = None  # seconds that the hold may live; as configured if None
    key: str | None = None  # the idempotency key; generated if None

    def decide(self, core: Core) -> CheckResult | PendingCheck:
        """Begin the check in memory: answered, or pending with what it needs next."""
        answer = core.check(*self._arguments(), self.ttl)
        if answer is None:
            raise RuntimeError("the process was forked in the middle of a call")
        return answer

    def decide_without_lease(self, core: Core, *, record: bool) -> CheckResult:
        """Decide a check when no lease can be acquired any more.

        Under "fail-open" the rules still decide. Without the entities that they need, the failure
        mode alone does.
        """
        answer = core.check_unheld(*self._arguments(), record=record)
        return self.fail("lease_acquire_failed") if answer is None else answer

    def _arguments(self) -> tuple[str, Keys | None, Keys | None, float, str | None, FailureMode]:
        """Return the arguments of the core's methods, which take a missing usage as 0."""
        usage = 0.0 if self.usage is None else self.usage
        who = self.flag_key, self.company, self.user
        return *who, usage, self.event_subtype, self.on_acquire_failure

    def as_flag_request(self) -> FlagRequest:
        """Return the plain check of the same flag, with the usage as its preflight."""
        usage = self.usage if self.usage is not None and is_usage(self.usage) else None
        if usage is None:
            preflight = NO_PREFLIGHT
        elif self.event_subtype:
            preflight = Preflight(event_usage=(self.event_subtype, usage))
        else:
            preflight = Preflight(usage=usage)
        return FlagRequest(
            self.flag_key, self.company, self.user, preflight, self.default, self.timeout
        )

    def fail(self, failure: str) -> CheckResult:
        """Answer by the failure mode alone, without evaluating the flag."""
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

    def fail_on_server(self) -> CheckResult | NoAnswer:
        """Answer by the failure mode when the server has not reserved the credits."""
        failure = "server_reservation_failed"
        if self.on_acquire_failure == "fail-open":
            return NoAnswer(f"{failure}_fail_open", failure)
        return self.fail(failure)


def plain_result(answer: CheckFlagResult) -> CheckResult:
    """Convert a plain check's answer to one of `check`, which holds nothing."""
    return CheckResult(
        allowed=answer.value,
        value=answer.value,
        reason=answer.reason,
        flag_key=answer.flag,
        entitlement=answer.entitlement,
        flag_id=answer.flag_id,
        error=answer.error,
    )


def read_flag_request(
    flag_key: object,
    company: object,
    user: object,
    options: CheckFlagOptions | None,
    timeout: float,
) -> FlagRequest:
    """Check the arguments of a plain check; `timeout` holds unless the options have one."""
    check_options(options, CheckFlagOptions)
    request = FlagRequest(
        read_text("flag_key", flag_key),
        read_keys("company", company),
        read_keys("user", user),
        NO_PREFLIGHT if options is None else read_preflight(options),
        timeout=timeout,
    )
    if options is None:
        return request
    check_default(options.default_value)
    if options.timeout is not None:
        timeout = read_timeout(options.timeout)
    return request._replace(default=options.default_value, timeout=timeout)


def read_check_request(arguments: CheckArguments, timeout: float) -> CheckRequest:
    """Check the arguments of `check`; `timeout` holds unless the caller gave one.

    A usage that is out of range passes: the check's answer reports it.
    """
    given = _Given(*arguments)
    if given.options is not None:
        given = given.merged(given.options)
    check_default(given.default_value)
    if given.timeout is not None:
        timeout = read_timeout(given.timeout)
    subtype = given.event_subtype
    subtype = None if subtype is None else check_text("event_subtype", subtype)
    mode = given.on_acquire_failure or "fail-closed"
    if mode not in ("fail-open", "fail-closed"):
        raise ValueError(
            "on_acquire_failure must be 'fail-closed' or 'fail-open', "
            f"got {shown(given.on_acquire_failure)}"
        )
    return CheckRequest(
        read_text("flag_key", given.flag_key),
        read_keys("company", given.company),
        read_keys("user", given.user),
        None if given.usage is None else read_quantity("usage", given.usage),
        subtype or None,
        mode,
        given.default_value,
        timeout,
    )


class _Given(NamedTuple):
    """The arguments of `check` by name."""

    flag_key: str
    company: LookupKeys | None
    user: LookupKeys | None
    options: CheckOptions | None
    usage: float | None
    event_subtype: str | None
    on_acquire_failure: FailureMode | None
    default_value: DefaultValue
    timeout: float | None

    def merged(self, options: CheckOptions) -> _Given:
        """Fill in from the options what no keyword gave."""
        check_options(options, CheckOptions)
        kept = {name: getattr(options, name) for name in _IN_OPTIONS if getattr(self, name) is None}
        return self._replace(**kept)


_IN_OPTIONS = ("usage", "event_subtype", "on_acquire_failure", "default_value", "timeout")


class FlagsRequest(NamedTuple):
    """Plain checks of several flags, or of all if `flag_keys` is None."""

    flag_keys: list[str] | None
    each: FlagRequest  # as which each flag is checked, but for its key

    def of(self, flag_key: str) -> FlagRequest:
        """Return the plain check of one of the flags."""
        return self.each._replace(flag_key=flag_key)


def resolve_default(value: DefaultValue, flag_default: bool) -> bool:
    """Return the caller's default, calling it if it is a function, or else the flag's."""
    if value is None:
        return flag_default
    answer = value() if callable(value) else value
    if not isinstance(answer, bool):
        raise TypeError(f"default_value must give a bool, got {shown(answer)}")
    return answer


def read_preflight(options: CheckFlagOptions) -> Preflight:
    """Read the usage given in the options, or raise TypeError or ValueError."""
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
