"""What an operation is given, read from its fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.conformance.clock import instant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.conformance.backends import Slot
    from tests.conformance.vectors import Fields

NO_NUMBERS = {"nan": float("nan"), "infinity": float("inf")}
TIMES_LONGER = 20


def slot_of(fields: Fields) -> Slot:
    return fields.text("company_id"), fields.text("credit_type_id")


def quantity_of(fields: Fields, name: str) -> Any:
    """Read a quantity, which may be what is no number: "nan", "infinity" or a truth value."""
    value = fields.get(name)
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value in NO_NUMBERS:
        return NO_NUMBERS[value]
    return fields.number(name)


def end_of(fields: Fields) -> float | None:
    at = fields.optional_number("expires_at_ms")
    return None if at is None else instant(at)


def answers_of(answers: Any) -> list[Mapping[str, Any]]:
    """Read what a call is answered with: nothing, once, or one request after another."""
    if not answers:
        return []
    return answers if isinstance(answers, list) else [answers]


def timeout_of(fields: Fields) -> float | None:
    """Return the seconds that a caller has, who leaves when all else waits for a request of another.

    They are real, so they are more than the vector says: a busy machine must not use them up before
    that request is made.
    """
    milliseconds = fields.optional_number("timeout_ms")
    return None if milliseconds is None else TIMES_LONGER * milliseconds / 1000
