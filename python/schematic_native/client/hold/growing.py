"""How a hold counts what is used, and reserves more before it runs low.

Nothing here waits: a check that memory cannot answer runs in the background.
"""

# ruff: noqa: SLF001 - a hold is part of its client

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

from schematic_native._native import HOLD_LOW, CheckResult
from schematic_native.client.event_arguments import read_json
from schematic_native.client.hold.ending import C, Ending, EndingHold
from schematic_native.ground.arguments import check_bool, is_usage, read_text, shown

if TYPE_CHECKING:
    from typing_extensions import Self

    from schematic_native._native import PendingCheck, Reservation
    from schematic_native.client.runtime import Runtime
    from schematic_native.leases.requests import CheckArguments


class GrowingHold(EndingHold[C]):
    """A hold that counts its usage and grows with it."""

    @staticmethod
    def _check_usage(usage: object) -> None:
        if isinstance(usage, bool) or not isinstance(usage, (int, float)):
            raise TypeError(f"usage must be a positive number of event units, got {shown(usage)}")
        if not (is_usage(usage) and usage > 0):
            raise ValueError(f"usage must be a positive number of event units, got {shown(usage)}")

    def _with_terms(
        self, traits: object, required: bool | None, ttl: float | None, key: str | None
    ) -> Self:
        """Set the terms that only few holds have."""
        self._traits = read_json("traits", traits)
        if ttl is not None:
            _check_ttl(ttl)
            self._ttl = ttl
        if key is not None:
            self._key = read_text("key", key)
        if required is not None:
            check_bool("required", required)
            self._is_required = required
        self._is_simple = key is None and traits is None
        return self

    @property
    def reason(self) -> str:
        """The rule or the failure that decided the first check."""
        return self.result.reason

    @property
    def error(self) -> str | None:
        """The failure of the first check, if there was one."""
        return self.result.error

    def _use(self, units: float) -> None:
        """Count units that the native `use` could not count, or say what is wrong with them."""
        if type(units) is not int or units < 0:
            check_units(units)
        with self._holds.lock:
            if self._ending is not None or self._result is None:
                raise RuntimeError("the hold has ended" if self._result else "enter the hold first")
            self._used += units
            if self._held - self._used >= self._low or self._is_busy:
                return
            self._is_busy = True
        self._grow()

    def _arguments_for(self, units: float) -> CheckArguments:
        """Return the arguments of a check for more units."""
        flag_key, company, user, options, _, *others = self._arguments
        if self._pieces:
            # The keys of the first check: the caller's mappings may have changed since.
            company, user = self._pieces[0].company, self._pieces[0].user
        arguments: Any = (flag_key, company, user, options, units, *others)
        return cast("CheckArguments", arguments)

    def _repeat_key(self) -> str | None:
        if self._key is None:
            return None
        return f"hold:{self._arguments[0]}:{self._key}:{self._count if self._result else 0}"

    def _grow(self) -> None:
        """Hold more: at once if memory can answer the check, otherwise in the background."""
        units = self._usage + max(0.0, self._used - self._held)
        try:
            begun = self._client._begin_now(*self._arguments_for(units), self._ttl)
        except BaseException:
            self._is_busy = False
            raise
        if isinstance(begun, CheckResult):
            self._settle_without_waiting(self._accept_further_check(begun, units))
            self._is_busy = False
            return

        async def grow(runtime: Runtime) -> None:
            try:
                result = await self._ask(runtime, units, begun)
                self._settle_without_waiting(self._accept_further_check(result, units))
            finally:
                self._is_busy = False

        self._in_background(grow)

    async def _ask(
        self, runtime: Runtime, units: float, pending: PendingCheck | None
    ) -> CheckResult:
        """Finish a check for more units. Call it on the event loop."""
        client = self._client
        request = client._read_check(self._arguments_for(units), self._ttl, self._repeat_key())
        return client._conclude_check(request, await runtime.check(request, pending))

    def _accept_further_check(self, result: CheckResult, units: float) -> list[Ending]:
        """Add what a further check holds; if the hold is ending, return it to be released instead."""
        reservation = result.reservation
        with self._holds.lock:
            if reservation is None:
                self.exhausted = not result.allowed
                self._low = -math.inf  # do not ask again
                return []
            if self._ending is not None:
                return [(reservation, 0)]
            self._add(reservation)
            self._held += units
            self._low = HOLD_LOW * self._usage
            self.exhausted = False
            return []

    def _add(self, reservation: Reservation) -> None:
        self._pieces += (reservation,)
        if self._names is not None:
            self._names[reservation.id] = self._name(reservation.event_subtype, self._count)
        self._count += 1

    def _missing_units(self, units: float) -> float:
        """Return how many more units must be held so that `units` are left to use."""
        check_units(units)
        if self._ending is not None:
            raise RuntimeError("the hold has ended")
        return units - (self._held - self._used)

    def _is_held(self, result: CheckResult, units: float) -> bool:
        """Add what a further check holds, and tell whether `reserve` has succeeded."""
        late = self._accept_further_check(result, units)
        self._settle_without_waiting(late)
        return result.allowed and not late


def check_units(units: object) -> None:
    """Require a finite number of event units of 0 or more."""
    if isinstance(units, bool) or not isinstance(units, (int, float)):
        raise TypeError(f"units must be a number, got {shown(units)}")
    if not is_usage(units):
        raise ValueError(f"units must be finite and 0 or more, got {shown(units)}")


def _check_ttl(ttl: object) -> None:
    if isinstance(ttl, bool) or not isinstance(ttl, (int, float)):
        raise TypeError(f"ttl must be a number of seconds, got {shown(ttl)}")
    if not (is_usage(ttl) and ttl > 0):
        raise ValueError(f"ttl must be a positive number of seconds, got {shown(ttl)}")
