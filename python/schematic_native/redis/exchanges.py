"""Running an operation as exchanges with the server, free of I/O.

A script is first called by its digest, and sent in full only if the server did not know it and so did
not run it. Nothing else is ever sent again: a refund that was carried out twice would mint credits. That
is why the stores do not use the methods of redis-py's clients, which retry.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from redis.exceptions import NoScriptError

from schematic_native.ground.store_errors import StoreError
from schematic_native.redis.commands import Batch, Replies, is_owed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from schematic_native.redis.commands import Operation

T = TypeVar("T")

# Seconds that what completes a debit or a claim is given at least: it is done now or never.
OWED_TIME = 0.25


# A batch to send, the instant until which its replies may take (None for no limit), and whether its scripts
# are sent in full.
Exchange: TypeAlias = tuple[Batch, "float | None", bool]
Exchanges: TypeAlias = Generator[Exchange, "Replies | StoreError", T]


def exchanges(
    operation: Operation[T], deadline: float | None, clock: Callable[[], float]
) -> Exchanges[T]:
    """Run an operation: yields what to send, is sent the replies or why there are none."""
    try:
        batch = next(operation)
        while True:
            limit = time_for(batch, deadline, clock())
            replies = yield batch, limit, False
            if isinstance(replies, StoreError):
                batch = operation.throw(replies)
                continue
            unknown = _unknown_scripts(batch, replies)
            if unknown:
                others = yield [batch[at] for at in unknown], limit, True
                if isinstance(others, StoreError):
                    # The commands that the server did know have been carried out.
                    others.lost = others.lost or len(unknown) < len(batch)
                    batch = operation.throw(others)
                    continue
                replies = _merged(replies, unknown, others)
            batch = operation.send(replies)
    except StopIteration as stop:
        result: T = stop.value
        return result


def time_for(batch: Batch, deadline: float | None, now: float) -> float | None:
    """Return the instant until which a batch may take; None for no limit."""
    if deadline is None or not is_owed(batch):
        return deadline
    return max(deadline, now + OWED_TIME)


def _unknown_scripts(batch: Batch, replies: Replies) -> Sequence[int]:
    """Find the scripts that the server did not know, and so did not run."""
    if NoScriptError not in map(type, replies):
        return ()
    return [
        at
        for at, reply in enumerate(replies)
        if type(reply) is NoScriptError and batch[at].script is not None
    ]


def _merged(replies: Replies, places: Sequence[int], others: Replies) -> Replies:
    """Put the replies to what was sent again into their places."""
    whole = list(replies)
    for at, reply in zip(places, others, strict=True):
        whole[at] = reply
    return whole
