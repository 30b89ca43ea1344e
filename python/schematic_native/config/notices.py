"""What is worth knowing about a configuration: settings that have no effect, and leases that no other process shares.

These are log messages; what is wrong is refused elsewhere, when it is read.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from schematic_native.config.defaults import LONGEST_HOLD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schematic_native.config.client_config import (
        AsyncSchematicConfig,
        DataStreamConfig,
        SchematicConfig,
    )


def read_notices(config: SchematicConfig | AsyncSchematicConfig) -> Iterator[tuple[int, str]]:
    """Return what is worth knowing about a configuration: log levels and sentences."""
    leases = config.credit_leases
    if (
        leases is not None
        and leases.redis_client is None
        and config.use_datastream
        and not config.offline
    ):
        yield (
            logging.INFO,
            "credit leases are kept in this process alone: other processes do not see its holds",
        )
    for sentence in _without_effect(config):
        yield logging.WARNING, sentence


def _has_cache(config: DataStreamConfig) -> bool:
    return any(getattr(config, name) is not None for name in vars(config) if "_cache" in name)


def _without_effect(config: SchematicConfig | AsyncSchematicConfig) -> list[str]:
    """Return a sentence for each setting that has no effect."""
    notices = []
    datastream = config.datastream
    if datastream is not None and datastream.cache_ttl is not None and not _has_cache(datastream):
        notices.append(
            "datastream.cache_ttl has no effect without shared caches: entities in memory stay "
            "until newer ones push them out"
        )
    if config.offline and (config.use_datastream or config.credit_leases is not None):
        notices.append("offline=True: use_datastream and credit_leases have no effect")
    if config.offline and config.spool is not None:
        notices.append("offline=True: spool has no effect")
    leases = config.credit_leases
    if leases is None or config.offline:
        return notices
    if leases.mode == "server":
        notices.extend(
            f"credit_leases.{name} has no effect with mode='server'"
            for name in (
                "default_lease_duration",
                "default_lease_size",
                "low_water_mark",
                "sweep_interval",
                "prewarm_resolve_timeout",
                "redis_client",
                "overrides",
            )
            if getattr(leases, name)
        )
    elif not config.use_datastream:
        notices.append(
            "credit_leases.mode='client' needs use_datastream=True: no check holds credits"
            if leases.mode == "client"
            else "credit_leases without use_datastream=True: every check reserves on the server"
        )
    if leases.redis_client is None:
        notices.extend(
            f"credit_leases.{name} has no effect without redis_client"
            for name in ("redis_key_prefix", "local_slab")
            if getattr(leases, name)
        )
    ttl = leases.default_reservation_ttl
    if leases.mode != "client" and ttl is not None and ttl > LONGEST_HOLD:
        notices.append(
            f"credit_leases.default_reservation_ttl={ttl} is capped at {LONGEST_HOLD:g} s "
            "for holds on the server"
        )
    return notices
