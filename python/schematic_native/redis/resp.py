"""Redis' protocol (RESP), as far as speed asks for an own implementation: commands and plain replies.

The extension writes and reads them; everything else is left to redis-py. A reply is never guessed: unless it is
plain and complete, the parser of redis-py reads it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ReadOnlyError,
    ResponseError,
)

from schematic_native._native import pack_command, plain_replies

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schematic_native.redis.commands import Batch

__all__ = [
    "REFUSALS",
    "encoded",
    "is_refusal",
    "leads_elsewhere",
    "packed",
    "plain_replies",
]

# What a server answers instead of carrying a command out.
REFUSALS = (ResponseError, BusyLoadingError, AuthenticationError)
# Sent before a command whose key is on its way to the server.
ASKING = b"*1\r\n$6\r\nASKING\r\n"
# The words of a call of a script before its keys.
OPENED = 3


def is_refusal(reply: object) -> bool:
    """Tell whether a reply ends the connection, so that no further reply comes."""
    return isinstance(reply, (BusyLoadingError, AuthenticationError))


def leads_elsewhere(replies: Iterable[object]) -> bool:
    """Tell whether the server may no longer be what the address leads to.

    A server that has become a replica answers on its old connections for ever; a new connection
    finds the one that has taken its place.
    """
    return ReadOnlyError in map(type, replies)


def packed(batch: Batch, *, in_full: bool, asking: bool) -> bytes:
    """Write commands."""
    parts: list[bytes] = []
    for key, arguments, script, _ in batch:
        if asking:
            parts.append(ASKING)
        if script is None:
            parts.append(pack_command("", 0, arguments))
        else:
            opening = script.in_full if in_full else script.by_digest
            parts.append(pack_command(opening, OPENED, (key, *arguments)))
    return b"".join(parts)


def encoded(text: str) -> bytes:
    """Encode as UTF-8; bytes that were read with "surrogateescape" go back as they came."""
    return text.encode("utf-8", "surrogateescape")
