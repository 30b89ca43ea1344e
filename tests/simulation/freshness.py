"""Which state a check in replicator mode was decided by, and whether that is one which it may still go by.

Flags and companies carry numbers that grow with each change, and a rule is named by both, so an answer tells what it
was decided by. Nothing here knows how the package works.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from itertools import product
from typing import TYPE_CHECKING, Any

from schematic_native.ground import json_text
from tests.simulation.judge import ViolationError
from tests.simulation.worlds import GATE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PREFIX = "schematic"
# Seconds that an answer may be behind the cache, as `docs/decisions.md` 35 has it, and for the way of an answer.
BEHIND = 1.0
WAY = 0.1
# What a key has of which nothing was noted, and what stands for an entity of another kind than was looked for.
NOTHING = None


class Freshness:
    """What the service and the cache had, and since when.

    Args:
        now: seconds, by the world's clock.

    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._instants: dict[str, list[float]] = defaultdict(list)
        self._values: dict[str, list[Any]] = defaultdict(list)

    def note(self, key: str, value: Any) -> None:
        """From now on this is what the service or the cache has under a key."""
        self._instants[key].append(self._now())
        self._values[key].append(value)

    def note_cache(self, key: bytes, text: bytes | None) -> None:
        """Note what is under a key of the cache; anything but a flag, a company or its id is ignored."""
        name = key.decode()
        if name.startswith((f"{PREFIX}:flags:", f"{PREFIX}:company:")):
            self.note(name, _number_of(text))

    def forget_cache(self) -> None:
        """The cache has lost all that it had, before it is noted what it has now."""
        for key in [key for key in self._values if key.startswith(f"{PREFIX}:")]:
            self.note(key, NOTHING)

    def between(self, key: str, begin: float, end: float) -> list[Any]:
        """Return what was under a key at any time from `begin` to `end`."""
        instants, values = self._instants[key], self._values[key]
        first = bisect_right(instants, begin) - 1
        last = bisect_right(instants, end)
        before = [NOTHING] if first < 0 else []
        return before + values[max(0, first) : last]

    def answered(self, company: str, rule: str | None, begin: float, end: float) -> None:
        """A check that began and ended at these instants was decided by a rule, or by none."""
        allowed = {*self._by_cache(company, begin, end), *self._by_service(company, begin, end)}
        if rule not in allowed:
            told = ", ".join(sorted(map(str, allowed)))
            raise ViolationError(
                f"a check of {company} was answered by the state {rule}; from {begin - BEHIND:.3f} s to "
                f"{end:.3f} s it was {told}"
            )

    def _by_service(self, company: str, begin: float, end: float) -> Iterator[str | None]:
        yield from _rules(
            self.between("flag", begin, end), self.between(f"company {company}", begin, end)
        )

    def _by_cache(self, company: str, begin: float, end: float) -> Iterator[str | None]:
        begin -= BEHIND + WAY
        for version in self.between("version", self._version_begin(begin), end):
            names = (
                f"{PREFIX}:company:{version}:id:{company}",
                f"{PREFIX}:company:{version}:{company}",
            )
            lookups, companies = (self.between(name, begin, end) for name in names)
            if NOTHING in lookups:
                companies = [NOTHING, *companies]
            flags = self.between(f"{PREFIX}:flags:{version}:{GATE}", begin, end)
            yield from _rules([flag for flag in flags if flag is not NOTHING], companies)

    def _version_begin(self, begin: float) -> float:
        """Tell since when a process may have heard of no newer version than one of that time."""
        return begin - HEARD

    def now_of(self, company: str) -> str | None:
        """Return the rule by which a check is decided by what the service has now."""
        [rule] = _rules(self._values["flag"][-1:], self._values[f"company {company}"][-1:])
        return rule


# Seconds between two questions for the replicator's health, and until one hears of a change for certain.
HEALTH = 1.5
HEARD = HEALTH + 5.0 + 0.5


def _rules(flags: list[Any], companies: list[Any]) -> Iterator[str | None]:
    for flag, company in product(flags, companies):
        yield None if company is NOTHING or flag is NOTHING else f"{flag}.{company}"


def _number_of(text: bytes | None) -> Any:
    """Return the number of an entity, or the id that a lookup key stands for."""
    value = None if text is None else json_text.read(text)
    if not isinstance(value, dict):
        return value
    return (
        value["traits"][0]["value"]
        if "traits" in value
        else value["rules"][0]["id"].partition(".")[0]
    )
