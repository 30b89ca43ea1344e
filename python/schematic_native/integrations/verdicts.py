"""What the result of a check means in the terms of OpenFeature: an error code, or whether a rule matched.

Nothing here needs OpenFeature to be installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from schematic_native.leases.requests import (
    CLOSED,
    KEY_CONFLICT,
    REASON_ERROR,
    REASON_FLAG_NOT_FOUND,
    TIMED_OUT,
)

if TYPE_CHECKING:
    from schematic_native._native import CheckFlagResult

DEFAULT_RULE = "default"
Code: TypeAlias = Literal["FLAG_NOT_FOUND", "INVALID_CONTEXT", "PROVIDER_NOT_READY", "GENERAL"]


class Failure(NamedTuple):
    """Why a flag could not be checked."""

    code: Code
    message: str


def failure_of(answer: CheckFlagResult) -> Failure | None:
    """Return why a flag could not be checked; None if it was."""
    if answer.rule_id is not None:
        return None
    reason = answer.reason
    if reason.startswith(REASON_FLAG_NOT_FOUND):
        return Failure("FLAG_NOT_FOUND", f"there is no flag {answer.flag!r}")
    if reason == KEY_CONFLICT:
        return Failure("INVALID_CONTEXT", "the keys of the context name different entities")
    if reason == CLOSED:
        return Failure("PROVIDER_NOT_READY", "the client is shut down")
    if answer.error or reason == TIMED_OUT or reason.startswith(REASON_ERROR):
        return Failure("GENERAL", answer.error or reason)
    return None


def is_targeted(answer: CheckFlagResult) -> bool:
    """Tell whether a rule matched other than the default one."""
    return answer.rule_id is not None and answer.rule_type != DEFAULT_RULE
