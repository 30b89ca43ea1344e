"""The check that turns a configuration into `Settings`.

A wrong field is refused when the client is made, with an error that names the field and what would
be right.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import urlsplit

from schematic_native._native import read_quantity
from schematic_native.config.options import (
    AsyncSchematicConfig,
    CreditLeaseConfig,
    CreditLeaseMode,
    DataStreamConfig,
    LeaseConfigOverride,
    LocalSlab,
    SchematicConfig,
)
from schematic_native.ground.arguments import LONGEST_WAIT, check_text, wrong_kind
from schematic_native.ground.machine import THIS, Machine

if TYPE_CHECKING:
    from schematic_native.config.options import HttpClient

BASE_URL = "https://api.schematichq.com"
EVENT_CAPTURE_URL = "https://c.schematichq.com"
EVENT_BUFFER_PERIOD = 5.0
REQUEST_TIMEOUT = 60.0
MAX_EVENT_REQUESTS = 64
MOST_EVENT_REQUESTS = 1000
MAX_MESSAGE_SIZE = 100 * 1024 * 1024
REPLICATOR_HEALTH_URL = "http://localhost:8090/ready"
CACHE_TTL = 24 * 3600 * 1000  # milliseconds that entities stay in a shared cache
LEASE_DURATION = 300.0
LEASE_SIZE = 10_000.0
LOW_WATER_MARK = 0.25
REDIS_KEY_PREFIX = "schematic:"
SWEEP_INTERVAL = 1.0
PREWARM_RESOLVE_TIMEOUT = 5.0
LONGEST_LEASE = 3600.0
# What the core can count with: credits of one lease, and a century of seconds.
LARGEST_LEASE = 1e18
LONGEST_TERM = 3_155_760_000.0
# A hold or lease must end before the server's own one-hour limit even when the two clocks differ by
# a minute.
LONGEST_HOLD = LONGEST_LEASE - 60.0


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
class CacheSettings:
    """The caches of `DataStreamConfig`, checked; None where there is none."""

    company: Any = None
    company_lookup: Any = None
    user: Any = None
    user_lookup: Any = None
    flag: Any = None
    ttl: int = CACHE_TTL  # milliseconds


@dataclass(frozen=True)
class ReplicaSettings:
    """Replicator mode, checked (seconds)."""

    health_url: str = REPLICATOR_HEALTH_URL
    health_check: float = 30.0


@dataclass(frozen=True)
class Settings:
    """A checked configuration: what the rest of the package reads."""

    api_key: str = field(repr=False)
    base_url: str = BASE_URL
    event_capture_url: str = EVENT_CAPTURE_URL
    event_buffer_period: float = EVENT_BUFFER_PERIOD
    max_event_requests: int = MAX_EVENT_REQUESTS
    follow_redirects: bool = True
    httpx_client: HttpClient | None = None
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger("schematic_native"))
    offline: bool = False
    timeout: float = REQUEST_TIMEOUT
    use_datastream: bool = False
    max_message_size: int = MAX_MESSAGE_SIZE
    caches: CacheSettings | None = None
    replica: ReplicaSettings | None = None
    leases: LeaseSettings | None = None
    machine: Machine = THIS
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
    if config.follow_redirects is not None:
        _require("follow_redirects", config.follow_redirects, bool)
    max_message_size = _read_datastream(config.datastream)
    caches = None if config.datastream is None else _read_caches(config.datastream)
    config = _sharing_redis(config)
    leases = None if config.credit_leases is None else _read_leases(config.credit_leases)
    return Settings(
        api_key=api_key,
        base_url=_url("base_url", config.base_url, BASE_URL),
        event_capture_url=_url("event_capture_url", config.event_capture_url, EVENT_CAPTURE_URL),
        event_buffer_period=_positive(
            "event_buffer_period", config.event_buffer_period, EVENT_BUFFER_PERIOD, "seconds"
        ),
        max_event_requests=_count(
            "max_event_requests", config.max_event_requests, MAX_EVENT_REQUESTS, MOST_EVENT_REQUESTS
        ),
        follow_redirects=config.follow_redirects is not False,
        httpx_client=_read_httpx_client(config.httpx_client),
        logger=_read_logger(config.logger, config.log_level),
        offline=config.offline,
        timeout=min(LONGEST_WAIT, _positive("timeout", config.timeout, REQUEST_TIMEOUT, "seconds")),
        use_datastream=config.use_datastream,
        max_message_size=max_message_size,
        caches=caches,
        replica=None if config.datastream is None else _read_replica(config.datastream, caches),
        leases=leases,
        notices=tuple(_notices(config)),
    )


def is_loopback(url: str) -> bool:
    """Tell whether a URL names this machine, which no proxy can reach for us."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    import ipaddress  # noqa: PLC0415 - loaded for hosts without TLS alone

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
    number = read_quantity(name, value)
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number of {what}, got {number!r}")
    return number


def _positive(name: str, value: object, default: float, what: str) -> float:
    if value is None:
        return default
    number = _number(name, value, what)
    if number <= 0:
        raise ValueError(f"{name} must be a number of {what} above 0, got {value!r}")
    return number


def _count(name: str, value: object, default: int, most: int) -> int:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {value!r}")
    if not 1 <= value <= most:
        raise ValueError(f"{name} must be between 1 and {most}, got {value!r}")
    return value


def _term(name: str, value: object, default: float, what: Literal["seconds", "credits"]) -> float:
    """Read what the core will count with."""
    number = _positive(name, value, default, what)
    most = LONGEST_TERM if what == "seconds" else LARGEST_LEASE
    if number > most:
        raise ValueError(f"{name} must be at most {most:g} {what}, got {number!r}")
    return number


def _read_httpx_client(client: object) -> HttpClient | None:
    if client is None:
        return None
    from schematic_native.config.http_clients import adapted  # noqa: PLC0415 - few give a client

    adapted(client)
    return cast("HttpClient", client)


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


class ForeignLogger:
    """A logger of another library, or of a test: it is told whole sentences."""

    def __init__(self, target: object) -> None:
        self.target = target

    def log(self, level: int, message: str, *arguments: object) -> None:
        """Write a sentence at a level of the standard library."""
        method = getattr(self.target, logging.getLevelName(level).lower())
        method(message % arguments if arguments else message)

    def info(self, message: str, *arguments: object) -> None:
        """Write a sentence."""
        self.log(logging.INFO, message, *arguments)

    def warning(self, message: str, *arguments: object) -> None:
        """Write a sentence."""
        self.log(logging.WARNING, message, *arguments)

    def error(self, message: str, *arguments: object) -> None:
        """Write a sentence."""
        self.log(logging.ERROR, message, *arguments)


def _read_logger(logger: object, level: object) -> logging.Logger:
    methods = ("info", "warning", "error")
    if logger is not None and not all(callable(getattr(logger, name, None)) for name in methods):
        raise TypeError(
            f"logger must be a logging.Logger, or have {', '.join(methods)}, "
            f"got {type(logger).__name__}"
        )
    if not isinstance(level, (int, str)) or isinstance(level, bool):
        raise TypeError(f"log_level must be a logging level such as 30 or 'WARNING', got {level!r}")
    number = logging.getLevelName(level.upper()) if isinstance(level, str) else level
    # getLevelName answers a name that it does not know with a text.
    if isinstance(number, str):
        raise ValueError(  # noqa: TRY004 - the type is right, the name is unknown
            f"log_level must be a logging level such as 30 or 'WARNING', got {level!r}"
        )
    if isinstance(logger, logging.Logger):
        return logger
    if logger is not None:
        return cast("logging.Logger", ForeignLogger(logger))
    own = logging.getLogger("schematic_native")
    if number != logging.WARNING:
        # The default is left to the application, which may have set a level of its own.
        own.setLevel(number)
    return own


def _read_datastream(config: object) -> int:
    if config is None:
        return MAX_MESSAGE_SIZE
    if not isinstance(config, DataStreamConfig):
        raise wrong_kind("datastream", DataStreamConfig, config)
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


def _read_caches(config: DataStreamConfig) -> CacheSettings | None:
    """Check the caches that processes share; None if there are none."""
    caches: dict[str, Any] = {}
    for name in ("company", "company_lookup", "user", "user_lookup", "flag"):
        cache = getattr(config, f"{name}_cache")
        if cache is None:
            continue
        methods = ("get", "set", "delete")
        if not all(callable(getattr(cache, method, None)) for method in methods):
            raise TypeError(
                f"datastream.{name}_cache must have the methods get, set and delete, got {cache!r}"
            )
        caches[name] = cache
    if config.cache_ttl is None:
        ttl = CACHE_TTL
    elif isinstance(config.cache_ttl, bool) or not isinstance(config.cache_ttl, int):
        raise TypeError(
            f"datastream.cache_ttl must be an int (milliseconds), got {config.cache_ttl!r}"
        )
    elif config.cache_ttl <= 0:
        raise ValueError(
            f"datastream.cache_ttl must be milliseconds above 0, got {config.cache_ttl!r}"
        )
    else:
        ttl = config.cache_ttl
    return CacheSettings(**caches, ttl=ttl) if caches else None


def _read_replica(config: DataStreamConfig, caches: CacheSettings | None) -> ReplicaSettings | None:
    """Check replicator mode, which decides by what another program has left in the caches."""
    _require("datastream.replicator_mode", config.replicator_mode, bool)
    if not config.replicator_mode:
        return None
    for name in ("company", "company_lookup", "user", "user_lookup", "flag"):
        cache = getattr(caches, name, None)
        if cache is None:
            raise ValueError(
                f"datastream.{name}_cache must be given in replicator mode: all five caches must"
            )
        if type(cache).__name__ == "AsyncLocalCache":
            raise TypeError(
                f"datastream.{name}_cache must be shared with the replicator, for example a "
                f"RedisCache, got {type(cache).__name__}, which is this process's own"
            )
    check = _positive(
        "datastream.replicator_health_check", config.replicator_health_check, 30_000, "milliseconds"
    )
    url = config.replicator_health_url
    return ReplicaSettings(
        health_url=_url("datastream.replicator_health_url", url, REPLICATOR_HEALTH_URL),
        health_check=check / 1000,
    )


def _sharing_redis(
    config: SchematicConfig | AsyncSchematicConfig,
) -> SchematicConfig | AsyncSchematicConfig:
    """Let leases live in the Redis of the company cache, unless they have one of their own.

    So do the published SDKs, and processes of both kinds must find the same leases.
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


def _read_leases(config: object) -> LeaseSettings:
    if not isinstance(config, CreditLeaseConfig):
        raise wrong_kind("credit_leases", CreditLeaseConfig, config)
    if config.mode not in ("auto", "client", "server"):
        raise ValueError(
            f"credit_leases.mode must be 'auto', 'client' or 'server', got {config.mode!r}"
        )
    prefix = "credit_leases."
    duration = _duration(f"{prefix}default_lease_duration", config.default_lease_duration)
    resolve = config.prewarm_resolve_timeout
    lease_size = _term(
        f"{prefix}default_lease_size", config.default_lease_size, LEASE_SIZE, "credits"
    )
    return LeaseSettings(
        mode=config.mode,
        reservation_ttl=_term(
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
    return check_text("credit_leases.redis_key_prefix", prefix)


def _read_slabs(config: CreditLeaseConfig, lease_size: float) -> tuple[float, float, float] | None:
    slab = config.local_slab
    if slab is None or slab is False:
        return None
    if slab is True:
        slab = LocalSlab()
    if not isinstance(slab, LocalSlab):
        raise TypeError(f"credit_leases.local_slab must be a LocalSlab or a bool, got {slab!r}")
    prefix = "credit_leases.local_slab."
    smallest = _term(f"{prefix}min_credits", slab.min_credits, 100.0, "credits")
    largest = _term(
        f"{prefix}max_credits", slab.max_credits, max(smallest, lease_size / 4), "credits"
    )
    if smallest < 1:
        raise ValueError(f"{prefix}min_credits must be 1 or more, got {smallest!r}")
    if largest < smallest:
        raise ValueError(f"{prefix}max_credits must be min_credits or more, got {largest!r}")
    lifetime = _term(f"{prefix}lifetime", slab.lifetime, 10.0, "seconds")
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
        name = f"credit_leases.overrides[{credit!r}]"
        if not isinstance(override, LeaseConfigOverride):
            raise wrong_kind(name, LeaseConfigOverride, override)
        check_text("a key of credit_leases.overrides", credit)
        given: dict[str, float | None] = {
            "lease_duration": _duration(f"{name}.lease_duration", override.lease_duration)
        }
        ttl, size = override.reservation_ttl, override.lease_size
        if ttl is not None:
            given["reservation_ttl"] = _term(f"{name}.reservation_ttl", ttl, 0.0, "seconds")
        if size is not None:
            given["lease_size"] = _term(f"{name}.lease_size", size, 0.0, "credits")
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


def _has_cache(config: DataStreamConfig) -> bool:
    return any(getattr(config, name) is not None for name in vars(config) if "_cache" in name)


def _idle_knobs(config: SchematicConfig | AsyncSchematicConfig) -> list[str]:
    """Name the knobs that cannot take effect, one sentence each."""
    notices = []
    datastream = config.datastream
    if datastream is not None and datastream.cache_ttl is not None and not _has_cache(datastream):
        notices.append(
            "datastream.cache_ttl has no effect without shared caches: entities in memory stay "
            "until newer ones push them out"
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
    if leases.mode != "client" and ttl is not None and ttl > LONGEST_HOLD:
        notices.append(
            f"credit_leases.default_reservation_ttl={ttl} is capped at {LONGEST_HOLD:g} s "
            "for holds on the server"
        )
    return notices
