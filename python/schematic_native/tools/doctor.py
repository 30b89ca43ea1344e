"""`schematic-native doctor`: shows what is installed, and what can be reached.

Neither an API key nor a password is ever printed. A new check goes into a function that returns a `Finding`.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING

from schematic_native import __build__, __version__
from schematic_native.config.defaults import BASE_URL

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

TIMEOUT = 5.0  # seconds
DEPENDENCIES = ("httpx", "redis", "websockets", "starlette", "uvicorn", "schematichq")
# Packages that may be missing, and the extras that they come with.
OPTIONAL = {"starlette": "emulator", "uvicorn": "emulator", "schematichq": "management"}


@dataclass
class Finding:
    """The result of one check."""

    name: str
    ok: bool
    detail: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommand's arguments."""
    parser.add_argument(
        "--base-url", default=BASE_URL, help=f"the API to reach (default: {BASE_URL})"
    )
    parser.add_argument(
        "--redis-url", help="the Redis to reach, for example redis://localhost:6379"
    )
    parser.add_argument(
        "--api-key",
        default=os.environ.get("SCHEMATIC_API_KEY"),
        help="the key to try (default: the variable SCHEMATIC_API_KEY); it is never printed",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the findings; 0 only if nothing is wrong."""
    findings = [*_installed(), asyncio.run(_api(arguments.base_url, arguments.api_key))]
    if arguments.redis_url:
        findings.append(asyncio.run(_redis(arguments.redis_url)))
    for finding in findings:
        print(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name}: {finding.detail}")
    return 0 if all(finding.ok for finding in findings) else 1


def _installed() -> Iterator[Finding]:
    yield Finding(
        "schematic_native",
        True,
        f"{__version__}, Python {platform.python_version()}, {platform.platform()}",
    )
    yield _extension()
    for name in DEPENDENCIES:
        try:
            yield Finding(name, True, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            extra = OPTIONAL.get(name)
            hint = "not installed" if extra is None else f"not installed (extra `{extra}`)"
            yield Finding(name, extra is not None, hint)


def _extension() -> Finding:
    """Check a flag with the extension, which shows that it works and not only that it can be loaded."""
    from schematic_native import _native  # noqa: PLC0415 - this checks whether it can be loaded

    core = _native.Core(api_key="doctor")
    answer = core.check_flag("doctor")
    works = answer == "flag" and _native.__version__ == __version__
    detail = f"{__build__}, engine {_native.ENGINE_VERSION_KEY}"
    return Finding(
        "extension", works, detail if works else f"{detail}, but a check returned {answer!r}"
    )


async def _api(base_url: str, api_key: str | None) -> Finding:
    import httpx  # noqa: PLC0415 - this checks whether it can be loaded

    if api_key and not (api_key.isascii() and api_key.isprintable()):
        return Finding(
            "API", False, "the API key must be printable ASCII, as it is sent in a header"
        )
    headers = {"X-Schematic-Api-Key": api_key} if api_key else {}
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT) as client:
            response = await client.post(
                f"{base_url.rstrip('/')}/flags/check", headers=headers, json={}
            )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Finding(
            "API", False, f"{base_url} cannot be reached: {type(error).__name__}: {error}"
        )
    status = response.status_code
    if status in {401, 403}:
        accepted = (
            "the API key was refused"
            if api_key
            else "no API key was given (--api-key, SCHEMATIC_API_KEY)"
        )
        return Finding("API", False, f"{base_url} answers HTTP {status}: {accepted}")
    return Finding("API", response.is_success, f"{base_url} answers HTTP {status}")


async def _redis(url: str) -> Finding:
    import redis.asyncio  # noqa: PLC0415 - this checks whether it can be loaded
    from redis.exceptions import RedisError  # noqa: PLC0415

    try:
        client = redis.asyncio.Redis.from_url(
            url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT
        )
    except ValueError:
        # Neither the URL nor the error is shown: a password may be in both.
        return Finding(
            "Redis", False, "--redis-url is no Redis URL, for example redis://localhost:6379"
        )
    try:
        server = await client.info("server")
    except (RedisError, OSError, OverflowError, ValueError) as error:
        return Finding("Redis", False, f"cannot be reached: {error}")
    finally:
        await client.aclose()
    return Finding("Redis", True, f"version {server['redis_version']}")
