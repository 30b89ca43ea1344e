"""What one client is made of in one process: its session and its runtime share it."""

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
    core: Core  # everything that decides
    waker: Waker  # carries the core's wake-ups to the loop
    faults: FaultLog
    listeners: Listeners  # told when the flags are current, are not any more, and change
    timings: Timings  # of requests to the service
    store: Store | None  # of leases that other processes share; None without one
