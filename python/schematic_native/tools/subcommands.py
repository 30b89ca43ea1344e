"""`schematic-native <subcommand>`: finds the module of a subcommand and runs it.

A flag belongs to the `add_arguments` of its subcommand's module, never to this one. To add a flag, add it
there, and to the page of docs/ about the subcommand; to add a subcommand, add its module to SUBCOMMANDS.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from schematic_native import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence


class Subcommand(NamedTuple):
    """One subcommand: a summary, and its module."""

    summary: str
    module: str


SUBCOMMANDS: dict[str, Subcommand] = {
    "emulator": Subcommand(
        "run the emulated service on a local port", "schematic_native.emulator.command"
    ),
    "demo": Subcommand(
        "check, work and settle on the emulator, and audit the ledger",
        "schematic_native.tools.demo",
    ),
    "bench": Subcommand(
        "measure a check and a settle, beside the published SDK if it is installed",
        "schematic_native.tools.bench.command",
    ),
    "doctor": Subcommand(
        "show what is installed and what can be reached", "schematic_native.tools.doctor"
    ),
}


class _Module(Protocol):
    """What the module of a subcommand has."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the subcommand's arguments."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Run the subcommand and return the exit status."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; return its exit status, which is 0 only on success."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="schematic-native")
    parser.add_argument("--version", action="version", version=f"schematic-native {__version__}")
    choices = parser.add_subparsers(dest="subcommand", metavar="subcommand", required=True)
    chosen = next((word for word in given if not word.startswith("-")), None)
    module: _Module | None = None
    for name, subcommand in SUBCOMMANDS.items():
        subparser = choices.add_parser(
            name, help=subcommand.summary, description=subcommand.summary
        )
        if name == chosen:
            # The other modules are not imported, as they may need extras that are not installed.
            try:
                module = cast("_Module", importlib.import_module(subcommand.module))
            except ModuleNotFoundError as error:
                print(f"schematic-native {name}: {error}", file=sys.stderr)
                return 1
            module.add_arguments(subparser)
    parsed = parser.parse_args(given)
    return 2 if module is None else module.run(parsed)


if __name__ == "__main__":
    sys.exit(main())
