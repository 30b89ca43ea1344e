"""A pod's callers who ask for the flag that tells by which state it was decided."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schematic_native import AsyncSchematic, CheckFlagOptions, CheckFlagResult
from tests.simulation import worlds
from tests.simulation.freshness import BEHIND
from tests.simulation.network import HELD_UP

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from tests.simulation.simulation import Simulation
    from tests.simulation.world import Loop

# Seconds that calls may take longer than they were told: what ends a debit or a claim has 0.25 s at least.
SLACK = 0.3


class GateCaller:
    """What such a caller needs of a pod."""

    simulation: Simulation
    name: str
    client: AsyncSchematic
    loop: Loop
    thawed_at: float  # when it last stood still

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        raise NotImplementedError

    async def _timed(
        self, what: str, call: Callable[[], Coroutine[Any, Any, Any]], limit: float
    ) -> Any:
        raise NotImplementedError

    def ask_gate(
        self, company: int, timeout: float, look: Callable[[str | None], None] | None = None
    ) -> None:
        """Check the flag that tells by which state it was decided."""
        company_id, _ = self.simulation.slots[company % len(self.simulation.slots)]
        self._call(self._ask_gate(company_id, timeout, look))

    async def _ask_gate(
        self, company_id: str, timeout: float, look: Callable[[str | None], None] | None
    ) -> None:
        def check() -> Coroutine[Any, Any, CheckFlagResult]:
            options = CheckFlagOptions(timeout=timeout)
            return self.client.check_flag_with_entitlement(
                worlds.GATE, {"id": company_id}, options=options
            )

        simulation, begun = self.simulation, self.simulation.world.now
        result = await self._timed("check of a flag", check, timeout + SLACK)
        if result is None:
            return
        simulation.tell(
            lambda: f"{self.name}: gate: {result.rule_id} {result.reason} {result.error}"
        )
        if look is not None:
            look(result.rule_id)
            return
        is_answered = result.error is None or result.rule_id is not None
        seen = simulation.judge.seen
        seen["a check of a flag could not be decided"] += not is_answered
        waited = simulation.world.now - begun
        seen["a check of a flag waited for several reads"] += waited > 2 * HELD_UP
        stood_still = self.loop.is_frozen or self.thawed_at > begun - BEHIND
        if is_answered and not stood_still:
            end = simulation.world.now
            simulation.fail(
                lambda: simulation.freshness.answered(company_id, result.rule_id, begun, end)
            )
