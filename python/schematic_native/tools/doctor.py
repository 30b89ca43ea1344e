"""`schematic-native doctor`: shows what is installed, what can be reached, and what to do about what is wrong.

Neither an API key nor a password is ever printed. What is looked at is in `diagnosis`.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from schematic_native.config.defaults import BASE_URL, REDIS_KEY_PREFIX
from schematic_native.tools.diagnosis.api import examine_api
from schematic_native.tools.diagnosis.machine import examine_machine
from schematic_native.tools.diagnosis.redis import examine_redis

if TYPE_CHECKING:
    import argparse

    from schematic_native.tools.diagnosis.finding import Finding


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommand's arguments."""
    parser.add_argument(
        "--base-url", default=BASE_URL, help=f"the API to reach (default: {BASE_URL})"
    )
    parser.add_argument(
        "--redis-url", help="the Redis to reach, for example redis://localhost:6379"
    )
    parser.add_argument(
        "--redis-key-prefix",
        default=REDIS_KEY_PREFIX,
        help=f"what every key of leases there begins with (default: {REDIS_KEY_PREFIX})",
    )
    parser.add_argument(
        "--api-key",
        default=os.environ.get("SCHEMATIC_API_KEY"),
        help="the key to try (default: the variable SCHEMATIC_API_KEY); it is never printed",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the findings; 0 only if nothing is wrong."""
    findings = [
        *examine_machine(),
        *asyncio.run(examine_api(arguments.base_url, arguments.api_key)),
    ]
    if arguments.redis_url:
        findings += asyncio.run(examine_redis(arguments.redis_url, arguments.redis_key_prefix))
    for finding in findings:
        _show(finding)
    return 0 if all(finding.ok for finding in findings) else 1


def _show(finding: Finding) -> None:
    print(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name}: {finding.detail}")
    if not finding.ok and finding.remedy:
        print(f"      -> {finding.remedy}")
