"""The clients, `Schematic` and `AsyncSchematic`, and everything that a call of theirs takes or returns.

A check whose data is in memory is one call into the core, on the caller's own thread: `check_flag`,
`check` and `track_with_reservation` of the synchronous client are native methods, which call Python
only when they have to wait. All waiting is done by coroutines of `runtime`: the asynchronous client
awaits them, and the synchronous client runs them on an I/O thread and blocks.

No import at the top of these modules may load asyncio, httpx or websockets; they are loaded when I/O
starts.
"""

from schematic_native._native import (
    CheckFlagResult,
    CheckResult,
    FeatureEntitlement,
    Reservation,
)
from schematic_native.cache.flag_checks import (
    LocalCache,
)
from schematic_native.client.asynchronous import AsyncSchematic
from schematic_native.client.hold.asynchronous import AsyncHold
from schematic_native.client.hold.denied import CreditsDenied
from schematic_native.client.hold.synchronous import Hold
from schematic_native.client.synchronous import Schematic
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
    EventBodyIdentifyCompany,
    EventQuantities,
    EventUsage,
    IdentifyOptions,
    OnAcquireFailure,
    TrackOptions,
    TrackWithReservationOptions,
)
from schematic_native.config.providers import CacheProvider
from schematic_native.config.results import ClientStatus, CreditBalance, SpoolStatus
from schematic_native.leases.requests import (
    INSUFFICIENT_CREDITS_REASON,
    REASON_ERROR,
    REASON_FLAG_NOT_FOUND,
    REASON_OFFLINE,
)

# The public names of the published `schematic.client`, so that migrating changes one import line.
__all__ = [
    "INSUFFICIENT_CREDITS_REASON",
    "REASON_ERROR",
    "REASON_FLAG_NOT_FOUND",
    "REASON_OFFLINE",
    "AsyncHold",
    "AsyncSchematic",
    "AsyncSchematicConfig",
    "CacheProvider",
    "CheckFlagOptions",
    "CheckFlagResponseData",
    "CheckFlagResult",
    "CheckOptions",
    "CheckResult",
    "ClientStatus",
    "CreditBalance",
    "CreditLeaseConfig",
    "CreditLeaseMode",
    "CreditsDenied",
    "DataStreamConfig",
    "EventBodyIdentifyCompany",
    "EventQuantities",
    "EventUsage",
    "FeatureEntitlement",
    "Hold",
    "IdentifyOptions",
    "LeaseConfigOverride",
    "LocalCache",
    "LocalSlab",
    "LogLevel",
    "OnAcquireFailure",
    "Reservation",
    "Schematic",
    "SchematicConfig",
    "SpoolConfig",
    "SpoolStatus",
    "TrackOptions",
    "TrackWithReservationOptions",
]

# The published package's name for the result of a plain check.
CheckFlagResponseData = CheckFlagResult
