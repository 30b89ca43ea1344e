"""A plugin of proxy.py that finds one host on this machine: the service's, whose name nobody else can resolve."""

from __future__ import annotations

import os

from proxy.http.proxy import HttpProxyBasePlugin


class ToThisMachine(HttpProxyBasePlugin):
    """Sends connections to the host of PROXIED_HOST to this machine."""

    def resolve_dns(self, host, port):
        return ("127.0.0.1" if host == os.environ["PROXIED_HOST"] else None), None
