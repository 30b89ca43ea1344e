"""Ports for servers that must know theirs before they listen; a server that can take port 0 takes that.

A port that is given out is never given out again, to any process of the machine, until the process
that asked for it ends.
"""

from __future__ import annotations

import random
import socket

# Below what the systems give to connections and to port 0 (Linux from 32768, others from 49152):
# there a port could be taken between its choice and the start of its server, or while that restarts.
_FIRST, _LAST = 20000, 32000
_LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """Claim a port that nothing listens at."""
    chance = random.SystemRandom()
    while True:
        port = chance.randint(_FIRST, _LAST)
        if _claim(port) and _is_unused(port):
            return port


def _claim(port: int) -> bool:
    """Take the port among the claims of all processes: each is a socket of UDP, which nothing else uses."""
    claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        claim.bind((_LOOPBACK, port))
    except OSError:
        claim.close()
        return False
    claim.detach()  # it stays open until the process ends
    return True


def _is_unused(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((_LOOPBACK, port))
        except OSError:
            return False
    return True
