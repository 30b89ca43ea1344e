"""What a URL says about its host. Nothing here resolves a name."""

from __future__ import annotations

from urllib.parse import urlsplit


def is_loopback(url: str) -> bool:
    """Tell whether a URL names this machine, which is never reached through a proxy."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    import ipaddress  # noqa: PLC0415 - only loaded for URLs without a host name

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
