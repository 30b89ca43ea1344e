"""The feed of the dashboard: sent when something has changed, and ended with its page."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from schematic_native.emulator.app import App
from schematic_native.emulator.clock import Clock
from schematic_native.emulator.dashboard.feed import Feed, version
from schematic_native.emulator.seed import load_seed
from schematic_native.emulator.state.service import Service

if TYPE_CHECKING:
    from schematic_native.emulator.components import Components

LIMIT = 20


class OpenPage:
    """One page that follows the feed, as the server sees it."""

    def __init__(self, components: Components) -> None:
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.closed = asyncio.Event()
        self.task = asyncio.ensure_future(Feed(components, {})({}, self.receive, self.sent.put))

    async def receive(self) -> dict[str, Any]:
        await self.closed.wait()
        return {"type": "http.disconnect"}

    async def next(self) -> str:
        message = await asyncio.wait_for(self.sent.get(), LIMIT)
        return json.loads(message["body"].removeprefix(b"data: "))


def components() -> Components:
    return App(Service(load_seed(None), Clock())).components


async def test_each_change_is_sent_once_and_the_feed_ends_with_the_page() -> None:
    parts = components()
    page = OpenPage(parts)
    start = await asyncio.wait_for(page.sent.get(), LIMIT)
    assert start["status"] == 200
    assert (b"content-type", b"text/event-stream") in start["headers"]
    assert "No lease and no reservation is open." in await page.next()
    parts.service.acquire("comp_acme", "credit_inference", 10, parts.service.clock.now() + 60)
    assert "Lease " in await page.next()
    parts.service.delete("flag", "flag_beta")
    assert "flag_beta" not in await page.next()
    page.closed.set()
    await asyncio.wait_for(page.task, LIMIT)
    assert page.sent.empty()


async def test_a_server_that_stops_ends_the_feed_without_a_fault() -> None:
    page = OpenPage(components())
    await asyncio.wait_for(page.sent.get(), LIMIT)
    page.task.cancel()
    await asyncio.wait_for(page.task, LIMIT)


async def test_everything_that_the_page_shows_changes_its_version() -> None:
    parts = components()
    service = parts.service
    seen = [version(parts)]
    body = json.dumps({"events": [{"type": "flag_check", "body": {}}]}).encode()
    flag = service.directory.flags["flag_beta"]
    for change in (
        lambda: service.capture(body, json.loads(body)["events"]),
        lambda: service.set_balance("comp_few", "credit_inference", 3),
        lambda: service.set_flag(dict(flag)),
        lambda: service.advance(1),
        service.freeze_clock,
        lambda: parts.injector.faults.add({"kind": "delay"}),
        lambda: parts.injector.faults.strike("check"),
        lambda: parts.traffic.unknown.update(["GET /nothing"]),
        service.reset,
    ):
        change()
        seen.append(version(parts))
        assert seen[-1] != seen[-2]
    assert version(parts) == seen[-1]
