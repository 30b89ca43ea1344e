"""Everything that a store can do, free of I/O.

What an operation is, and what may be sent to it, is in `commands`.
"""

from __future__ import annotations

from schematic_native.redis.slab_operations import SlabOperations
from schematic_native.redis.sweep_operations import SweepOperations


class Operations(SlabOperations, SweepOperations):
    """The operations of one store: on leases, holds and slabs, and the sweep."""
