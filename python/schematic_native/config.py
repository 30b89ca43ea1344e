"""What a user configures: plain dataclasses, and the check that turns them into `Settings`.

A wrong field is refused when the client is made, with an error that names the field and what would
be right.
"""

from __future__ import annotations

import ipaddress
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from datetime import datetime

    import httpx

    from schematic_native._native import CheckFlagResult, FailureMode

DefaultValue: TypeAlias = bool | Callable[[], bool] | None
CreditLeaseMode: TypeAlias = Literal["client", "server", "auto"]

BASE_URL = "https://api.schematichq.com"
EVENT_CAPTURE_URL = "https://c.schematichq.com"
EVENT_BUFFER_PERIOD = 5.0
REQUEST_TIMEOUT = 60.0
MAX_MESSAGE_SIZE = 100 * 1024 * 1024
LEASE_DURATION = 300.0
LEASE_SIZE = 10_000.0
LOW_WATER_MARK = 0.25
REDIS_KEY_PREFIX = "schematic:"
SWEEP_INTERVAL = 1.0
PREWARM_RESOLVE_TIMEOUT = 5.0
LONGEST_LEASE = 3600.0
# The longest that the first use waits for the DataStream, and that a shutdown may take.
INITIAL_WAIT = 5.0
SHUTDOWN_BUDGET = 5.0
# A hold must end before the server's own one-hour limit even when the two clocks differ by a
# minute.
LONGEST_SERVER_HOLD = LONGEST_LEASE - 60.0


class FlagCache(Protocol):
    """Where answers of plain REST checks are kept for a while; called on the caller's thread."""

    def get(self, key: str) -> CheckFlagResult | None:
        """Return the answer kept under `key`, None if there is none or it is too old."""
        ...

    def set(self, key: str, val: CheckFlagResult, ttl_override: int | None = None) -> None:
        """Keep `val` under `key`."""
        ...


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
    on_acquire_failure: FailureMode = "fail-closed"
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

    keys: Mapping[str, str]
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


@dataclass
class DataStreamConfig:
    """How entities are streamed.

    Attributes:
        max_message_size: bytes of the largest message taken, 100 MiB if None.
        cache_ttl: accepted and without effect: entities stay until newer ones push them out.

    The caches and the replicator mode of other SDKs are not supported by this version and are
    refused.

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
        default_reservation_ttl: seconds until a hold that nobody settles refunds itself.
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
        local_slab: take parts of a shared lease to serve checks from memory; True takes the
            defaults of `LocalSlab`, None and False take none.
        overrides: other terms by credit type id.

    """

    mode: CreditLeaseMode = "auto"
    default_reservation_ttl: float = 60.0
    default_lease_duration: float | None = None
    default_lease_size: float | None = None
    low_water_mark: float | None = None
    sweep_interval: float | None = None
    prewarm_resolve_timeout: float | None = None
    redis_client: object | None = None
    redis_key_prefix: str | None = None
    local_slab: LocalSlab | bool | None = None
    overrides: Mapping[str, LeaseConfigOverride] | None = None


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
    httpx_client: httpx.Client | None = None
    logger: logging.Logger | None = None
    log_level: int | str = logging.WARNING
    offline: bool = False
    timeout: float | None = None
    cache_providers: Sequence[FlagCache] | None = None
    credit_leases: CreditLeaseConfig | None = None
    use_datastream: bool = False
    datastream: DataStreamConfig | None = None


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
        httpx_client: a client of your own for REST and events; it is never closed by this package.
        logger: replaces the logger named "schematic_native".
        log_level: level of that logger.
        offline: no I/O at all, every check answers its default.
        timeout: seconds a REST request may take, 60 if None; also the time of a check that names
            none.
        cache_providers: where answers of plain REST checks are kept; None means 5 s in memory, []
            nowhere.
        use_datastream: stream flags, companies and users, and decide checks in memory.
        datastream: how they are streamed.
        credit_leases: reserve credits with each check that states a usage.

    """

    base_url: str | None = None
    event_buffer_period: float | None = None
    event_capture_url: str | None = None
    flag_defaults: Mapping[str, bool] | None = None
    follow_redirects: bool | None = True
    httpx_client: httpx.AsyncClient | None = None
    logger: logging.Logger | None = None
    log_level: int | str = logging.WARNING
    offline: bool = False
    timeout: float | None = None
    cache_providers: Sequence[FlagCache] | None = None
    use_datastream: bool = False
    datastream: DataStreamConfig | None = None
    credit_leases: CreditLeaseConfig | None = None


@dataclass(frozen=True)
class LeaseSettings:
    """`CreditLeaseConfig` with every default filled in, checked (seconds and credits)."""

    mode: CreditLeaseMode = "auto"
    reservation_ttl: float = 60.0
    lease_duration: float = LEASE_DURATION
    lease_size: float = LEASE_SIZE
    low_water_mark: float = LOW_WATER_MARK
    sweep_interval: float = SWEEP_INTERVAL
    prewarm_resolve_timeout: float = PREWARM_RESOLVE_TIMEOUT
    redis_client: object | None = None
    redis_key_prefix: str = REDIS_KEY_PREFIX
    slabs: tuple[float, float, float] | None = None  # smallest, largest, lifetime
    overrides: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """A checked configuration: what the rest of the package reads."""

    api_key: str = field(repr=False)
    base_url: str = BASE_URL
    event_capture_url: str = EVENT_CAPTURE_URL
    event_buffer_period: float = EVENT_BUFFER_PERIOD
    follow_redirects: bool = True
    httpx_client: httpx.Client | httpx.AsyncClient | None = None
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger("schematic_native"))
    offline: bool = False
    timeout: float = REQUEST_TIMEOUT
    use_datastream: bool = False
    max_message_size: int = MAX_MESSAGE_SIZE
    leases: LeaseSettings | None = None
    notices: tuple[tuple[int, str], ...] = ()  # level, text


def read_config(api_key: str, config: SchematicConfig | AsyncSchematicConfig) -> Settings:
    """Check a configuration.

    Raises:
        TypeError: a field has the wrong type.
        ValueError: a field has a value that cannot be meant, or that this version does not support.

    """
    if not isinstance(api_key, str):
        raise TypeError(f"api_key must be a str, got {type(api_key).__name__}")
    if not config.offline and not api_key.strip():
        raise ValueError("api_key must not be blank unless offline=True")
    if not api_key.isascii() or not api_key.isprintable():
        raise ValueError("api_key must be printable ASCII, as it is sent in a header")
    for name in ("offline", "use_datastream"):
        _require(name, getattr(config, name), bool)
    leases = None if config.credit_leases is None else _read_leases(config.credit_leases)
    max_message_size = _read_datastream(config.datastream)
    return Settings(
        api_key=api_key,
        base_url=_url("base_url", config.base_url, BASE_URL),
        event_capture_url=_url("event_capture_url", config.event_capture_url, EVENT_CAPTURE_URL),
        event_buffer_period=_positive(
            "event_buffer_period", config.event_buffer_period, EVENT_BUFFER_PERIOD, "seconds"
        ),
        follow_redirects=config.follow_redirects is not False,
        httpx_client=config.httpx_client,
        logger=_read_logger(config.logger, config.log_level),
        offline=config.offline,
        timeout=_positive("timeout", config.timeout, REQUEST_TIMEOUT, "seconds"),
        use_datastream=config.use_datastream,
        max_message_size=max_message_size,
        leases=leases,
        notices=tuple(_notices(config)),
    )


def read_flag_defaults(name: str, values: object) -> dict[str, bool]:
    """Check a mapping of flag defaults and fold its keys to lower case."""
    if not isinstance(values, Mapping):
        raise TypeError(
            f"{name} must be a mapping of flag key to bool, got {type(values).__name__}"
        )
    defaults: dict[str, bool] = {}
    for key, value in values.items():
        if not isinstance(key, str):
            raise TypeError(f"{name} must have str keys, got {key!r}")
        if not isinstance(value, bool):
            raise TypeError(f"{name}[{key!r}] must be a bool, got {value!r}")
        defaults[key.lower()] = value
    return defaults


def is_loopback(url: str) -> bool:
    """Tell whether a URL names this machine, which no proxy can reach for us."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _require(name: str, value: object, kind: type) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, got {value!r}")


def _number(name: str, value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of {what}, got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number of {what}, got {value!r}")
    return float(value)


def _positive(name: str, value: object, default: float, what: str) -> float:
    if value is None:
        return default
    number = _number(name, value, what)
    if number <= 0:
        raise ValueError(f"{name} must be a number of {what} above 0, got {value!r}")
    return number


def _url(name: str, value: object, default: str) -> str:
    if value is None:
        return default
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, got {type(value).__name__}")
    url = value.strip().rstrip("/")
    if not url:
        return default
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise ValueError(f"{name} must be an http:// or https:// URL, got {value!r}")
    return url


def _read_logger(logger: object, level: object) -> logging.Logger:
    if logger is not None and not isinstance(logger, logging.Logger):
        raise TypeError(f"logger must be a logging.Logger, got {type(logger).__name__}")
    if not isinstance(level, (int, str)) or isinstance(level, bool):
        raise TypeError(f"log_level must be a logging level such as 30 or 'WARNING', got {level!r}")
    number = logging.getLevelName(level.upper()) if isinstance(level, str) else level
    # getLevelName answers a name that it does not know with a text.
    if isinstance(number, str):
        raise ValueError(  # noqa: TRY004 - the type is right, the name is unknown
            f"log_level must be a logging level such as 30 or 'WARNING', got {level!r}"
        )
    if logger is not None:
        return logger
    own = logging.getLogger("schematic_native")
    if number != logging.WARNING:
        # The default is left to the application, which may have set a level of its own.
        own.setLevel(number)
    return own


def _read_datastream(config: object) -> int:
    if config is None:
        return MAX_MESSAGE_SIZE
    if not isinstance(config, DataStreamConfig):
        raise TypeError(f"datastream must be a DataStreamConfig, got {type(config).__name__}")
    for name in (
        "company_cache",
        "company_lookup_cache",
        "user_cache",
        "user_lookup_cache",
        "flag_cache",
    ):
        if getattr(config, name) is not None:
            raise ValueError(
                f"datastream.{name} is not supported by this version: entities are cached in "
                "memory; leave it None"
            )
    if config.replicator_mode:
        raise ValueError(
            "datastream.replicator_mode is not supported by this version; leave it False"
        )
    size = config.max_message_size
    if size is None:
        return MAX_MESSAGE_SIZE
    if isinstance(size, bool) or not isinstance(size, int):
        raise TypeError(f"datastream.max_message_size must be an int (bytes), got {size!r}")
    if size <= 0:
        raise ValueError(
            f"datastream.max_message_size must be a number of bytes above 0, got {size!r}"
        )
    return size


def _read_leases(config: object) -> LeaseSettings:
    if not isinstance(config, CreditLeaseConfig):
        raise TypeError(f"credit_leases must be a CreditLeaseConfig, got {type(config).__name__}")
    if config.mode not in {"auto", "client", "server"}:
        raise ValueError(
            f"credit_leases.mode must be 'auto', 'client' or 'server', got {config.mode!r}"
        )
    prefix = "credit_leases."
    duration = _duration(f"{prefix}default_lease_duration", config.default_lease_duration)
    resolve = config.prewarm_resolve_timeout
    lease_size = _positive(
        f"{prefix}default_lease_size", config.default_lease_size, LEASE_SIZE, "credits"
    )
    return LeaseSettings(
        mode=config.mode,
        reservation_ttl=_positive(
            f"{prefix}default_reservation_ttl", config.default_reservation_ttl, 60.0, "seconds"
        ),
        lease_duration=LEASE_DURATION if duration is None else duration,
        lease_size=lease_size,
        low_water_mark=_share(f"{prefix}low_water_mark", config.low_water_mark, LOW_WATER_MARK),
        sweep_interval=_positive(
            f"{prefix}sweep_interval", config.sweep_interval, SWEEP_INTERVAL, "seconds"
        ),
        prewarm_resolve_timeout=(
            PREWARM_RESOLVE_TIMEOUT
            if resolve is None
            else _at_least_zero(f"{prefix}prewarm_resolve_timeout", resolve, "seconds")
        ),
        redis_client=None if config.mode == "server" else config.redis_client,
        redis_key_prefix=_read_prefix(config.redis_key_prefix),
        slabs=_read_slabs(config, lease_size),
        overrides=_read_overrides(config.overrides),
    )


def _read_prefix(prefix: object) -> str:
    if prefix is None:
        return REDIS_KEY_PREFIX
    if not isinstance(prefix, str):
        raise TypeError(f"credit_leases.redis_key_prefix must be a str, got {prefix!r}")
    return prefix


def _read_slabs(config: CreditLeaseConfig, lease_size: float) -> tuple[float, float, float] | None:
    slab = config.local_slab
    if slab is None or slab is False or config.redis_client is None:
        return None
    if slab is True:
        slab = LocalSlab()
    if not isinstance(slab, LocalSlab):
        raise TypeError(f"credit_leases.local_slab must be a LocalSlab or a bool, got {slab!r}")
    prefix = "credit_leases.local_slab."
    smallest = _positive(f"{prefix}min_credits", slab.min_credits, 100.0, "credits")
    largest = _positive(
        f"{prefix}max_credits", slab.max_credits, max(smallest, lease_size / 4), "credits"
    )
    if smallest < 1:
        raise ValueError(f"{prefix}min_credits must be 1 or more, got {smallest!r}")
    if largest < smallest:
        raise ValueError(f"{prefix}max_credits must be min_credits or more, got {largest!r}")
    return smallest, largest, _positive(f"{prefix}lifetime", slab.lifetime, 10.0, "seconds")


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
        name = f"credit_leases.overrides[{credit!r}]"
        if not isinstance(credit, str) or not isinstance(override, LeaseConfigOverride):
            raise TypeError(
                f"{name} must be a LeaseConfigOverride under a str key, got {override!r}"
            )
        given: dict[str, float | None] = {
            "lease_duration": _duration(f"{name}.lease_duration", override.lease_duration)
        }
        for term, what in (("reservation_ttl", "seconds"), ("lease_size", "credits")):
            value = getattr(override, term)
            given[term] = None if value is None else _positive(f"{name}.{term}", value, 0.0, what)
        mark = override.low_water_mark
        given["low_water_mark"] = (
            None if mark is None else _share(f"{name}.low_water_mark", mark, 0.0)
        )
        terms[credit] = given
    return terms


def _duration(name: str, value: object) -> float | None:
    if value is None:
        return None
    seconds = _positive(name, value, LEASE_DURATION, "seconds")
    if seconds > LONGEST_LEASE:
        raise ValueError(f"{name} must be at most 3600 seconds, got {value!r}")
    return seconds


def _share(name: str, value: object, default: float) -> float:
    if value is None:
        return default
    share = _number(name, value, "share of the grant")
    if not 0 <= share <= 1:
        raise ValueError(f"{name} must be between 0 and 1, got {value!r}")
    return share


def _at_least_zero(name: str, value: object, what: str) -> float:
    number = _number(name, value, what)
    if number < 0:
        raise ValueError(f"{name} must be a number of {what}, 0 or more, got {value!r}")
    return number


def _notices(config: SchematicConfig | AsyncSchematicConfig) -> Iterator[tuple[int, str]]:
    """Say what is worth knowing about a configuration: a level and a sentence each."""
    leases = config.credit_leases
    if (
        leases is not None
        and leases.redis_client is None
        and config.use_datastream
        and not config.offline
    ):
        yield (
            logging.INFO,
            ("credit leases are kept in this process alone: other processes do not see its holds"),
        )
    for sentence in _idle_knobs(config):
        yield logging.WARNING, sentence


def _idle_knobs(config: SchematicConfig | AsyncSchematicConfig) -> list[str]:
    """Name the knobs that cannot take effect, one sentence each."""
    notices = []
    datastream = config.datastream
    if datastream is not None and datastream.cache_ttl is not None:
        notices.append(
            "datastream.cache_ttl has no effect: entities stay until newer ones push them out"
        )
    if config.offline and (config.use_datastream or config.credit_leases is not None):
        notices.append("offline=True: use_datastream and credit_leases have no effect")
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
    if leases.mode != "client" and ttl > LONGEST_SERVER_HOLD:
        notices.append(
            f"credit_leases.default_reservation_ttl={ttl} is capped at {LONGEST_SERVER_HOLD:g} s "
            "for holds on the server"
        )
    return notices
