"""Runs the program again in a process that it spawns: `multiprocessing` runs this module there.

Nothing but `__main__.py` and such a process imports it.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

from schematic_native.install import install

# The environment variable that names the program.
PROGRAM = "SCHEMATIC_NATIVE_PROGRAM"


def execute(path: str, names: dict[str, object]) -> None:
    """Run a file with these globals."""
    names["__file__"] = path
    with io.open_code(str(Path(path).absolute())) as file:
        code = compile(file.read(), path, "exec")
    exec(code, names)  # noqa: S102 - that is what the user has asked for


if __name__ in ("__main__", "__mp_main__"):
    install()
    execute(os.environ[PROGRAM], globals())
