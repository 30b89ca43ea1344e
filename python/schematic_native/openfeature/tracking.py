"""What a track event of OpenFeature becomes: a settled reservation, or a plain track event.

Nothing here sends anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from schematic_native._native import Reservation
from schematic_native.ground.arguments import shown

RESERVATION = "reservation"


def read_reservation(held: object, event: str) -> Reservation:
    """Require a reservation for an event, or its dict."""
    if isinstance(held, Mapping):
        try:
            held = Reservation.from_dict(held)
        except KeyError as error:
            raise ValueError(f"{RESERVATION} lacks the field {error}") from None
    if not isinstance(held, Reservation):
        raise TypeError(f"{RESERVATION} must be a Reservation or its dict, got {shown(held)}")
    if held.event_subtype != event:
        raise ValueError(
            f"the reservation bills {held.event_subtype!r}, but {shown(event)} was to be tracked"
        )
    return held


def round_up(value: float) -> int:
    """Return the quantity of a finite value."""
    if not math.isfinite(value):
        raise ValueError(f"value must be finite, got {shown(value)}")
    return math.ceil(value)
