"""Hold the floors of the Rust crates: each module knows only those below it.

Two rules besides: no circle between the files of a folder, and every file opens with what it owns (`//!`) and has at
most 500 lines. The code of `#[cfg(test)]` modules is not looked at for arrows: a test may use what lies above.

`python -m scripts.rust_floors` prints what breaks a rule and fails if anything does.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

LONGEST_FILE = 500
# The modules of each crate, the lowest first: one may know those before it, and none after.
FLOORS: Mapping[str, Sequence[str]] = {
    "rust/core/src": (
        *("time", "hash", "name", "text"),
        *("engine", "wire", "leases", "cache", "events", "decider"),
    ),
    "rust/spool/src": (
        *(
            "record",
            "mapping",
            "lock",
            "directory",
            "rejects",
            "machine",
            "options",
            "ticket",
            "report",
            "signal",
        ),
        *("segment", "stock", "shared", "waiting", "adoption", "keeper", "spool"),
    ),
    "rust/python/src": (
        *("build", "clock", "fork", "interpreter", "python_call", "wake", "arguments"),
        *("defaults", "spool", "resp", "results", "engine", "exchange", "events", "leases", "core"),
        *("memory", "testing"),
    ),
}
# What is its folder's own, rather than one of the things in it.
FACES = ("mod", "lib")
TESTS = re.compile(r"#\[cfg\(test\)\]\s*mod \w+ \{.*", re.DOTALL)
COMMENT = re.compile(r"//.*")
USE = re.compile(r"\buse\s+([^;]+);")
REEXPORT = re.compile(r"\bpub(?:\([^)]*\))?\s+use\s+([^;]+);")
INLINE = re.compile(r"\b((?:crate|super)(?:::\w+)+)")
TOKEN = re.compile(r"\w+|[{},*]")

Module = tuple[str, ...]


class Arrow(NamedTuple):
    """One module names something of another, as the parts of both in the crate."""

    file: Path
    source: Module
    target: Module


def expand(tree: str) -> Iterator[Module]:
    """Yield every path of a `use` declaration: `a::{b, c::{d as e}}` is `a::b` and `a::c::d`."""
    prefixes: list[Module] = [()]
    path: Module = ()
    renamed = False
    for part in [*TOKEN.findall(tree), ","]:
        if part == "{":
            prefixes.append(path)
        elif part in {",", "}"}:
            if len(path) > len(prefixes[-1]):
                yield path
            if part == "}":
                prefixes.pop()
            # After a brace there is no path: what is in the brace stands for it.
            path = prefixes[-1] if part == "," else ()
            renamed = False
        elif part == "as":
            renamed = True
        elif not renamed:
            path = (*path, part)


class Crate:
    """The modules of one crate, and which names others."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.code: dict[Module, tuple[Path, str]] = {}
        for file in sorted(root.rglob("*.rs")):
            parts = file.relative_to(root).with_suffix("").parts
            module = parts[:-1] if parts[-1] in FACES else parts
            text = COMMENT.sub("", file.read_text(encoding="utf-8"))
            self.code[module] = file, TESTS.sub("", text)
        self.reexports = {module: self._reexports(module) for module in self.code}

    def _reexports(self, module: Module) -> dict[str, Module]:
        _, text = self.code[module]
        paths = [path for tree in REEXPORT.findall(text) for path in expand(tree)]
        return {path[-1]: (*module, *path[:-1]) for path in paths}

    def arrows(self) -> Iterator[Arrow]:
        """Yield every arrow from a module to one that it does not lie in."""
        for module, (file, text) in self.code.items():
            uses = [path for tree in USE.findall(text) for path in expand(tree)]
            inline = [tuple(path.split("::")) for path in INLINE.findall(USE.sub("", text))]
            for path in (*uses, *inline):
                target = self.resolve(module, path)
                if target is not None and module[: len(target)] != target:
                    yield Arrow(file, module, target)

    def resolve(self, module: Module, path: Module) -> Module | None:
        """Return the module that defines what a path names; None if that is in another crate."""
        if path[0] == "crate":
            return self._descend((), path[1:])
        if path[0] not in {"super", "self"}:
            return None
        ups = path.count("super")
        place = module[: len(module) - ups]
        return self._descend(place, tuple(part for part in path if part not in {"super", "self"}))

    def _descend(self, place: Module, rest: Module) -> Module:
        for at, name in enumerate(rest):
            if (*place, name) in self.code:
                place = (*place, name)
            elif (shown := self.reexports.get(place, {}).get(name)) and shown != place:
                return self._descend(shown, rest[at:])
            else:
                break
        return place


def upward(crate: Crate, floors: Sequence[str]) -> Iterator[str]:
    """Yield a line for each module without a floor, and for each arrow that does not run down."""
    level = {module: at for at, module in enumerate(floors)}
    for top in sorted({module[0] for module in crate.code if module} - set(level)):
        yield f"{crate.root / top}: has no floor: give it one in scripts/rust_floors.py"
    for file, source, target in crate.arrows():
        if not source or not target or source[0] == target[0]:
            continue
        if level.get(source[0], 0) <= level.get(target[0], 0):
            yield f"{file}: {source[0]} may not know {target[0]}, which lies above it"


def circles(crate: Crate) -> Iterator[str]:
    """Yield a line for each folder in which files know each other in a circle."""
    folders: dict[Module, dict[str, set[str]]] = {}
    for _, source, target in crate.arrows():
        depth = next(at for at, name in enumerate(target) if source[: at + 1] != target[: at + 1])
        if len(source) > depth:
            known = folders.setdefault(source[:depth], {})
            known.setdefault(source[depth], set()).add(target[depth])
    for folder, known in folders.items():
        circle = find_circle(known)
        if circle:
            yield f"{crate.root.joinpath(*folder)}: a circle: {' -> '.join(circle)}"


def find_circle(known: Mapping[str, set[str]]) -> list[str]:
    """Return names of which each knows the next and the last is the first; none if there is no circle."""
    done: set[str] = set()

    def follow(trail: list[str]) -> list[str]:
        for name in sorted(known.get(trail[-1], ())):
            if name in trail:
                return [*trail[trail.index(name) :], name]
            if name not in done and (circle := follow([*trail, name])):
                return circle
        done.add(trail[-1])
        return []

    return next(filter(None, (follow([name]) for name in sorted(known) if name not in done)), [])


def untidy(root: Path) -> Iterator[str]:
    """Yield a line for each Rust file that does not say what it owns, or is too long."""
    for file in sorted((root / "rust").rglob("*.rs")):
        lines = file.read_text(encoding="utf-8").splitlines()
        if not lines or not lines[0].startswith("//!"):
            yield f"{file}: must open with what it owns and must never do (//!)"
        if len(lines) > LONGEST_FILE:
            yield f"{file}: has {len(lines)} lines, of at most {LONGEST_FILE}"


def problems(root: Path, floors: Mapping[str, Sequence[str]] = FLOORS) -> list[str]:
    """Return what breaks a rule in a checkout, one line each."""
    found = list(untidy(root))
    for folder, order in floors.items():
        crate = Crate(root / folder)
        found += [*upward(crate, order), *circles(crate)]
    return list(dict.fromkeys(found))


if __name__ == "__main__":
    faults = problems(Path(__file__).parent.parent)
    print(*faults, sep="\n", end="\n" if faults else "")
    sys.exit(bool(faults))
