"""The configuration of a client as a program writes it: one field for each thing that can be set.

Nothing here is checked, and this module does nothing. To add a field, add it here and to the settings that it
becomes: `settings.py`, `lease_settings.py`, `datastream_settings.py` or `spool_settings.py`, which check it. Its
default goes into `defaults.py`, what makes it have no effect into `notices.py`, and its description into README.md
and the page of docs/ about it. Then write tests/public_api.txt again, as tests/test_public_api.py says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from schematic_native.config.defaults import (
    RESERVATION_TTL,
    SLAB_LIFETIME,
    SMALLEST_SLAB,
    SPOOL_BYTES,
    SPOOL_FSYNC,
)

if TYPE_CHECKING:
    import logging
    import os
    from collections.abc import Mapping, Sequence

    from schematic_native.config.providers import FlagCache, HttpClient

CreditLeaseMode: TypeAlias = Literal["client", "server", "auto"]
LogLevel: TypeAlias = int | str

# The value of logging.WARNING: importing that module takes long.
WARNING = 30


@dataclass
class DataStreamConfig:
    """How entities are streamed, and where processes share them.

    Attributes:
        cache_ttl: milliseconds that a company or user stays in a shared cache; a day if None.
        company_cache, company_lookup_cache, user_cache, user_lookup_cache, flag_cache: caches that
            processes share, for example `schematic_native.cache.RedisCache`, or anything with its methods. What
            is not in memory is looked for there first; what the DataStream sends is written there. The
            Redis of `company_cache` also holds credit leases, unless they are given another.
        max_message_size: bytes of the largest message accepted, 100 MiB if None.
        replicator_mode: decide by what the replicator, a separate program, writes into the caches,
            all five of which must be given; no socket is opened. While it is not ready, checks ask
            the API.
        replicator_health_url: its health check; http://localhost:8090/ready if None.
        replicator_health_check: milliseconds between two health checks; 30 000 if None.

    """

    cache_ttl: int | None = None
    company_cache: object | None = None
    company_lookup_cache: object | None = None
    user_cache: object | None = None
    user_lookup_cache: object | None = None
    flag_cache: object | None = None
    replicator_mode: bool = False
    replicator_health_url: str | None = None
    replicator_health_check: int | None = None
    max_message_size: int | None = None


@dataclass
class LeaseConfigOverride:
    """Lease terms of one credit type, in seconds and credits; None keeps the default."""

    lease_duration: float | None = None
    reservation_ttl: float | None = None
    lease_size: float | None = None
    low_water_mark: float | None = None


@dataclass
class LocalSlab:
    """Slabs: parts of a shared lease that this process takes, to answer checks from memory.

    A slab is one ordinary reservation in Redis. It is sized, within these bounds, to last about two
    seconds at the recent demand. If the process dies, its credits come back when the reservation
    expires.

    Attributes:
        min_credits: credits of the smallest slab.
        max_credits: credits of the largest slab; a quarter of the lease size if None.
        lifetime: seconds that a slab is used for new holds.

    """

    min_credits: float = SMALLEST_SLAB
    max_credits: float | None = None
    lifetime: float = SLAB_LIFETIME


@dataclass
class CreditLeaseConfig:
    """How credits are reserved.

    Attributes:
        mode: "client" reserves from a local lease, "server" asks the server at each check, and "auto"
            is "client" while the DataStream runs and "server" otherwise.
        default_reservation_ttl: seconds until a hold that is not settled is refunded; 60 if None.
        default_lease_duration: seconds asked for at acquire and extend, at most 3600; 300 if None.
        default_lease_size: credits asked for at acquire, and at least at extend; 10 000 if None.
        low_water_mark: share of the grant at or below which a lease is extended; 0.25 if None.
        sweep_interval: seconds between two sweeps of expired holds, 0.001 or more; 1 if None.
        prewarm_resolve_timeout: seconds to wait for the company of a prewarm; 5 if None, 0 only looks
            into the cache.
        redis_client: a client of redis-py, synchronous or asyncio, for one server, Sentinel or a
            cluster: leases and holds are then kept there, shared by all processes. This package never
            closes it.
        redis_key_prefix: what every key there begins with; "schematic:" if None.
        overrides: other terms by credit type id.
        local_slab: take slabs of a shared lease to answer checks from memory; True uses the defaults
            of `LocalSlab`, None and False take none.

    """

    mode: CreditLeaseMode = "auto"
    default_reservation_ttl: float | None = RESERVATION_TTL
    default_lease_duration: float | None = None
    default_lease_size: float | None = None
    low_water_mark: float | None = None
    sweep_interval: float | None = None
    prewarm_resolve_timeout: float | None = None
    redis_client: object | None = None
    redis_key_prefix: str | None = None
    overrides: Mapping[str, LeaseConfigOverride] | None = None
    local_slab: LocalSlab | bool | None = None


@dataclass
class SpoolConfig:
    """How usage is kept on disk until the service has taken it.

    An event is with the operating system before the call that made it returns, so it survives the end of the
    process, kill -9 included, in each mode; `fsync` says what survives the end of the machine.

    Attributes:
        directory: where; on a local disk. Processes may share it; each has files of its own there.
        fsync: "always" waits for the disk in each settle, track and identify; a number is the most seconds of
            usage that a power loss may cost; "never" leaves that to the operating system.
        max_bytes: the most that one process takes there. When it is full, new usage is kept in memory only, as
            without a spool, and counted in `ClientStatus.spool`; nothing old is removed for it.

    """

    directory: str | os.PathLike[str]
    fsync: float | Literal["always", "never"] = SPOOL_FSYNC
    max_bytes: int = SPOOL_BYTES


@dataclass
class SchematicConfig:
    """Configuration of `Schematic`; see `AsyncSchematicConfig` for the fields.

    A synchronous `httpx_client` is called from worker threads, one for each request under way.
    """

    base_url: str | None = None
    event_buffer_period: float | None = None
    event_capture_url: str | None = None
    flag_defaults: Mapping[str, bool] | None = None
    follow_redirects: bool | None = True
    httpx_client: HttpClient | None = None
    logger: logging.Logger | None = None
    log_level: LogLevel = WARNING
    offline: bool = False
    timeout: float | None = None
    cache_providers: Sequence[FlagCache] | None = None
    credit_leases: CreditLeaseConfig | None = None
    use_datastream: bool = False
    datastream: DataStreamConfig | None = None
    max_event_requests: int | None = None
    spool: str | os.PathLike[str] | SpoolConfig | None = None


@dataclass
class AsyncSchematicConfig:
    """Configuration of `AsyncSchematic`.

    Attributes:
        base_url: the API; blank or None means the public one.
        event_buffer_period: seconds between two flushes of the event queue, 0.001 or more; 5 if None.
        event_capture_url: where events go; blank or None means the public one.
        flag_defaults: values by flag key, for checks that cannot be answered; the case of keys does not
            matter.
        follow_redirects: whether REST calls follow redirects.
        httpx_client: a client of your own for REST and events, of httpx, httpx2 or aiohttp; this package
            never closes it.
        logger: replaces the logger named "schematic_native"; a logger of another library works as well.
        log_level: level of that logger.
        offline: no I/O at all; every check returns its default.
        timeout: seconds that a REST request may take, 60 if None; also the limit of a check that has no
            timeout of its own.
        cache_providers: where the results of plain REST checks are kept; None means 5 s in memory, []
            nowhere.
        use_datastream: stream flags, companies and users, and decide checks in memory.
        datastream: how they are streamed.
        credit_leases: reserve credits with each check that states a usage.
        max_event_requests: the most event requests under way at once, 64 if None. There are fewer
            while fewer are enough, and when the service slows down or is overloaded.
        spool: a directory where usage is kept until the service has taken it, whatever happens to this process;
            a `SpoolConfig` says more. None keeps usage in memory.

    """

    base_url: str | None = None
    event_buffer_period: float | None = None
    event_capture_url: str | None = None
    flag_defaults: Mapping[str, bool] | None = None
    follow_redirects: bool | None = True
    httpx_client: HttpClient | None = None
    logger: logging.Logger | None = None
    log_level: LogLevel = WARNING
    offline: bool = False
    timeout: float | None = None
    cache_providers: Sequence[FlagCache] | None = None
    use_datastream: bool = False
    datastream: DataStreamConfig | None = None
    credit_leases: CreditLeaseConfig | None = None
    max_event_requests: int | None = None
    spool: str | os.PathLike[str] | SpoolConfig | None = None
