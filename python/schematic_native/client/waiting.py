"""A call that memory could not answer: what to wait for, and how the outcome becomes the answer.

Both clients begin and conclude a call in the same way; only how they wait in between differs. Nothing
here waits.
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
    """A call that has to wait.

    Attributes:
        work: returns the coroutine to run on the client's event loop.
        timeout: seconds that the coroutine may take.
        late: returns the outcome if the coroutine timed out, or could not be started.
        conclude: turns the outcome into the answer, on the caller's thread.

    """

    work: Callable[[Runtime], Coroutine[object, object, Outcome]]
    timeout: float
    late: Callable[[], Outcome]
    conclude: Callable[[Outcome], Answer]


def outcome_of(
    work: Callable[[Runtime], Coroutine[object, object, Outcome]], timeout: float
) -> Waiting[Outcome | None, Outcome | None]:
    """Return a call whose outcome is its answer, or None if the work did not finish in time."""
    return Waiting(work, timeout, late=_nothing, conclude=_itself)


def _nothing() -> None:
    return None


def _itself(outcome: Outcome) -> Outcome:
    return outcome
