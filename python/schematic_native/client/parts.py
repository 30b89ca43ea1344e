"""The parts of one client in one process that its session and each of its runtimes share.

It only groups them; it has no behaviour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from schematic_native._native import Core
    from schematic_native.config.settings import Settings
    from schematic_native.ground.fault_log import FaultLog
    from schematic_native.ground.listeners import Listeners
    from schematic_native.ground.waker import Waker
    from schematic_native.redis import Store
    from schematic_native.service.timings import Timings


class Parts(NamedTuple):
    """The parts of a client that outlive each of its event loops."""

    settings: Settings
    core: Core  # makes every decision
    waker: Waker  # passes wake-ups from the core to the event loop
    faults: FaultLog
    listeners: Listeners  # called when flags become current, become stale, or change
    timings: Timings  # how long requests to the service take
    store: Store | None  # the store of leases shared between processes; None without Redis
