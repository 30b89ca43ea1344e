"""What everything that works on the leases and checks of one client needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from schematic_native._native import Core
    from schematic_native.cache.entities import EntityCaches
    from schematic_native.cache.replicator import Replica
    from schematic_native.ground.fault_log import FaultLog
    from schematic_native.service.datastream import DataStream
    from schematic_native.service.rest import Api


class Work(NamedTuple):
    """Who decides, who is asked, and where failures are reported."""

    core: Core
    api: Api
    faults: FaultLog


class Sources(NamedTuple):
    """Where flags, companies and users come from."""

    datastream: DataStream | None  # fetches what is missing
    caches: EntityCaches | None  # where other processes may have left what is missing
    replica: Replica | None  # decides in place of a DataStream in replicator mode
