"""What OpenFeature gets from a check: a value of the requested type or an error, with reason and metadata.

Nothing here checks a flag.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar

from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import FlagResolutionDetails, Reason

from schematic_native._native import FeatureEntitlement
from schematic_native.integrations.verdicts import failure_of, is_targeted
from schematic_native.leases.requests import REASON_OFFLINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from openfeature.flag_evaluation import FlagMetadata, FlagValueType

    from schematic_native._native import CheckFlagResult

Structure: TypeAlias = "Sequence[FlagValueType] | Mapping[str, FlagValueType]"

T = TypeVar("T")

# The fields of a result that become metadata, under the same names.
_OF_RESULT = ("flag_id", "rule_id", "rule_type", "company_id", "user_id")
_OF_ENTITLEMENT = tuple(
    name
    for name, attribute in sorted(vars(FeatureEntitlement).items())
    if not name.startswith("_") and not callable(attribute)
)
_PLAIN = (bool, int, float, str)


class Checked(NamedTuple):
    """The result of a check, and whether it comes from a cache of results of the API."""

    result: CheckFlagResult
    is_cached: bool = False


def conclude(
    checked: Checked,
    default: T,
    read: Callable[[CheckFlagResult], T | None],
    *,
    is_stale: bool,
) -> FlagResolutionDetails[T]:
    """Return the details of a resolution.

    Args:
        checked: the result.
        default: the value if there is none of the requested type.
        read: returns the value of that type, None if there is none.
        is_stale: whether the flags are no longer kept current.

    """
    result = checked.result
    failure = failure_of(result)
    if failure is not None:
        return _failed(default, ErrorCode(failure.code), failure.message)
    reason = Reason.TARGETING_MATCH if is_targeted(result) else Reason.DEFAULT
    metadata = _Metadata(result)
    if result.reason == REASON_OFFLINE:
        return FlagResolutionDetails(default, reason=reason, flag_metadata=metadata)
    value = read(result)
    if value is None:
        what = f"flag {result.flag!r} has no such value for this company"
        return _failed(default, ErrorCode.TYPE_MISMATCH, what, metadata)
    if checked.is_cached:
        reason = Reason.CACHED
    elif is_stale:
        reason = Reason.STALE
    variant = ("on" if value else "off") if isinstance(value, bool) else None
    return FlagResolutionDetails(value, reason=reason, variant=variant, flag_metadata=metadata)


def _failed(
    default: T, code: ErrorCode, message: str, metadata: FlagMetadata | None = None
) -> FlagResolutionDetails[T]:
    return FlagResolutionDetails(
        default,
        error_code=code,
        error_message=message,
        reason=Reason.ERROR,
        flag_metadata=metadata or {},
    )


class _Metadata(Mapping[str, "bool | int | float | str"]):
    """What a result says besides its value, plain values only; read when somebody asks for it."""

    __slots__ = ("_found", "_result")

    def __init__(self, result: CheckFlagResult) -> None:
        self._result = result
        self._found: dict[str, bool | int | float | str] | None = None

    def _read(self) -> dict[str, bool | int | float | str]:
        if self._found is None:
            found: dict[str, bool | int | float | str] = {"reason": self._result.reason}
            for name in _OF_RESULT:
                value = getattr(self._result, name)
                if value is not None:
                    found[name] = value
            described = _describe(self._result.entitlement)
            self._found = found | {
                name: value for name, value in described.items() if isinstance(value, _PLAIN)
            }
        return self._found

    def __getitem__(self, name: str) -> bool | int | float | str:
        return self._read()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __repr__(self) -> str:
        return repr(self._read())


def _describe(entitlement: FeatureEntitlement | None) -> dict[str, FlagValueType]:
    """Return an entitlement as JSON types, without the fields that are None."""
    found: dict[str, FlagValueType] = {}
    for name in () if entitlement is None else _OF_ENTITLEMENT:
        value = getattr(entitlement, name)
        if isinstance(value, datetime):
            value = value.isoformat()
        elif name == "warning_tiers" and value is not None:
            value = [{"key": tier.key, "value": tier.value} for tier in value]
        if value is not None:
            found[name] = value
    return found


def read_boolean(result: CheckFlagResult) -> bool:
    """Return the value of the flag."""
    return result.value


def read_string(_: CheckFlagResult) -> str | None:
    """Return None: nothing about a flag is text."""
    return None


def read_integer(result: CheckFlagResult) -> int | None:
    """Return the allocation."""
    entitlement = result.entitlement
    if entitlement is not None and entitlement.allocation is not None:
        return entitlement.allocation
    return result.feature_allocation


def read_float(result: CheckFlagResult) -> float | None:
    """Return the credits that remain, or else the allocation."""
    entitlement = result.entitlement
    if entitlement is not None and entitlement.credit_remaining is not None:
        return entitlement.credit_remaining
    allocation = read_integer(result)
    return None if allocation is None else float(allocation)


def read_structure(result: CheckFlagResult) -> Structure | None:
    """Return the entitlement, by the names of its fields."""
    return _describe(result.entitlement) or None
