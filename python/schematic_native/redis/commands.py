"""Commands, and the operations that are made of them, free of I/O.

An operation is a generator: it yields batches of commands, is sent their replies, and returns its
result. A batch is one round trip. A reply that is an exception is the server's refusal of that one
command, or a `StoreError` if only its server of a cluster has failed; an exception that is thrown in is
a failure of the whole batch.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar

from schematic_native.ground.store_errors import StoreError

if TYPE_CHECKING:
    from schematic_native.redis.scripts import Script

T = TypeVar("T")


class Command(NamedTuple):
    """One command: a plain one, or a call of a script, whose further keys are its first arguments."""

    key: str
    arguments: tuple[str | int, ...]
    script: Script | None = None
    # It completes a debit or a claim, so it is sent even to a server that failed a moment ago.
    is_owed: bool = False


_IS_OWED = attrgetter("is_owed")
Batch: TypeAlias = Sequence[Command]
Replies: TypeAlias = Sequence[object]
Operation: TypeAlias = Generator[Batch, Replies, T]


def is_owed(batch: Batch) -> bool:
    """Tell whether a batch completes a debit or a claim."""
    return True in map(_IS_OWED, batch)


def call(script: Script, key: str, *arguments: str | int) -> Command:
    """Return the command that runs a script."""
    return Command(key, arguments, script)


def send(commands: Sequence[Command]) -> Operation[Replies]:
    """Send commands in one batch; none takes no round trip."""
    return (yield commands) if commands else ()


def send_owed(commands: Sequence[Command]) -> Operation[Replies]:
    """Send what follows a claim. A claim cannot be taken back, so any failure leaves it half done."""
    try:
        return (yield from send(commands))
    except StoreError as error:
        raise StoreError(str(error), lost=True, is_refusal=error.is_refusal) from error


def has_failed(reply: object) -> bool:
    """Tell whether a command was refused or not answered."""
    return isinstance(reply, Exception)


def accept(reply: object, *, lost: bool = False) -> object:
    """Return a reply that is no failure; `lost` if more than the failed command was done already."""
    if isinstance(reply, StoreError):
        lost = lost or reply.lost
        raise StoreError(str(reply), lost=lost, is_refusal=reply.is_refusal) from reply
    if isinstance(reply, Exception):
        message = f"Redis refused a command: {reply}"
        raise StoreError(message, lost=lost, is_refusal=True) from reply
    return reply


def as_list(reply: object) -> Sequence[object]:
    """Return a reply that is a list."""
    accept(reply)
    if not isinstance(reply, (list, tuple)):
        raise StoreError(f"Redis answered with {type(reply).__name__}, not a list", lost=True)
    return reply
