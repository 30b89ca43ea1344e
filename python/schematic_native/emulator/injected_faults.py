"""Injected faults: what is to go wrong, where, how often. What happens then is `fault_injector`'s.

| kind | what a request meets |
| --- | --- |
| refuse | on "any": nothing listens, open connections are cut; elsewhere the same as drop |
| drop | its connection is cut before anything happens; on "datastream" open ones too |
| delay | it waits `seconds`, then goes on |
| status | an error answer of `status`, before anything happens |
| cut | it is carried out, and its connection is cut instead of an answer |
| freeze | it is taken and never answered; on "datastream" the socket stays open and silent |
"""

from __future__ import annotations

import random
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal, get_args

from schematic_native.emulator.errors import InvalidRequestError

FaultKind = Literal["refuse", "drop", "delay", "status", "cut", "freeze"]
FaultPlace = Literal["acquire", "extend", "release", "check", "capture", "datastream", "any"]

FAULT_KINDS: tuple[str, ...] = get_args(FaultKind)
FAULT_PLACES: tuple[str, ...] = get_args(FaultPlace)
_FIRST_ERROR, _LAST_ERROR = 400, 599


@dataclass(eq=False)
class Fault:
    """One fault: it fires at matching requests until `times` is used up or it is cleared.

    Raises:
        InvalidRequestError: A field is not what it should be; the message names it.

    """

    id: int
    kind: str
    on: str = "any"
    _: KW_ONLY
    times: int | None = None
    probability: float = 1.0
    seed: int = 0
    status: int = 503
    seconds: float = 1.0
    retry_after: float | None = None
    fired: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._check_reach()
        self._check_effect()
        self._random = random.Random(self.seed)  # noqa: S311  # Faults must repeat, not surprise.

    def _check_reach(self) -> None:
        """Check what says which requests it hits."""
        kind, on, times = self.kind, self.on, self.times
        _require(kind in FAULT_KINDS, "kind", f"one of {', '.join(FAULT_KINDS)}", kind)
        _require(on in FAULT_PLACES, "on", f"one of {', '.join(FAULT_PLACES)}", on)
        if times is not None:
            _require(_is_whole(times) and times > 0, "times", "a whole number above 0", times)
            endless = kind == "refuse" and on == "any"
            _require(not endless, "times", "nothing: refuse on any lasts until cleared", times)
        chance = self.probability
        _require(_is_number(chance) and 0 <= chance <= 1, "probability", "0 to 1", chance)
        _require(_is_whole(self.seed), "seed", "a whole number", self.seed)

    def _check_effect(self) -> None:
        """Check what says what happens to a request."""
        status, seconds, after = self.status, self.seconds, self.retry_after
        is_error = _is_whole(status) and _FIRST_ERROR <= status <= _LAST_ERROR
        _require(is_error, "status", "400 to 599", status)
        _require(_is_number(seconds) and seconds >= 0, "seconds", "0 or more", seconds)
        if after is not None:
            _require(_is_number(after) and after >= 0, "retry_after", "0 or more", after)

    @property
    def spent(self) -> bool:
        """Whether it has fired as often as it was to."""
        return self.times is not None and self.fired >= self.times

    def fires(self, place: str) -> bool:
        """Decide about one request, and count it if the fault hits it."""
        if self.spent or self.on not in {"any", place} or place == "admin":
            return False
        if self.probability < 1 and self._random.random() >= self.probability:
            return False
        self.fired += 1
        return True

    def describe(self) -> dict[str, Any]:
        """Return the fault as plain JSON."""
        return {
            "id": self.id,
            "kind": self.kind,
            "on": self.on,
            "times": self.times,
            "fired": self.fired,
        }


class Faults:
    """The faults in force, in the order in which they were asked for."""

    def __init__(self) -> None:
        self.in_force: dict[int, Fault] = {}
        self._last_id = 0

    def add(self, arguments: dict[str, Any]) -> Fault:
        """Put a fault in force.

        Raises:
            InvalidRequestError: An argument is unknown or not what it should be.

        """
        self._last_id += 1
        try:
            fault = Fault(self._last_id, **arguments)
        except TypeError as error:
            raise InvalidRequestError(f"fail: {error}") from error
        self.in_force[fault.id] = fault
        return fault

    def clear(self, fault_id: int | None = None) -> None:
        """Take one fault, or all of them, out of force."""
        if fault_id is None:
            self.in_force.clear()
        else:
            self.in_force.pop(fault_id, None)

    def strike(self, place: str) -> tuple[float, Fault | None]:
        """Return the seconds to wait and the fault, if any, for the next request at a place."""
        wait, hit = 0.0, None
        for fault in self.in_force.values():
            if fault.kind == "delay":
                wait += fault.seconds if fault.fires(place) else 0.0
            elif hit is None and fault.fires(place):
                hit = fault
        return wait, hit


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _require(holds: bool, name: str, wanted: str, value: object) -> None:
    if not holds:
        raise InvalidRequestError(f"{name}: expected {wanted}, got {value!r}")
