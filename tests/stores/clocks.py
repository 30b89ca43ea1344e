"""A clock for Redis servers that tests move: by it the servers tell what has expired."""

from __future__ import annotations

import mmap
import os
import struct
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(__file__).with_name("clock.c")


class ServerClock:
    """The instant at which servers are that are started under it. Needs Linux and a C compiler."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="schematic-native-clock-")
        self._library = Path(self._folder.name) / "clock.so"
        compiler = ["cc", "-shared", "-fPIC", "-O1", "-o", str(self._library), str(SOURCE)]
        subprocess.run(compiler, check=True)
        self._file = Path(self._folder.name) / "instant"
        self._file.write_bytes(bytes(8))
        with self._file.open("r+b") as file:
            self._instant = mmap.mmap(file.fileno(), 8)

    @contextmanager
    def rules(self) -> Iterator[None]:
        """Put the processes that are started within under this clock."""
        variables = {"LD_PRELOAD": str(self._library), "SERVER_CLOCK": str(self._file)}
        before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value

    def stand_at(self, milliseconds: int) -> None:
        """Stand still at an instant in epoch milliseconds."""
        self._instant[:] = struct.pack("=q", milliseconds)

    def run_freely(self) -> None:
        """Go as time goes."""
        self.stand_at(0)

    def remove(self) -> None:
        self._instant.close()
        self._folder.cleanup()
