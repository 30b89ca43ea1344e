"""What has changed and is not yet pushed: the credits, metric rows and fields of each entity.

It only collects. When and to whom something is pushed is for the DataStream endpoint to decide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

Entity = dict[str, Any]


class Change:
    """What has changed about one company or user since the last push."""

    __slots__ = ("credits", "fields", "rows")

    def __init__(self) -> None:
        self.credits: set[str] = set()
        self.rows: dict[int, Entity] = {}
        self.fields: Entity = {}


class Changes:
    """The changes of every company and user, by id; `listener` is told of each first one."""

    def __init__(self) -> None:
        self.listener: Callable[[], None] = _nobody
        self.count = 0  # how often something was changed; the dashboard looks at it
        self._by_id: dict[str, Change] = {}

    def of(self, entity_id: str) -> Change:
        """Return the change of one entity, to add to it."""
        self.count += 1
        change = self._by_id.get(entity_id)
        if change is None:
            change = self._by_id[entity_id] = Change()
            self.listener()
        return change

    def add_credit(self, company_id: str, credit: str) -> None:
        """Note that a company's balance of a credit type has changed."""
        self.of(company_id).credits.add(credit)

    def take(self) -> dict[str, Change]:
        """Return all changes since the last call, and forget them."""
        taken, self._by_id = self._by_id, {}
        return taken


def _nobody() -> None:
    """Stand in for a listener where nobody listens."""
