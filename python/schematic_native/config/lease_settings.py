"""The leases' part of the settings: `CreditLeaseConfig`, checked and with its defaults filled in.

Nothing here connects to Redis: whether one works shows when it is used. The core checks the same bounds once
more (rust/python/src/core.rs).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from schematic_native.config.client_config import (
    CreditLeaseConfig,
    CreditLeaseMode,
    LeaseConfigOverride,
    LocalSlab,
)
from schematic_native.config.defaults import (
    LEASE_DURATION,
    LEASE_SIZE,
    LONGEST_LEASE,
    LOW_WATER_MARK,
    PREWARM_RESOLVE_TIMEOUT,
    REDIS_KEY_PREFIX,
    RESERVATION_TTL,
    SLAB_LIFETIME,
    SMALLEST_SLAB,
    SWEEP_INTERVAL,
)
from schematic_native.config.fields import (
    read_at_least_zero,
    read_interval,
    read_positive,
    read_share,
    read_term,
)
from schematic_native.ground.arguments import check_text, shown, wrong_kind

if TYPE_CHECKING:
    from schematic_native.config.client_config import AsyncSchematicConfig, SchematicConfig


@dataclass(frozen=True)
class LeaseSettings:
    """`CreditLeaseConfig` with every default filled in, checked (seconds and credits)."""

    mode: CreditLeaseMode = "auto"
    reservation_ttl: float = RESERVATION_TTL
    lease_duration: float = LEASE_DURATION
    lease_size: float = LEASE_SIZE
    low_water_mark: float = LOW_WATER_MARK
    sweep_interval: float = SWEEP_INTERVAL
    prewarm_resolve_timeout: float = PREWARM_RESOLVE_TIMEOUT
    redis_client: object | None = None
    redis_key_prefix: str = REDIS_KEY_PREFIX
    slabs: tuple[float, float, float] | None = None  # smallest, largest, lifetime
    overrides: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)


def share_redis(
    config: SchematicConfig | AsyncSchematicConfig,
) -> SchematicConfig | AsyncSchematicConfig:
    """Keep leases in the Redis of the company cache, unless they are given another.

    The published SDKs do the same, and their processes and ours must share the same leases.
    """
    leases, datastream = config.credit_leases, config.datastream
    if not isinstance(leases, CreditLeaseConfig) or datastream is None:
        return config
    cache: Any = datastream.company_cache
    is_redis = type(cache).__name__ == "RedisCache" and hasattr(cache, "client")
    if not is_redis or leases.redis_client is not None or not config.use_datastream:
        return config
    prefix = leases.redis_key_prefix
    if prefix is None:
        prefix = f"{getattr(cache, 'prefix', 'schematic')}:"
    shared = replace(leases, redis_client=cache.client, redis_key_prefix=prefix)
    return replace(config, credit_leases=shared)


def read_leases(config: object) -> LeaseSettings:
    """Check the configuration of leases."""
    if not isinstance(config, CreditLeaseConfig):
        raise wrong_kind("credit_leases", CreditLeaseConfig, config)
    if config.mode not in ("auto", "client", "server"):
        raise ValueError(
            f"credit_leases.mode must be 'auto', 'client' or 'server', got {shown(config.mode)}"
        )
    prefix = "credit_leases."
    duration = _duration(f"{prefix}default_lease_duration", config.default_lease_duration)
    resolve = config.prewarm_resolve_timeout
    lease_size = read_term(
        f"{prefix}default_lease_size", config.default_lease_size, LEASE_SIZE, "credits"
    )
    return LeaseSettings(
        mode=config.mode,
        reservation_ttl=read_term(
            f"{prefix}default_reservation_ttl",
            config.default_reservation_ttl,
            RESERVATION_TTL,
            "seconds",
        ),
        lease_duration=LEASE_DURATION if duration is None else duration,
        lease_size=lease_size,
        low_water_mark=read_share(f"{prefix}low_water_mark", config.low_water_mark, LOW_WATER_MARK),
        sweep_interval=read_interval(
            f"{prefix}sweep_interval", config.sweep_interval, SWEEP_INTERVAL
        ),
        prewarm_resolve_timeout=(
            PREWARM_RESOLVE_TIMEOUT
            if resolve is None
            else read_at_least_zero(f"{prefix}prewarm_resolve_timeout", resolve, "seconds")
        ),
        redis_client=None if config.mode == "server" else config.redis_client,
        redis_key_prefix=_read_prefix(config.redis_key_prefix),
        slabs=_read_slabs(config, lease_size),
        overrides=_read_overrides(config.overrides),
    )


def _read_prefix(prefix: object) -> str:
    if prefix is None:
        return REDIS_KEY_PREFIX
    return check_text("credit_leases.redis_key_prefix", prefix)


def _read_slabs(config: CreditLeaseConfig, lease_size: float) -> tuple[float, float, float] | None:
    slab = config.local_slab
    if slab is None or slab is False:
        return None
    if slab is True:
        slab = LocalSlab()
    if not isinstance(slab, LocalSlab):
        raise TypeError(
            f"credit_leases.local_slab must be a LocalSlab or a bool, got {shown(slab)}"
        )
    prefix = "credit_leases.local_slab."
    smallest = read_term(f"{prefix}min_credits", slab.min_credits, SMALLEST_SLAB, "credits")
    largest = read_term(
        f"{prefix}max_credits", slab.max_credits, max(smallest, lease_size / 4), "credits"
    )
    if smallest < 1:
        raise ValueError(f"{prefix}min_credits must be 1 or more, got {shown(smallest)}")
    if largest < smallest:
        raise ValueError(f"{prefix}max_credits must be min_credits or more, got {shown(largest)}")
    lifetime = read_term(f"{prefix}lifetime", slab.lifetime, SLAB_LIFETIME, "seconds")
    return None if config.redis_client is None else (smallest, largest, lifetime)


def _read_overrides(overrides: object) -> dict[str, dict[str, float | None]]:
    if overrides is None:
        return {}
    if not isinstance(overrides, Mapping):
        raise TypeError(
            "credit_leases.overrides must be a mapping of credit type id to LeaseConfigOverride, "
            f"got {type(overrides).__name__}"
        )
    terms: dict[str, dict[str, float | None]] = {}
    for credit, override in overrides.items():
        name = f"credit_leases.overrides[{shown(credit)}]"
        if not isinstance(override, LeaseConfigOverride):
            raise wrong_kind(name, LeaseConfigOverride, override)
        check_text("a key of credit_leases.overrides", credit)
        given: dict[str, float | None] = {
            "lease_duration": _duration(f"{name}.lease_duration", override.lease_duration)
        }
        ttl, size = override.reservation_ttl, override.lease_size
        if ttl is not None:
            given["reservation_ttl"] = read_term(f"{name}.reservation_ttl", ttl, 0.0, "seconds")
        if size is not None:
            given["lease_size"] = read_term(f"{name}.lease_size", size, 0.0, "credits")
        mark = override.low_water_mark
        given["low_water_mark"] = (
            None if mark is None else read_share(f"{name}.low_water_mark", mark, 0.0)
        )
        terms[credit] = given
    return terms


def _duration(name: str, value: object) -> float | None:
    if value is None:
        return None
    seconds = read_positive(name, value, LEASE_DURATION, "seconds")
    if seconds > LONGEST_LEASE:
        raise ValueError(f"{name} must be at most {LONGEST_LEASE:g} seconds, got {shown(value)}")
    return seconds
