"""The disk of one machine: spools of pods in real files, and what of them is on its medium.

A process that is killed leaves its files as they are. When the power fails, what was synced is there, and of the
rest, sector by sector, either what was written or what was there before.
"""

from __future__ import annotations

import errno
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schematic_native import _testing
from schematic_native.ground import json_text

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from schematic_native._native import Core
    from tests.simulation.world import World

# In memory, where the system has such a directory.
_MEMORY = Path("/dev/shm")  # noqa: S108 - a directory of a name that nobody has is made in it
SECTOR = 512
# Seconds after a refusal in which no file is asked for.
RETRY = 1.0
MAGIC = b"\xffSP\xff"
# Where in a record its mark begins, and where its payload; nothing tells of what is flipped in between 12 and 16.
MARK, MARK_END, HEAD, STEP = 12, 16, 24, 8
DONE = 0x5A
_KEY = re.compile(rb'"lease-reservation:([^"]+)"')


class Disk:
    """A directory for spools.

    Args:
        world: its clock.
        draw: decides what a failure of the power leaves, and which bit flips.

    """

    def __init__(self, world: World, draw: random.Random) -> None:
        self._world = world
        self._draw = draw
        self.root = Path(tempfile.mkdtemp(dir=_MEMORY if _MEMORY.is_dir() else None))
        self.is_full = False
        self.full_at = float("-inf")  # last
        # What befalls the files of the next process that dies.
        self.damages: list[str] = []
        # Whether a record was damaged in a way that somebody must be told of.
        self.is_damaged = False
        # Holds whose usage is not on the medium, though their process has ended.
        self.volatile: set[str] = set()
        self._medium: dict[str, bytearray] = {}
        self._names: set[str] = set()
        self._owners = 0

    def next_owner(self, name: str) -> str:
        """Return a name for the files of a process."""
        self._owners += 1
        return f"{name}-{self._owners:04}"

    def synced(self, path: Path, start: int, end: int) -> None:
        """Note what is on the medium."""
        content = path.read_bytes()
        medium = self._medium.setdefault(path.name, bytearray(len(content)))
        medium[start:end] = content[start:end]

    def synced_names(self, directory: Path) -> None:
        """Note which names are on the medium."""
        self._names = {path.name for path in directory.iterdir()}

    def now(self) -> float:
        return self._world.now

    # What goes wrong

    def bury(self, name: str) -> set[str]:
        """A process has died: do to its files what was to befall them; returns the holds whose usage that costs."""
        damages, self.damages = self.damages, []
        lost: set[str] = set()
        for damage in damages:
            paths = [path for path in self._segments() if path.name.startswith(f"{name}-")]
            if paths:
                path = self._draw.choice(paths)
                content = bytearray(path.read_bytes())
                lost |= self._tear(content) if damage == "torn" else self._flip(content)
                path.write_bytes(content)
        return lost

    def _tear(self, content: bytearray) -> set[str]:
        """Leave the beginning of a record that was being written."""
        start = -(-len(content.rstrip(b"\0")) // STEP) * STEP
        size = self._draw.randrange(HEAD, 200)
        if start + size <= len(content):
            content[start + 4 : start + size] = self._draw.randbytes(size - 4)
            self.is_damaged = True
        return set()

    def _flip(self, content: bytearray) -> set[str]:
        """Flip one bit of a record."""
        records = [*_records(content)]
        if not records:
            return set()
        start, end = self._draw.choice(records)
        at = self._draw.randrange(start, end)
        lost = {key.decode() for key in _KEY.findall(content, start, end)}
        content[at] ^= 1 << self._draw.randrange(8)
        if MARK <= at - start < MARK_END:
            return set()
        self.is_damaged = True
        return lost

    def lose_power(self) -> set[str]:
        """Come back with what is on the medium, and some of what is not; nobody uses the disk now.

        Returns the holds whose usage that may cost.
        """
        for directory in self._directories():
            current = {path.name: path for path in directory.iterdir()}
            for name in sorted(self._names - current.keys()):
                # It was deleted, and the medium may not have heard of that.
                if name in self._medium and self._draw.random() < 0.5:
                    (directory / name).write_bytes(self._medium[name])
            for name, path in sorted(current.items()):
                self._lose_power_of(name, path)
        # What was damaged may be gone.
        self.is_damaged = False
        lost, self.volatile = self.volatile, set()
        return lost

    def _lose_power_of(self, name: str, path: Path) -> None:
        if name.endswith(".lock"):
            if name not in self._names and self._draw.random() < 0.5:
                path.unlink()
        elif name.endswith(".v1"):
            if name not in self._names and self._draw.random() < 0.5:
                path.unlink()
            else:
                path.write_bytes(self._mixed(path.read_bytes(), self._medium.get(name)))

    def _mixed(self, written: bytes, medium: bytearray | None) -> bytes:
        if medium is None:
            # Nothing of it was ever synced, not even its length.
            length = self._draw.choice((0, SECTOR * 8, len(written)))
            written, medium = written[:length], bytearray(length)
        mixed = bytearray(medium)
        for at in range(0, len(mixed), SECTOR):
            if self._draw.random() < 0.5:
                mixed[at : at + SECTOR] = written[at : at + SECTOR]
        return bytes(mixed)

    # In the end

    def _directories(self) -> list[Path]:
        return [path for path in self.root.iterdir() if path.is_dir()]

    def _segments(self) -> list[Path]:
        return sorted(self.root.rglob("*.v1"))

    def left(self) -> list[str]:
        """Return the names of segments that are still there."""
        return [path.name for path in self._segments()]

    def parked(self) -> Iterator[dict[str, Any]]:
        """Yield the events that were too old to be sent."""
        for path in sorted(self.root.rglob("*.parked.jsonl")):
            for line in path.read_bytes().splitlines():
                yield json_text.read(line)["event"]

    @property
    def has_told(self) -> bool:
        """Whether damaged bytes were put aside for somebody to look at."""
        return any(self.root.rglob("*.damaged"))

    def close(self) -> None:
        """Remove it."""
        shutil.rmtree(self.root, ignore_errors=True)


def _records(content: bytearray) -> Iterator[tuple[int, int]]:
    """Yield where each record that is not delivered begins, and where its payload ends."""
    at = content.find(MAGIC)
    while at >= 0:
        end = at + HEAD + int.from_bytes(content[at + 8 : at + 12], "little")
        if content[at + MARK] != DONE and end <= len(content):
            yield at, end
        at = content.find(MAGIC, at + 1)


class DiskView:
    """A disk as one process sees it: what `_testing.Disk` asks for.

    Args:
        disk: the disk.
        name: of the process.

    """

    def __init__(self, disk: Disk, name: str) -> None:
        self._disk = disk
        self._name = name

    def create(self, _path: Path) -> None:
        if self._disk.is_full:
            self._disk.full_at = self._disk.now()
            raise OSError(errno.ENOSPC, "No space left on device")

    def synced(self, path: Path, start: int, end: int) -> None:
        self._disk.synced(path, start, end)

    def synced_names(self, directory: Path) -> None:
        self._disk.synced_names(directory)

    def now(self) -> float:
        return self._disk.now()

    def new_owner(self) -> str:
        return self._disk.next_owner(self._name)


class PodSpool:
    """The spool of one process of a pod, and what it has promised to keep.

    Args:
        disk: where it is.
        name: of the process.
        fsync: as it is configured.

    """

    def __init__(self, disk: Disk, name: str, fsync: float | str) -> None:
        self.disk = disk
        self.fsync = fsync
        self.period = fsync if isinstance(fsync, float) else 1.0
        self._name = name
        self._syncs = 0
        # Holds whose settle has returned, and how often all was synced before.
        self._kept: dict[str, int] = {}

    def prepare(self) -> None:
        """Have the next client that is made use it."""
        _testing.simulate_disk(DiskView(self.disk, self._name))

    def tend(self, core: Core) -> None:
        """Do what its thread does in production."""
        _testing.tend_spool(core)
        self._syncs += 1

    def keep(self, hold_id: str) -> None:
        """Note that the settle of a hold has returned, and was not refused by the spool."""
        self._kept[hold_id] = self._syncs

    def die(self, core: Core, settled: set[str]) -> set[str]:
        """End with the process, and return which of the holds that it has settled need not be billed."""
        _testing.abandon_spool(core)
        damaged = self.disk.bury(self._name)
        self.disk.volatile |= {each for each in self._kept if not self._is_synced(each)}
        return (settled - self._kept.keys()) | damaged

    def close(self, settled: set[str], has_room: bool) -> set[str]:
        """End in order, with all on the medium; return what need not be billed.

        What was refused before is kept then, if it has room.
        """
        if self.fsync == "never":
            self.disk.volatile |= settled
        if has_room and self.disk.now() - self.disk.full_at > RETRY:
            return set()
        return settled - self._kept.keys()

    def _is_synced(self, hold_id: str) -> bool:
        if self.fsync == "never":
            return False
        return self.fsync == "always" or self._kept[hold_id] < self._syncs
