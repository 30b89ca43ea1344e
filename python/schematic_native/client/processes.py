"""What becomes of the clients of a process when it forks, and when its interpreter ends.

A forked child owns nothing of its parent's: no lease, no hold, no event, no socket, no thread. To let
the child forget something more, add it to `BaseClient._after_fork`.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

from schematic_native.client.session import at_exit, end_all, forget_parent


class Forkable(Protocol):
    """A client that can start anew in a forked child."""

    def _after_fork(self) -> None: ...


_clients: weakref.WeakSet[Forkable] = weakref.WeakSet()
# What a forked child has from its parent: kept, as taking it apart would reach for the parent's
# sockets and locks.
_of_parent: list[object] = []


def register(client: Forkable) -> None:
    """Have a client start anew in each child of this process."""
    _clients.add(client)


def keep_untouched(thing: object) -> None:
    """Keep a thing of the parent's process as long as this process lives."""
    _of_parent.append(thing)


def _start_anew() -> None:
    forget_parent()
    for client in list(_clients):
        client._after_fork()  # noqa: SLF001 - registered for this


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)

at_exit(end_all)
