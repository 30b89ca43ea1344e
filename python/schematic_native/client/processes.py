"""What happens to the clients of a process when it forks, and when its interpreter exits.

A forked child must not use anything of its parent: no lease, hold, event, socket or thread. If a
client gets more state that a child must drop, drop it in `BaseClient._after_fork`.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

from schematic_native.client.session import at_exit, end_all, forget_parent


class Forkable(Protocol):
    """A client that can reset itself in a forked child."""

    def _after_fork(self) -> None: ...


_clients: weakref.WeakSet[Forkable] = weakref.WeakSet()
# The parent's sessions in a forked child. They are kept alive and unused, because their finalizers
# would touch the parent's sockets and locks.
_parent_sessions: list[object] = []


def register(client: Forkable) -> None:
    """Have a client reset in every process that is forked from this one."""
    _clients.add(client)


def keep_untouched(thing: object) -> None:
    """Keep an object of the parent process alive for as long as this process runs."""
    _parent_sessions.append(thing)


def _start_anew() -> None:
    forget_parent()
    for client in list(_clients):
        client._after_fork()  # noqa: SLF001 - part of the Forkable protocol


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)

at_exit(end_all)
