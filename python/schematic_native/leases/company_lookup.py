"""Finding the id of a company that is named by other keys, for a prewarm.

It asks the cache and the DataStream, never the REST API.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from schematic_native._native import Core

    RequestCompany = Callable[[Mapping[str, str], float], Awaitable[bool]]

# Seconds between two requests.
PREWARM_POLL_INTERVAL = 0.1
COMPANY_ID_PREFIX = "comp_"


class CompanyLookup:
    """Resolves the keys of companies.

    Args:
        core: the companies in memory.
        request_company: asks the DataStream for a company by keys until a deadline; None without
            DataStream.
        timeout: seconds that a lookup may take.

    """

    def __init__(self, core: Core, request_company: RequestCompany | None, timeout: float) -> None:
        self._core = core
        self._request_company = request_company
        self._timeout = timeout
        self.is_closing = False

    async def find(self, company: Mapping[str, str], until: float | None) -> str | None:
        """Return a company's id: from the cache, the DataStream, or among the keys themselves."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        if until is not None:
            deadline = min(deadline, until)
        while (found := self._core.company_id(company)) is None:
            if self._request_company is None or loop.time() >= deadline or self.is_closing:
                break
            if not await self._request_company(company, deadline):
                # The stream may still be connecting, or the company may be about to be created.
                left = max(0.0, deadline - loop.time())
                await asyncio.sleep(min(PREWARM_POLL_INTERVAL, left))
        if found is not None:
            return found
        return next((v for v in company.values() if v.startswith(COMPANY_ID_PREFIX)), None)
