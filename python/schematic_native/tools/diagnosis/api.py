"""Whether the service can be reached, takes the API key, and has the right time."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import Any

from schematic_native.tools.diagnosis.finding import Finding, clock

TIMEOUT = 5.0  # seconds


async def examine_api(base_url: str, api_key: str | None) -> list[Finding]:
    """Make a request that needs the key."""
    import httpx  # noqa: PLC0415 - the doctor checks whether it can be loaded

    if api_key and not (api_key.isascii() and api_key.isprintable()):
        detail = "the API key must be printable ASCII, as it is sent in a header"
        return [Finding("API", False, detail, "copy the key again: something else came along")]
    headers = {"X-Schematic-Api-Key": api_key} if api_key else {}
    url = f"{base_url.rstrip('/')}/flags/check"
    begun = time.time()
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT) as client:
            begun = time.time()
            response = await client.post(url, headers=headers, json={})
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return [_unreachable(base_url, error)]
    return [_judge(base_url, api_key, response), _clock(response, begun, time.time())]


def _unreachable(base_url: str, error: Exception) -> Finding:
    detail = f"{base_url} cannot be reached: {type(error).__name__}: {error}"
    if "CERTIFICATE_VERIFY_FAILED" in detail:
        remedy = "set SSL_CERT_FILE to the certificate of the authority that signed the server's"
    else:
        remedy = "check the URL, the name server, the firewall, and HTTPS_PROXY and NO_PROXY"
    return Finding("API", False, detail, remedy)


def _judge(base_url: str, api_key: str | None, response: Any) -> Finding:
    status = response.status_code
    detail = f"{base_url} answers HTTP {status}"
    if status not in {401, 403}:
        remedy = "check that the URL is the API's; beyond 500, try again later"
        return Finding("API", response.is_success, detail, remedy)
    if api_key:
        remedy = "use a secret key of this environment, and not a publishable one"
        return Finding("API", False, f"{detail}: the API key was refused", remedy)
    reason = "no API key was given (--api-key, SCHEMATIC_API_KEY)"
    return Finding("API", False, f"{detail}: {reason}", "pass one")


def _clock(response: Any, begun: float, ended: float) -> Finding:
    """Compare the service's clock with this machine's, if the response has a date."""
    try:
        there = parsedate_to_datetime(response.headers["date"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return Finding("clock of the service", True, "unknown, as the response has no date")
    # The date is cut off to whole seconds.
    return clock("the service", there + 0.5 - (begun + ended) / 2, 0.5 + (ended - begun) / 2)
