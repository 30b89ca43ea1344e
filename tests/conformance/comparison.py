"""Whether what was seen is what a vector expects."""

from __future__ import annotations

from typing import Any

# A closing client releases its leases at once, so they arrive in any order.
UNORDERED = frozenset({"released_lease_ids", "released_reservation_ids"})


def difference(expected: Any, found: Any) -> str | None:
    """Tell what is not as expected; what is not expected is not looked at."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return _missing_or_different(expected, found)
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        faults = (difference(*pair) for pair in zip(expected, found, strict=True))
        return next((fault for fault in faults if fault is not None), None)
    if expected == found and isinstance(expected, bool) == isinstance(found, bool):
        return None
    return f"expected {expected!r}, found {found!r}"


def _missing_or_different(expected: dict[str, Any], found: dict[str, Any]) -> str | None:
    for name, value in expected.items():
        if name not in found:
            return f"{name} is not told: {sorted(found)} are"
        wanted, there = value, found[name]
        if name in UNORDERED:
            wanted, there = sorted(wanted), sorted(there)
        fault = difference(wanted, there)
        if fault is not None:
            return f"{name}: {fault}"
    return None
