"""Streams of LiteLLM whose tokens are counted as they pass, and billed once, whatever ends them.

A stream that is left before its end has told no usage: what was seen is billed, or the rest is read
on for a while.
"""

# ruff: noqa: SLF001 - a hold is a part of this package

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

from schematic_native.client import AsyncHold, Hold
from schematic_native.integrations.litellm.estimates import texts

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import TracebackType

    from typing_extensions import Self

    from schematic_native.integrations.litellm.bills import Bill

# Tasks that read streams on: a loop keeps none alive by itself.
_draining: set[asyncio.Task[None]] = set()


class _Held:
    """What streams of both kinds are: chunks of another one, its hold, and its bill."""

    def __init__(
        self,
        chunks: Any,
        hold: Hold | AsyncHold,
        bill: Bill,
        *,
        hides: bool = False,
        drain_for: float = 0,
    ) -> None:
        self.hold = hold
        self._chunks = chunks
        self._bill = bill
        self._hides = hides
        self._drain_for = drain_for
        self._lock = threading.Lock()
        self._has_ended = False

    def __getattr__(self, name: str) -> Any:
        """Give everything else that LiteLLM's own stream has."""
        if name == "_chunks":
            raise AttributeError(name)
        return getattr(self._chunks, name)

    def __del__(self) -> None:
        if getattr(self, "_lock", None) is not None and self._ends():
            self._bill.charge(self.hold)
            self.hold._end_unawaited()

    def _ends(self) -> bool:
        """Take the end upon oneself; False if another has done so."""
        with self._lock:
            if self._has_ended:
                return False
            self._has_ended = True
            return True

    @property
    def _wanted(self) -> float:
        """Units that the hold should have, if it has fewer than were seen; else 0."""
        rough = self._bill.rough
        return rough + self.hold._usage if rough > self.hold.held > 0 else 0

    def _is_hidden(self, chunk: Any) -> bool:
        """Tell whether a chunk has nothing but the usage, which the caller did not ask for."""
        if not self._hides or getattr(chunk, "usage", None) is None:
            return False
        return not any(_says(choice) for choice in getattr(chunk, "choices", None) or ())


def _says(choice: Any) -> bool:
    return bool(getattr(choice, "finish_reason", None)) or any(texts(choice))


class HeldStream(_Held):
    """A stream whose end settles its hold; `close()` it if it is left before."""

    hold: Hold

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        if self._has_ended:
            raise StopIteration
        while True:
            try:
                chunk = next(self._chunks)
            except BaseException:
                self._settle()
                raise
            self._bill.see(chunk)
            wanted = self._wanted
            if wanted and not self.hold.exhausted:
                self.hold.reserve(wanted)
            if not self._is_hidden(chunk):
                return chunk

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the stream, and settle its hold: at once, or when the rest has been read."""
        if not self._ends():
            return
        if self._drain_for and not self._bill.is_final:
            threading.Thread(target=self._drain, name="schematic-native drain").start()
        else:
            self._finish()

    def _settle(self) -> None:
        if self._ends():
            self._finish()

    def _drain(self) -> None:
        # A daemon: a provider that stalls may keep it waiting longer than the interpreter.
        reader = threading.Thread(target=self._read_on, name="schematic-native reader", daemon=True)
        reader.start()
        reader.join(self._drain_for)
        with contextlib.suppress(Exception):  # of a stream that is closed while it is read
            self._finish()

    def _read_on(self) -> None:
        with contextlib.suppress(Exception):  # of a stream that nobody wants any more
            for chunk in self._chunks:
                self._bill.see(chunk)

    def _finish(self) -> None:
        try:
            close = getattr(self._chunks, "close", None)
            if close is not None:
                close()
        finally:
            self._bill.charge(self.hold)
            self.hold._close()


class AsyncHeldStream(_Held):
    """An asynchronous stream whose end settles its hold; `aclose()` it if it is left before."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if self._has_ended:
            raise StopAsyncIteration
        while True:
            chunk = await self._next()
            self._bill.see(chunk)
            wanted = self._wanted
            if wanted and not self.hold.exhausted:
                await self._reserve(wanted)
            if not self._is_hidden(chunk):
                return chunk

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _next(self) -> Any:
        if not self._drain_for:
            try:
                return await self._chunks.__anext__()
            except BaseException:
                await self._settle()
                raise
        coming = asyncio.ensure_future(_next_of(self._chunks))
        try:
            # Cancelled, it would break off what is to be read on.
            return await asyncio.shield(coming)
        except asyncio.CancelledError:
            self._leave(coming)
            raise
        except BaseException:
            await self._settle()
            raise

    async def _reserve(self, wanted: float) -> None:
        hold = self.hold
        if isinstance(hold, AsyncHold):
            await hold.reserve(wanted)
        else:
            await asyncio.get_running_loop().run_in_executor(None, hold.reserve, wanted)

    async def aclose(self) -> None:
        """Leave the stream, and settle its hold: at once, or when the rest has been read."""
        if self._drain_for and not self._bill.is_final:
            self._leave(None)
        else:
            await self._settle()

    async def read_on(self) -> None:
        """Leave the stream, and wait until its hold is settled."""
        await self.aclose()
        draining = self.__dict__.get("_drained")
        if draining is not None:
            await asyncio.shield(draining)

    def _leave(self, coming: asyncio.Future[Any] | None) -> None:
        """Read on in the background, first what is already on its way."""
        if self._ends():
            self._drained = _spawn(self._drain(coming))

    async def _drain(self, coming: asyncio.Future[Any] | None) -> None:
        try:
            with contextlib.suppress(Exception):  # of a stream that nobody reads any more
                # It waits until the reading has ended, so no chunk comes after the bill is written.
                await asyncio.wait_for(self._read(coming), self._drain_for)  # noqa: TID251
        finally:
            await self._finish()

    async def _read(self, coming: asyncio.Future[Any] | None) -> None:
        if coming is not None:
            self._bill.see(await coming)
        while True:
            self._bill.see(await self._chunks.__anext__())

    async def _settle(self) -> None:
        if self._ends():
            await self._finish()

    async def _finish(self) -> None:
        try:
            close = getattr(self._chunks, "aclose", None)
            if close is not None:
                await close()
        finally:
            self._bill.charge(self.hold)
            if isinstance(self.hold, AsyncHold):
                await self.hold._finish()
            else:
                self.hold._end_unawaited()


async def _next_of(chunks: Any) -> Any:
    return await chunks.__anext__()


def _spawn(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    task = asyncio.get_running_loop().create_task(work)
    _draining.add(task)
    task.add_done_callback(_draining.discard)
    return task
