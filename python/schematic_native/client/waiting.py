"""The part of a call that memory could not answer: what to wait for, and how the answer is made of it.

Both clients begin a call and conclude it in the same way; only the wait between differs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from schematic_native.client.runtime import Runtime

Outcome = TypeVar("Outcome")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Waiting(Generic[Outcome, Answer]):
    """A call that waits.

    Attributes:
        work: makes the coroutine to wait for, on the client's loop.
        timeout: seconds that it may take.
        late: makes the outcome of work that has not ended in time, or cannot begin any more.
        conclude: makes the answer of the outcome, on the caller's thread.

    """

    work: Callable[[Runtime], Coroutine[object, object, Outcome]]
    timeout: float
    late: Callable[[], Outcome]
    conclude: Callable[[Outcome], Answer]


def outcome_of(
    work: Callable[[Runtime], Coroutine[object, object, Outcome]], timeout: float
) -> Waiting[Outcome | None, Outcome | None]:
    """Return a call whose outcome is its answer; None if the work has not ended in time."""
    return Waiting(work, timeout, late=_nothing, conclude=_itself)


def _nothing() -> None:
    return None


def _itself(outcome: Outcome) -> Outcome:
    return outcome
