"""What a user configures: plain dataclasses, checked by `settings` when a client is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    import logging
    from datetime import datetime
    from uuid import UUID

    from schematic_native._native import CheckFlagResult

DefaultValue: TypeAlias = bool | Callable[[], bool] | None
CreditLeaseMode: TypeAlias = Literal["client", "server", "auto"]
OnAcquireFailure: TypeAlias = Literal["fail-closed", "fail-open"]
LogLevel: TypeAlias = int | str
# Lookup keys of a company or a user as callers give them; a UUID counts as its text.
LookupKeys: TypeAlias = "Mapping[str, str | UUID]"

T = TypeVar("T")

# What logging.WARNING is: that module takes long to load, and is not needed for a number.
WARNING = 30
# The longest that the first use waits for the DataStream, and that a shutdown may take.
INITIAL_WAIT = 5.0
SHUTDOWN_BUDGET = 5.0


class CacheProvider(Protocol[T]):
    """Where answers of plain REST checks are kept for a while; called on the caller's thread."""

    def get(self, key: str) -> T | None:
        """Return the answer kept under `key`, None if there is none or it is too old."""
        ...

    def set(self, key: str, val: T, ttl_override: int | None = None) -> None:
        """Keep `val` under `key`."""
        ...


class AsyncCacheProvider(Protocol[T]):
    """Where entities are kept for several processes; called on an event loop."""

    async def get(self, key: str) -> T | None:
        """Return what is kept under `key`, None if there is nothing or it is too old."""
        ...

    async def set(self, key: str, value: T, ttl: int | None = None) -> None:
        """Keep `value` under `key` for `ttl` milliseconds, or the provider's own time."""
        ...

    async def delete(self, key: str) -> None:
        """Forget what is kept under `key`."""
        ...

    async def delete_missing(
        self, keys_to_keep: Iterable[str], *, scan_pattern: str | None = None
    ) -> None:
        """Forget what fits the pattern, but for these keys."""
        ...


class HttpClient(Protocol):
    """An HTTP client of the program's own, of httpx, httpx2 or aiohttp."""

    @property
    def request(self) -> Callable[..., Any]:
        """Make a request."""
        ...


FlagCache: TypeAlias = "CacheProvider[CheckFlagResult]"


@dataclass
class EventUsage:
    """Usage of one event that a check asks about.

    Attributes:
        event_subtype: the event's name.
        quantity: how many units; rounded up.

    """

    event_subtype: str
    quantity: float


@dataclass
class EventQuantities:
    """Named quantities of one event (token kinds, say), priced by the entitlement.

    Attributes:
        event_subtype: the event's name.
        quantities: units by name, for example {"input_tokens": 1200}.
        quantity: units of the event itself, on top of which the named ones come; None counts one.

    """

    event_subtype: str
    quantities: Mapping[str, float]
    quantity: float | None = None


@dataclass
class CheckFlagOptions:
    """Options of a plain flag check.

    Attributes:
        default_value: the answer if none can be had: a bool, or a function that returns one.
        timeout: seconds the call may take.
        usage: asks whether this much more usage would still be allowed; rounded up.
        event_usage: the same for one event.
        event_quantities: the same for named quantities of one event.
        credit_cost: the same in credits, by credit id.

    """

    default_value: DefaultValue = None
    timeout: float | None = None
    usage: float | None = None
    event_usage: EventUsage | None = None
    credit_cost: Mapping[str, float] | None = None
    event_quantities: EventQuantities | None = None


@dataclass
class CheckOptions:
    """Options of `check`.

    Attributes:
        usage: event units to reserve credits for; None or 0 reserves nothing.
        event_subtype: the event that will be billed; None takes the entitlement's.
        on_acquire_failure: what a check answers when credits cannot be reserved.
        default_value: the answer if none can be had: a bool, or a function that returns one.
        timeout: seconds the whole check may take.

    """

    usage: float | None = None
    event_subtype: str | None = None
    on_acquire_failure: OnAcquireFailure = "fail-closed"
    default_value: DefaultValue = None
    timeout: float | None = None


@dataclass
class TrackOptions:
    """Options of `track`.

    Attributes:
        idempotency_key: the server takes events with the same key once within 24 hours.
        sent_at: when the event happened.
        trusted_client_clock: bill at `sent_at` instead of the time of arrival.
        backfill: the event belongs to the past.

    """

    idempotency_key: str | None = None
    sent_at: datetime | None = None
    trusted_client_clock: bool | None = None
    backfill: bool | None = None


@dataclass
class IdentifyOptions:
    """Options of `identify`.

    Attributes:
        idempotency_key: the server takes events with the same key once within 24 hours.
        prewarm: credit type ids to acquire a lease for, in the background.

    """

    idempotency_key: str | None = None
    prewarm: Sequence[str] | None = None


@dataclass
class TrackWithReservationOptions:
    """Options of `track_with_reservation`: traits to send along with the event."""

    traits: Mapping[str, Any] | None = None


@dataclass
class EventBodyIdentifyCompany:
    """The company of an `identify`: its keys, its name, its traits."""

    keys: LookupKeys
    name: str | None = None
    traits: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class CreditBalance:
    """A company's credits of one type.

    Attributes:
        remaining: credits that may still be used.
        reserved: credits held by checks that are not settled yet.
        settled: credits used since the balance, or this process's lease, was opened.

    """

    remaining: float
    reserved: float
    settled: float


@dataclass(frozen=True)
class ClientStatus:
    """What a client has and does, without I/O.

    Attributes:
        connected: the DataStream socket is open.
        ready: the DataStream is connected and its flags have arrived.
        cached_flags: flags in memory.
        cached_companies: companies in memory.
        cached_users: users in memory.
        leases: leases in memory.
        open_holds: reservations not settled, cancelled or swept yet.
        queued_events: events waiting to be sent, those of a request under way included.
        sent_events: events that the server took.
        dropped_events: events lost to a full queue or refused by the server.
        last_error: the latest fault that was reported, None if all of them have passed.
        checks: checks that may hold credits, since the start of this process's client, as all counts.
        denied_checks: those of them that were denied.
        settles: reservations that were settled.
        lapsed_holds: reservations that expired.
        evicted: companies and users that made room in memory.
        last_message_age: seconds since the DataStream's last message; None without any.

    """

    connected: bool
    ready: bool
    cached_flags: int
    cached_companies: int
    cached_users: int
    leases: int
    open_holds: int
    queued_events: int
    sent_events: int
    dropped_events: int
    last_error: str | None
    checks: int = 0
    denied_checks: int = 0
    settles: int = 0
    lapsed_holds: int = 0
    evicted: int = 0
    last_message_age: float | None = None


@dataclass
class DataStreamConfig:
    """How entities are streamed, and where processes share them.

    Attributes:
        cache_ttl: milliseconds that a company or user stays in a shared cache; a day if None.
        company_cache, company_lookup_cache, user_cache, user_lookup_cache, flag_cache: caches that
            processes share, for example `schematic_native.cache.flag_checks.RedisCache`, or anything with its
            methods. What is missing in memory is looked for there first; what the DataStream brings is
            written there. A Redis of `company_cache` holds credit leases, too, unless they have one
            of their own.
        max_message_size: bytes of the largest message taken, 100 MiB if None.
        replicator_mode: decide by what the replicator, a program of its own, writes into the
            caches, all five of which must be given; no socket is opened. Checks ask the API while it
            is not ready.
        replicator_health_url: where it says how it is; http://localhost:8090/ready if None.
        replicator_health_check: milliseconds between two such questions; 30 000 if None.

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
    """Lease terms of one credit type; None leaves the default (seconds and credits)."""

    lease_duration: float | None = None
    reservation_ttl: float | None = None
    lease_size: float | None = None
    low_water_mark: float | None = None


@dataclass
class LocalSlab:
    """Parts of a shared lease that this process takes, to serve checks from memory.

    A slab is one ordinary reservation in Redis. It is cut to last about two seconds at the demand
    of late, within the bounds; a process that dies loses it until its reservation lapses.

    Attributes:
        min_credits: the fewest credits to take.
        max_credits: the most credits to take; a quarter of the lease size if None.
        lifetime: seconds that holds are carved from one slab.

    """

    min_credits: float = 100.0
    max_credits: float | None = None
    lifetime: float = 10.0


@dataclass
class CreditLeaseConfig:
    """How credits are reserved.

    Attributes:
        mode: "client" reserves from a local lease, "server" asks the server at each check, "auto"
            is "client" while the DataStream runs and "server" otherwise.
        default_reservation_ttl: seconds until a hold that nobody settles refunds itself; 60 if None.
        default_lease_duration: seconds asked for at acquire and extend, at most 3600; 300 if None.
        default_lease_size: credits per acquire and smallest extend; 10 000 if None.
        low_water_mark: share of the grant at or below which a lease is extended; 0.25 if None.
        sweep_interval: seconds between two sweeps of expired holds; 1 if None.
        prewarm_resolve_timeout: seconds to wait for a company that is to be prewarmed; 5 if None, 0
            asks the cache only.
        redis_client: a client of redis-py, synchronous or asyncio, of one server, of Sentinel or of
            a cluster: leases and holds then live there, shared by all processes. It is never closed
            by this package.
        redis_key_prefix: what every key there begins with; "schematic:" if None.
        overrides: other terms by credit type id.
        local_slab: take parts of a shared lease to serve checks from memory; True takes the
            defaults of `LocalSlab`, None and False take none.

    """

    mode: CreditLeaseMode = "auto"
    default_reservation_ttl: float | None = 60.0
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
class SchematicConfig:
    """Configuration of `Schematic`; see `AsyncSchematicConfig` for the fields.

    A synchronous `httpx_client` is used from worker threads, one for each request under way.
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


@dataclass
class AsyncSchematicConfig:
    """Configuration of `AsyncSchematic`.

    Attributes:
        base_url: the API; blank or None means the public one.
        event_buffer_period: seconds between two flushes of the event queue, 5 if None.
        event_capture_url: where events go; blank or None means the public one.
        flag_defaults: answers by flag key for when none can be had; keys compare
            case-insensitively.
        follow_redirects: whether REST calls follow redirects.
        httpx_client: a client of your own for REST and events, of httpx, httpx2 or aiohttp; it is never
            closed by this package.
        logger: replaces the logger named "schematic_native"; one of another library will do.
        log_level: level of that logger.
        offline: no I/O at all, every check answers its default.
        timeout: seconds a REST request may take, 60 if None; also the time of a check that names
            none.
        cache_providers: where answers of plain REST checks are kept; None means 5 s in memory, []
            nowhere.
        use_datastream: stream flags, companies and users, and decide checks in memory.
        datastream: how they are streamed.
        credit_leases: reserve credits with each check that states a usage.
        max_event_requests: requests of events under way at once at most, 64 if None. Fewer are made
            while fewer will do, and when the service slows down or says that it is too much.

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
