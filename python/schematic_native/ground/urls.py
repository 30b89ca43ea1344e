"""What a URL says about its host. Nothing here resolves a name."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import urlsplit


def is_loopback(url: str) -> bool:
    """Tell whether a URL names this machine, which is never reached through a proxy."""
    return _is_loopback(urlsplit(url).hostname or "")


@lru_cache(maxsize=64)
def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    import ipaddress  # noqa: PLC0415 - only loaded for URLs without a host name

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
