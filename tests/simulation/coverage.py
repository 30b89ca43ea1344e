"""What schedules have reached: where pods died, of all the places at which they could."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Any

import schematic_native

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable, Iterator

ROOT = Path(schematic_native.__file__).parent


def waiting_at(tasks: Iterable[asyncio.Task[Any]]) -> Iterator[str]:
    """Name each place of the package at which a task waits: the innermost of each task."""
    for task in tasks:
        place = _place(task.get_coro())
        if place is not None:
            yield place


def _place(coroutine: Any) -> str | None:
    found = None
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None)
        if frame is None:
            break
        path = Path(frame.f_code.co_filename)
        if ROOT in path.parents and frame.f_lineno is not None:
            found = f"{path.relative_to(ROOT)}:{frame.f_lineno}"
        coroutine = coroutine.cr_await
    return found
