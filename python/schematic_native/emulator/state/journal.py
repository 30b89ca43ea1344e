"""The write-ahead journal: every command the emulator obeyed, so that a killed one can go on.

One JSON object a line, written before the command is carried out and before anybody is answered. A
line goes to the system in one unbuffered write, so it survives `kill -9`; it is not forced to disk,
so it does not survive a power cut, which is not what an emulator is for. The half-written last line
of a killed process is cut off when the file is opened again: its command was never answered.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from schematic_native.emulator.state.file_lock import lock
from schematic_native.ground import json_text

_FORMAT = 1


class JournalError(ValueError):
    """The file is no journal of this seed."""


class Journal:
    """An append-only file of commands."""

    def __init__(self, path: str | os.PathLike[str], seed_digest: str) -> None:
        """Open or create the file.

        Raises:
            JournalError: The file was written by something else or for another seed.
            OSError: The file cannot be opened.

        """
        self.path = Path(path)
        self.path.touch(mode=0o600, exist_ok=True)
        whole, self.commands = _read(self.path, seed_digest)
        flags = os.O_WRONLY | os.O_APPEND
        # Not inherited where there are forks, bytes as they are where there is text mode.
        flags |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        self._descriptor = os.open(self.path, flags)
        try:
            lock(self._descriptor)
        except OSError as error:
            self.close()
            raise JournalError(f"{self.path} is in use by another emulator") from error
        os.ftruncate(self._descriptor, whole)
        if not whole:
            self._write(json_text.write({"format": _FORMAT, "seed": seed_digest}))

    def append(self, command: dict[str, Any]) -> None:
        """Write one command."""
        self._write(json_text.write(command))

    def append_batch(self, at: float, body: bytes) -> None:
        """Write one captured batch as it came, without serialising it again."""
        if b"\n" in body or b"\r" in body:
            body = json_text.write(json_text.read(body))
        self._write(b'{"do":"capture","at":%b,"body":%b}' % (json_text.write(at), body))

    def _write(self, line: bytes) -> None:
        rest = memoryview(line + b"\n")
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _read(path: Path, seed_digest: str) -> tuple[int, list[dict[str, Any]]]:
    """Return the length of the whole lines, and the commands in them."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    lines = content[:whole].splitlines()
    if not lines:
        return 0, []
    try:
        header, *commands = [json_text.read(line) for line in lines]
    except json_text.NotJSONError as error:
        raise JournalError(f"{path} is not a journal of the emulator: {error}") from error
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise JournalError(f"{path} is not a journal of the emulator, or of another version")
    if header.get("seed") != seed_digest:
        raise JournalError(f"{path} was written for another seed; remove it or use that seed")
    return whole, commands
