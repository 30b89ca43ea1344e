"""The commands that leases in Redis need, and the ACL rule that allows them and nothing else.

A command that a script or an operation begins to use goes into one of the lists below; docs/redis.md shows the rule.
"""

from __future__ import annotations

# Those that a store sends, and those that its scripts call: a user needs the right to both.
SENT = (
    "DEL", "EVAL", "EVALSHA", "HDEL", "HKEYS", "HMGET", "HSETNX", "HVALS", "ZADD", "ZRANGEBYSCORE", "ZREM",
)  # fmt: skip
CALLED = (
    "DEL", "EXISTS", "HDEL", "HGET", "HGETALL", "HMGET", "HSET", "HSETNX", "PEXPIREAT", "TIME", "ZADD",
    "ZRANGEBYSCORE", "ZREM",
)  # fmt: skip
COMMANDS = tuple(sorted({*SENT, *CALLED}))
# What a connection of redis-py begins with: only to choose a database and to look whether it is open.
CONNECTING = ("PING", "SELECT")


def acl_rule(prefix: str, user: str = "schematic") -> str:
    """Return the command that gives a user what leases need."""
    allowed = " ".join(f"+{name.lower()}" for name in (*COMMANDS, *CONNECTING))
    return f"ACL SETUSER {user} on >PASSWORD resetkeys ~{prefix}* resetchannels -@all {allowed}"
