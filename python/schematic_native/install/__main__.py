"""`python -m schematic_native.install program.py [args]`: runs an unchanged program with our clients.

The program runs as it would under `python program.py`.
"""

from __future__ import annotations

import os
import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path

from schematic_native.install import install
from schematic_native.install.child import PROGRAM, execute

USAGE = "usage: python -m schematic_native.install program.py [args]"


def main(arguments: list[str]) -> None:
    """Run a program as Python would, after `install()`."""
    if not arguments or arguments[0].startswith("-"):
        is_asked = arguments[:1] in (["-h"], ["--help"])
        print(USAGE, file=sys.stdout if is_asked else sys.stderr)
        sys.exit(0 if is_asked else 2)
    program = Path(arguments[0])
    if not program.is_file():
        sys.exit(f"schematic_native.install: no file {arguments[0]!r}")
    install()
    sys.argv[:] = arguments
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = str(program.resolve().parent)
    os.environ[PROGRAM] = str(program.absolute())
    module = types.ModuleType("__main__")
    # A process that it spawns runs that module, which runs the program.
    module.__spec__ = ModuleSpec("schematic_native.install.child", None)
    sys.modules["__main__"] = module
    execute(arguments[0], vars(module))


if __name__ == "__main__":
    main(sys.argv[1:])
