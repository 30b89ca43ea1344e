"""Every default and every limit of the configuration, each in this one place.

Those that the core counts with come from the core. To change one, change it here or there; the tables in
README.md and docs/ repeat some of them, and tests/config/test_defaults.py says which are out of date.
"""

from schematic_native._native import (
    LARGEST_LEASE,
    LEASE_DURATION,
    LEASE_SIZE,
    LONGEST_TERM,
    LOW_WATER_MARK,
    RESERVATION_TTL,
)

__all__ = [
    "BASE_URL",
    "CACHE_TTL",
    "EVENT_BUFFER_PERIOD",
    "EVENT_CAPTURE_URL",
    "INITIAL_WAIT",
    "LARGEST_LEASE",
    "LARGEST_SPOOL",
    "LEASE_DURATION",
    "LEASE_SIZE",
    "LONGEST_FSYNC",
    "LONGEST_HOLD",
    "LONGEST_LEASE",
    "LONGEST_TERM",
    "LOW_WATER_MARK",
    "MAX_EVENT_REQUESTS",
    "MAX_MESSAGE_SIZE",
    "MOST_EVENT_REQUESTS",
    "PREWARM_RESOLVE_TIMEOUT",
    "REDIS_KEY_PREFIX",
    "REPLICATOR_HEALTH_CHECK",
    "REPLICATOR_HEALTH_URL",
    "REQUEST_TIMEOUT",
    "RESERVATION_TTL",
    "SHORTEST_INTERVAL",
    "SHUTDOWN_BUDGET",
    "SLAB_LIFETIME",
    "SMALLEST_SLAB",
    "SMALLEST_SPOOL",
    "SPOOL_BYTES",
    "SPOOL_FSYNC",
    "SWEEP_INTERVAL",
]

# Requests. Times are in seconds, here and below, unless the comment names another unit.
BASE_URL = "https://api.schematichq.com"
EVENT_CAPTURE_URL = "https://c.schematichq.com"
REQUEST_TIMEOUT = 60.0
EVENT_BUFFER_PERIOD = 5.0
MAX_EVENT_REQUESTS = 64
MOST_EVENT_REQUESTS = 1000

# The spool: seconds between two syncs, and bytes.
SPOOL_FSYNC = 1.0
LONGEST_FSYNC = 3600.0
SPOOL_BYTES = 64 * 1024 * 1024
SMALLEST_SPOOL = 128 * 1024
LARGEST_SPOOL = 2**63 - 1

# The shortest pause between two rounds of what runs again and again: without one, the event loop would do nothing else.
SHORTEST_INTERVAL = 0.001

# The life of a client: the longest that its first use waits for the DataStream, and that its shutdown takes.
INITIAL_WAIT = 5.0
SHUTDOWN_BUDGET = 5.0

# DataStream, shared caches and replicator.
MAX_MESSAGE_SIZE = 100 * 1024 * 1024
CACHE_TTL = 24 * 3600 * 1000  # milliseconds that entities stay in a shared cache
REPLICATOR_HEALTH_URL = "http://localhost:8090/ready"
REPLICATOR_HEALTH_CHECK = 30_000.0  # milliseconds

# Leases.
SWEEP_INTERVAL = 1.0
PREWARM_RESOLVE_TIMEOUT = 5.0
REDIS_KEY_PREFIX = "schematic:"
SMALLEST_SLAB = 100.0  # credits
SLAB_LIFETIME = 10.0
# The server's own limit.
LONGEST_LEASE = 3600.0
# A reservation on the server must expire before that limit even if the two clocks differ by a minute.
LONGEST_HOLD = LONGEST_LEASE - 60.0
