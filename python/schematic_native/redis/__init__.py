"""Leases in Redis, shared by processes and by SDKs of other languages.

`operations` says what is asked of the server and in which order, `exchanges` and `cluster_routing` how it
is sent, all without I/O; the stores run them over `connections`, on the calling thread or on an event
loop. `clients` opens the store for a user's client.
"""

from schematic_native.redis.async_store import AsyncStore, Late
from schematic_native.redis.clients import Store, WaitedStore, open_store
from schematic_native.redis.commands import Operation
from schematic_native.redis.lease_row import Installed, Refused, SharedDebit, SharedLease
from schematic_native.redis.operations import Operations
from schematic_native.redis.slab_operations import SlabNote
from schematic_native.redis.sweep_operations import PAGES, LapsedPage, SweptPage
from schematic_native.redis.sync_store import SyncStore
from schematic_native.redis.threaded_store import ThreadedStore

__all__ = [
    "PAGES",
    "AsyncStore",
    "Installed",
    "LapsedPage",
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
