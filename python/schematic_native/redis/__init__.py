"""Leases in Redis, shared by processes and by SDKs of other languages.

`operations` says what is asked of the server and in which order, without I/O; `links` are the
connections; `drivers` run the one on the other, on the calling thread or on an event loop.
"""

from schematic_native.redis.drivers import Late
from schematic_native.redis.operations import PAGES, Operation, Operations, SweptPage
from schematic_native.redis.rows import Installed, Refused, SharedDebit, SharedLease, SlabNote
from schematic_native.redis.store import (
    AsyncStore,
    Store,
    SyncStore,
    ThreadedStore,
    WaitedStore,
    open_store,
)

__all__ = [
    "PAGES",
    "AsyncStore",
    "Installed",
    "Late",
    "Operation",
    "Operations",
    "Refused",
    "SharedDebit",
    "SharedLease",
    "SlabNote",
    "Store",
    "SweptPage",
    "SyncStore",
    "ThreadedStore",
    "WaitedStore",
    "open_store",
]
