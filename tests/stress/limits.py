"""How large, long, late or many things of the run may be."""

from __future__ import annotations

LEASE_SIZE = 200.0  # credits: small, so that leases run low and dry all the time
LEASE_DURATION = 3.0  # seconds: short, so that leases expire while they are in use
RESERVATION_TTL = 1.0
# The emulator's clock may run ahead of the clients' by this many seconds: its leases then end while
# the clients still reserve from them, yet a new lease can still be had.
MOST_AHEAD = 1.5
TIMEOUT = 1.0
# A worker holds back while this many events wait to be sent.
MOST_QUEUED = 2000
# Seconds by which a call may overrun its timeout on a machine that is busy with other things.
SLACK = 2.0
# Amounts are doubles in the clients' count and exact in the ledger.
DUST = 1e-6
