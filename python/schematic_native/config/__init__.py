"""The configuration of a client, and the options and results of its calls.

`client_config` and `options` are what a program writes; `settings` is what the rest of the package reads.
Nothing here does I/O.
"""

from schematic_native.config.client_config import (
    AsyncSchematicConfig,
    CreditLeaseConfig,
    CreditLeaseMode,
    DataStreamConfig,
    LeaseConfigOverride,
    LocalSlab,
    LogLevel,
    SchematicConfig,
    SpoolConfig,
)
from schematic_native.config.options import (
    CheckFlagOptions,
    CheckOptions,
    DefaultValue,
    EventBodyIdentifyCompany,
    EventQuantities,
    EventUsage,
    IdentifyOptions,
    LookupKeys,
    OnAcquireFailure,
    TrackOptions,
    TrackWithReservationOptions,
)
from schematic_native.config.providers import (
    AsyncCacheProvider,
    CacheProvider,
    FlagCache,
    HttpClient,
)
from schematic_native.config.results import ClientStatus, CreditBalance, SpoolStatus

__all__ = [
    "AsyncCacheProvider",
    "AsyncSchematicConfig",
    "CacheProvider",
    "CheckFlagOptions",
    "CheckOptions",
    "ClientStatus",
    "CreditBalance",
    "CreditLeaseConfig",
    "CreditLeaseMode",
    "DataStreamConfig",
    "DefaultValue",
    "EventBodyIdentifyCompany",
    "EventQuantities",
    "EventUsage",
    "FlagCache",
    "HttpClient",
    "IdentifyOptions",
    "LeaseConfigOverride",
    "LocalSlab",
    "LogLevel",
    "LookupKeys",
    "OnAcquireFailure",
    "SchematicConfig",
    "SpoolConfig",
    "SpoolStatus",
    "TrackOptions",
    "TrackWithReservationOptions",
]
