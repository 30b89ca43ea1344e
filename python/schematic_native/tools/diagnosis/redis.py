"""Whether Redis can be reached, does the commands that leases need, and has the right time.

Only keys of its own are written, below the prefix, and deleted at once.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any

from schematic_native.tools.diagnosis.finding import Finding, clock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TIMEOUT = 5.0  # seconds
# Milliseconds after which the keys are gone, should the doctor be interrupted.
KEPT = 10_000


async def examine_redis(url: str, prefix: str) -> list[Finding]:
    """Ask a server for its version, its clock and each of the commands."""
    import redis.asyncio  # noqa: PLC0415 - the doctor checks whether it can be loaded
    from redis.exceptions import RedisError  # noqa: PLC0415

    try:
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT
        )
    except ValueError:
        # Neither the URL nor the error is shown: a password may be in both.
        detail = "--redis-url is no Redis URL, for example redis://localhost:6379"
        return [Finding("Redis", False, detail, "rediss:// is for TLS; quote what a shell reads")]
    try:
        return [finding async for finding in _examine(client, prefix)]
    except (RedisError, OSError, OverflowError, ValueError) as error:
        return [_unreachable(error)]
    finally:
        await client.aclose()


def _unreachable(error: Exception) -> Finding:
    remedy = "check host, port, firewall and TLS (rediss://); credentials go into the URL: redis://user:password@host"
    return Finding("Redis", False, f"cannot be reached: {error}", remedy)


async def _examine(client: Any, prefix: str) -> Any:
    refusals = await _refusals(client, prefix)
    yield Finding("Redis", True, await _version(client))
    yield _commands(refusals, prefix)
    if "TIME" not in refusals:
        yield await _clock(client)


async def _version(client: Any) -> str:
    from redis.exceptions import ResponseError  # noqa: PLC0415

    try:
        server = await client.info("server")
    except ResponseError:  # leases do not need it
        return "does not say its version (no right to INFO)"
    return f"version {server['redis_version']}"


def _commands(refusals: dict[str, str], prefix: str) -> Finding:
    from schematic_native.redis.rights import COMMANDS, acl_rule  # noqa: PLC0415

    name = "commands of leases"
    if not refusals:
        return Finding(name, True, f"all {len(COMMANDS)} are allowed on {prefix}*")
    first = next(iter(refusals.values()))
    detail = f"refused: {', '.join(refusals)} ({first})"
    return Finding(
        name, False, detail, f"on the server, with a password of yours: {acl_rule(prefix)}"
    )


async def _refusals(client: Any, prefix: str) -> dict[str, str]:
    """Send each of the commands once; returns those that are refused, and why."""
    from redis.exceptions import NoScriptError, ResponseError  # noqa: PLC0415

    refusals: dict[str, str] = {}
    for words in _trials(prefix):
        try:
            await client.execute_command(*words)
        except NoScriptError:
            continue  # it was allowed to look
        except ResponseError as error:
            refusals.setdefault(str(words[0]), str(error))
    return refusals


def _trials(prefix: str) -> Iterator[Sequence[str | int]]:
    """Yield every command of leases, on keys that the last ones delete."""
    row, index = (
        f"{prefix}credit-{kind}:doctor-{secrets.token_hex(8)}"
        for kind in ("reservation", "reservations")
    )
    yield ("TIME",)
    yield "HSET", row, "a", "1"
    yield "PEXPIREAT", row, round(time.time() * 1000) + KEPT
    yield "HSETNX", row, "b", "2"
    yield "HGET", row, "a"
    yield "HMGET", row, "a", "b"
    yield "HGETALL", row
    yield "HKEYS", row
    yield "HVALS", row
    yield "HDEL", row, "b"
    yield "EXISTS", row
    yield "ZADD", index, "NX", 0, "a"
    yield "PEXPIREAT", index, round(time.time() * 1000) + KEPT
    yield "ZRANGEBYSCORE", index, "-inf", 0
    yield "ZREM", index, "a"
    yield "EVAL", "return redis.call('HGET', KEYS[1], 'a')", 1, row
    yield "EVALSHA", "0" * 40, 1, row
    yield "DEL", row
    yield "DEL", index


async def _clock(client: Any) -> Finding:
    begun = time.time()
    seconds, microseconds = await client.time()
    ended = time.time()
    there = seconds + microseconds / 1e6
    return clock("Redis", there - (begun + ended) / 2, (ended - begun) / 2)
