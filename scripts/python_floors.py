"""Holds the floors of the Python package: who may import whom, and how large a module may grow.

`python -m scripts.python_floors [folder]` prints what breaks them and exits with 1 if anything does.
Each floor may import those below it; modules of one floor may import each other, but not in a circle.
Imports for type checkers count as well.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = "schematic_native"
MOST_LINES = 500
MOST_PARAMETERS = 6
# Signatures that users call: their parameters are the public API's.
PUBLIC = frozenset(
    {
        "client.asynchronous.check",
        "client.asynchronous.hold",
        "client.synchronous.hold",
        "emulator.emulator.fail",
        "integrations.litellm.calls.held",
    }
)
# From the top down. A name stands for the module or package below schematic_native.
FLOORS = (
    ("tools",),
    (
        "install",
        "integrations",
        "openfeature",
        "telemetry",
        "api",
        "webhooks",
        "pytest_plugin",
        PACKAGE,
        "rulesengine",
    ),
    ("client",),
    ("leases",),
    ("cache",),
    ("redis",),
    ("service",),
    ("config",),
    ("ground",),
    ("_native",),
)
# Stands beside the others: a service, which knows no client.
EMULATOR = "emulator"
EMULATOR_MAY_IMPORT = {EMULATOR, "ground", "rulesengine", "_native", PACKAGE}


class Module(NamedTuple):
    """A module by its dotted name without the package's, as parsed."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def room(self) -> str:
        """The part of the package that it lies in."""
        return self.name.partition(".")[0]


def read(folder: Path) -> list[Module]:
    """Read every module below the package's folder."""
    modules = []
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        modules.append(Module(name or PACKAGE, path, ast.parse(path.read_text(encoding="utf-8"))))
    return modules


def imports(module: Module, known: set[str]) -> Iterator[tuple[int, str]]:
    """Yield line and name of each import from the package, wherever in the module it stands."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            if name != PACKAGE and not name.startswith(f"{PACKAGE}."):
                continue
            inner = name.removeprefix(PACKAGE).lstrip(".")
            while inner and inner not in known and inner != "_native":
                inner = inner.rpartition(".")[0]
            yield node.lineno, inner or PACKAGE


def arrows_up(modules: list[Module]) -> Iterator[str]:
    """Tell of each import of a floor above."""
    height = {room: number for number, floor in enumerate(FLOORS) for room in floor}
    known = {module.name for module in modules}
    for module in modules:
        if module.room != EMULATOR and module.room not in height:
            yield f"{module.path}:1: {module.room} stands on no floor: add it to FLOORS"
            continue
        for line, name in imports(module, known):
            room = name.partition(".")[0]
            if module.room == EMULATOR:
                wrong = room not in EMULATOR_MAY_IMPORT
            elif room == EMULATOR:
                wrong = module.room not in FLOORS[0] + FLOORS[1]
            else:
                wrong = height[room] < height[module.room]
            if wrong:
                yield f"{module.path}:{line}: {module.name} must not import {name}, which stands above it"


def circles(modules: list[Module]) -> Iterator[str]:
    """Tell of modules that import each other in a circle, each circle once."""
    known = {module.name for module in modules}
    edges = {
        module.name: sorted({name for _, name in imports(module, known)} & known - {module.name})
        for module in modules
    }
    # A package's own __init__ gathers the names of its modules, which import each other directly.
    for name, found_here in edges.items():
        edges[name] = [to for to in found_here if not name.startswith(f"{to}.") and to != PACKAGE]
    found: set[frozenset[str]] = set()
    done: set[str] = set()

    def walk(name: str, way: list[str]) -> None:
        if name in way:
            found.add(frozenset(way[way.index(name) :]))
            return
        if name in done:
            return
        for to in edges.get(name, ()):
            walk(to, [*way, name])
        done.add(name)

    for name in edges:
        walk(name, [])
    for circle in sorted(map(sorted, found)):
        yield f"circle of imports: {', '.join(circle)}"


def sizes(modules: list[Module]) -> Iterator[str]:
    """Tell of modules that are too long or open without a word, and of long parameter lists."""
    for module in modules:
        lines = len(module.path.read_text(encoding="utf-8").splitlines())
        if lines > MOST_LINES:
            yield f"{module.path}: {lines} lines, at most {MOST_LINES} are allowed: split it by its nouns"
        if not ast.get_docstring(module.tree):
            yield f"{module.path}: opens without a docstring: say what the module owns"
        yield from _long_lists(module)


def _long_lists(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if f"{module.name}.{node.name}" in PUBLIC:
            continue
        count = len(node.args.posonlyargs) + len(node.args.args) + len(node.args.kwonlyargs)
        count -= bool(node.args.args) and node.args.args[0].arg in ("self", "cls")
        if count > MOST_PARAMETERS:
            yield (
                f"{module.path}:{node.lineno}: {node.name} takes {count} parameters,"
                f" at most {MOST_PARAMETERS} are allowed: pass an object"
            )


def check(folder: Path) -> list[str]:
    """Return what breaks the floors of the package in a folder."""
    modules = read(folder)
    return [*arrows_up(modules), *circles(modules), *sizes(modules)]


def main() -> int:
    """Print what breaks the floors; return the exit status."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else f"python/{PACKAGE}")
    found = check(folder)
    print("\n".join(found) if found else f"floors: {folder} is in order")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
