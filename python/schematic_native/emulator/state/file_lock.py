"""A lock on an open file: as long as this process holds it, no other process can take it."""

from __future__ import annotations

import sys

if sys.platform == "win32":
    import msvcrt
    import os

    # Windows locks bytes, and then no other process may touch them: one far behind the end will do.
    _PLACE = 1 << 40

    def lock(descriptor: int) -> None:
        """Take the lock of an open file; OSError at once if another process has it."""
        os.lseek(descriptor, _PLACE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def lock(descriptor: int) -> None:
        """Take the lock of an open file; OSError at once if another process has it."""
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
