"""The settings of a client: its configuration, checked and with the defaults filled in.

A wrong field is refused when the client is made, with an error that names the field and says what would be
right. Nothing here does I/O.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from schematic_native.config.datastream_settings import (
    CacheSettings,
    ReplicaSettings,
    read_caches,
    read_max_message_size,
    read_replica,
)
from schematic_native.config.defaults import (
    BASE_URL,
    EVENT_BUFFER_PERIOD,
    EVENT_CAPTURE_URL,
    MAX_EVENT_REQUESTS,
    MAX_MESSAGE_SIZE,
    MOST_EVENT_REQUESTS,
    REQUEST_TIMEOUT,
)
from schematic_native.config.fields import (
    read_count,
    read_interval,
    read_positive,
    read_url,
    require,
)
from schematic_native.config.lease_settings import LeaseSettings, read_leases, share_redis
from schematic_native.config.loggers import read_logger
from schematic_native.config.notices import read_notices
from schematic_native.config.spool_settings import SpoolSettings, read_spool
from schematic_native.ground.arguments import LONGEST_WAIT
from schematic_native.ground.machine import THIS, Machine

if TYPE_CHECKING:
    from schematic_native.config.client_config import AsyncSchematicConfig, SchematicConfig
    from schematic_native.config.providers import HttpClient


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
    spool: SpoolSettings | None = None
    machine: Machine = THIS
    notices: tuple[tuple[int, str], ...] = ()  # level, text


def read_config(api_key: str, config: SchematicConfig | AsyncSchematicConfig) -> Settings:
    """Check a configuration and fill in the defaults.

    Raises:
        TypeError: a field has the wrong type.
        ValueError: a field has a value that makes no sense, or that this version does not support.

    """
    if not isinstance(api_key, str):
        raise TypeError(f"api_key must be a str, got {type(api_key).__name__}")
    if not config.offline and not api_key.strip():
        raise ValueError("api_key must not be blank unless offline=True")
    if not api_key.isascii() or not api_key.isprintable():
        raise ValueError("api_key must be printable ASCII, as it is sent in a header")
    for name in ("offline", "use_datastream"):
        require(name, getattr(config, name), bool)
    if config.follow_redirects is not None:
        require("follow_redirects", config.follow_redirects, bool)
    max_message_size = read_max_message_size(config.datastream)
    caches = None if config.datastream is None else read_caches(config.datastream)
    config = share_redis(config)
    leases = None if config.credit_leases is None else read_leases(config.credit_leases)
    return Settings(
        api_key=api_key,
        base_url=read_url("base_url", config.base_url, BASE_URL),
        event_capture_url=read_url(
            "event_capture_url", config.event_capture_url, EVENT_CAPTURE_URL
        ),
        event_buffer_period=read_interval(
            "event_buffer_period", config.event_buffer_period, EVENT_BUFFER_PERIOD
        ),
        max_event_requests=read_count(
            "max_event_requests", config.max_event_requests, MAX_EVENT_REQUESTS, MOST_EVENT_REQUESTS
        ),
        follow_redirects=config.follow_redirects is not False,
        httpx_client=_read_httpx_client(config.httpx_client),
        logger=read_logger(config.logger, config.log_level),
        offline=config.offline,
        timeout=min(
            LONGEST_WAIT, read_positive("timeout", config.timeout, REQUEST_TIMEOUT, "seconds")
        ),
        use_datastream=config.use_datastream,
        max_message_size=max_message_size,
        caches=caches,
        replica=None if config.datastream is None else read_replica(config.datastream, caches),
        leases=leases,
        spool=read_spool(api_key, config),
        notices=tuple(read_notices(config)),
    )


def _read_httpx_client(client: object) -> HttpClient | None:
    if client is None:
        return None
    from schematic_native.config.http_clients import adapt  # noqa: PLC0415 - few give a client

    adapt(client)
    return cast("HttpClient", client)
