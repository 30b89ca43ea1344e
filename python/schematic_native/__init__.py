"""Schematic feature checks and credit leases, decided in Rust.

`Schematic` and `AsyncSchematic` are the clients. Importing this package loads no network library:
that happens when a client starts its I/O.
"""

from schematic_native._native import WarningTier, __build__, __version__
from schematic_native.client import (
    AsyncSchematic,
    AsyncSchematicConfig,
    CheckFlagOptions,
    CheckFlagResult,
    CheckOptions,
    CheckResult,
    ClientStatus,
    CreditBalance,
    CreditLeaseConfig,
    DataStreamConfig,
    EventBodyIdentifyCompany,
    EventQuantities,
    EventUsage,
    FeatureEntitlement,
    IdentifyOptions,
    LeaseConfigOverride,
    LocalCache,
    LocalSlab,
    Reservation,
    Schematic,
    SchematicConfig,
    TrackOptions,
    TrackWithReservationOptions,
)

__all__ = [
    "AsyncSchematic",
    "AsyncSchematicConfig",
    "CheckFlagOptions",
    "CheckFlagResult",
    "CheckOptions",
    "CheckResult",
    "ClientStatus",
    "CreditBalance",
    "CreditLeaseConfig",
    "DataStreamConfig",
    "EventBodyIdentifyCompany",
    "EventQuantities",
    "EventUsage",
    "FeatureEntitlement",
    "IdentifyOptions",
    "LeaseConfigOverride",
    "LocalCache",
    "LocalSlab",
    "Reservation",
    "Schematic",
    "SchematicConfig",
    "TrackOptions",
    "TrackWithReservationOptions",
    "WarningTier",
    "__build__",
    "__version__",
]
