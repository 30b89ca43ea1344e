"""Listeners to the events of providers."""

from __future__ import annotations

import queue
from typing import Any

from openfeature.event import EventDetails, ProviderEvent

from tests.conftest import PATIENCE


class Events:
    """Handlers of all events, and what they were told."""

    def __init__(self, source: Any) -> None:
        self.told: queue.Queue[tuple[ProviderEvent, EventDetails]] = queue.Queue()
        for event in ProviderEvent:
            source.add_handler(event, self.handler(event))

    def handler(self, event: ProviderEvent) -> Any:
        return lambda details: self.told.put((event, details))

    def next(self) -> tuple[ProviderEvent, EventDetails]:
        return self.told.get(timeout=PATIENCE)
