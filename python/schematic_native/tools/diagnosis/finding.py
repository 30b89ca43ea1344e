"""The result of one check of the doctor."""

from __future__ import annotations

from dataclasses import dataclass

# Seconds by which two clocks may differ: what leases allow for.
MOST_SKEW = 10.0
# Seconds: what is known to no more than that is shown without decimals.
ROUGH = 0.1


@dataclass
class Finding:
    """The result of one check, and what to do if it is not ok."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def clock(name: str, ahead: float, accuracy: float) -> Finding:
    """Judge a clock that is so many seconds ahead of this machine's, known to within `accuracy`."""
    digits = 3 if accuracy < ROUGH else 0
    direction = "ahead of" if ahead > 0 else "behind"
    detail = f"{abs(ahead):.{digits}f} s {direction} this machine's, to within {accuracy:.2g} s"
    return Finding(
        f"clock of {name}",
        abs(ahead) - accuracy <= MOST_SKEW,
        detail,
        f"leases allow for {MOST_SKEW:.0f} s: synchronise the clocks of both machines (NTP, chrony)",
    )
