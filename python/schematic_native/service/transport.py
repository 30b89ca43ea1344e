"""Posts batches of events over HTTP/1.1, from threads that block on sockets.

A blocked thread holds up neither the event loop nor the interpreter: Rust writes the request, which goes
to the socket in one piece, and Rust reads the response. Each thread handles one request at a time.
Nothing here retries, but for a kept connection that was already closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urljoin

from schematic_native.service.connections import (
    Connection,
    ConnectionPool,
    Exchange,
    LostConnectionError,
)
from schematic_native.service.proxies import UnusableTransportError
from schematic_native.service.redirects import KEEPING_REDIRECTS, MOST_REDIRECTS
from schematic_native.service.sender_threads import SenderThreads

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from schematic_native._native import EventBatch, HttpAnswer

# Seconds that closing waits for threads: only looking up a host name cannot be interrupted.
CLOSING_TIMEOUT = 1.0


class TimedResponse(NamedTuple):
    """A response, and how many seconds after the request it came."""

    response: HttpAnswer
    seconds: float


class _Post(Exchange):
    """A batch on its way, from the call of `post` until a thread has finished with it."""

    def __init__(
        self, url: str, batch: EventBatch, timeout: float, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(timeout)
        self.url = url
        self.batch = batch
        self.until = loop.time() + timeout
        self.outcome: asyncio.Future[TimedResponse] = loop.create_future()
        # What came of it, on the thread.
        self.response: TimedResponse | None = None
        self.error: Exception | None = None

    def fail(self, error: Exception) -> None:
        """End it without a response."""
        self.abort()
        if not self.outcome.done():
            self.outcome.set_exception(error)
            self.outcome.exception()  # marks it as retrieved: maybe nobody waits for it any more


class SocketTransport:
    """Posts batches of events.

    Make it on the event loop that uses it; everything but `_handle` and what that calls runs there.

    Args:
        headers: of each request.
        follows: whether to follow redirects that keep the request as it is.
        context: of TLS; None makes one, from SSL_CERT_FILE and SSL_CERT_DIR if they are set.

    """

    def __init__(
        self,
        headers: Mapping[str, str],
        *,
        follows: bool = True,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._connections = ConnectionPool(lines, context)
        self._follows = follows
        self._threads: SenderThreads[_Post] = SenderThreads(self._loop, self._handle, self._finish)
        self._awaited: dict[_Post, None] = {}
        self._timer: asyncio.TimerHandle | None = None  # of the post whose time is over first
        self._closed = False
        # Early: when the interpreter exits, no thread can be started any more, and events are still to be
        # sent.
        with contextlib.suppress(UnusableTransportError):
            self._threads.start()

    async def post(self, url: str, batch: EventBatch, timeout: float) -> TimedResponse:
        """Post a batch.

        If a kept connection turns out to be closed, the batch is sent again over a new one.

        Raises:
            TimeoutError: there was no response within `timeout` seconds.
            UnusableTransportError: no thread can be started, or the kind of proxy is not supported.
            OSError, ValueError: there was no response, or it is not HTTP.

        """
        if self._closed:
            raise ConnectionError("the client is shut down")
        post = _Post(url, batch, timeout, self._loop)
        self._threads.put(post)
        self._awaited[post] = None
        self._expect_end(post.until)
        try:
            return await post.outcome
        except asyncio.CancelledError:
            post.abort()
            raise
        finally:
            self._awaited.pop(post, None)

    async def close(self) -> None:
        """Abort what is under way and end the threads."""
        self._closed = True
        self._threads.finish_done()
        for post in self._threads.unfinished:
            post.fail(ConnectionError("the client is shut down"))
        ended = asyncio.Event()
        threads = self._threads.close(ended.set)
        timer = self._loop.call_later(CLOSING_TIMEOUT, ended.set)
        try:
            await ended.wait()
        finally:
            timer.cancel()
        for thread in threads:
            if self._threads.is_ending(thread):
                thread.join()
        if self._timer is not None:
            self._timer.cancel()
        self._connections.close()

    def _expect_end(self, when: float) -> None:
        """Look for posts whose time is over, then at the latest: one timer does for all."""
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._end_late)

    def _end_late(self) -> None:
        self._timer = None
        self._threads.finish_done()
        now = self._loop.time()
        for post in self._awaited:
            if post.until <= now:
                post.fail(TimeoutError())
        left = [post.until for post in self._awaited if post.until > now]
        if left:
            self._expect_end(min(left))

    def _finish(self, post: _Post) -> None:
        """Hand over what came of a post."""
        if post.outcome.done():
            return
        if post.response is not None:
            post.outcome.set_result(post.response)
        elif post.error is not None:
            post.outcome.set_exception(post.error)

    # On the threads

    def _handle(self, post: _Post) -> None:
        try:
            post.response = self._follow(post)
        except Exception as error:  # noqa: BLE001 - the caller handles it
            post.error = error

    def _follow(self, post: _Post) -> TimedResponse:
        url = post.url
        for _ in range(MOST_REDIRECTS):
            timed = self._exchange(post, url)
            response = timed.response
            if response.status not in KEEPING_REDIRECTS or not self._follows:
                return timed
            location = response.header("location")
            if location is None:
                return timed
            url = urljoin(url, location)
        raise ConnectionError(f"it was redirected more than {MOST_REDIRECTS} times")

    def _exchange(self, post: _Post, url: str) -> TimedResponse:
        kept = self._connections.take_kept(url)
        if kept is not None:
            with contextlib.suppress(LostConnectionError):
                return self._exchange_over(kept, post, url)
        return self._exchange_over(self._connections.open(post, url), post, url)

    def _exchange_over(self, connection: Connection, post: _Post, url: str) -> TimedResponse:
        is_reusable = False
        try:
            post.uses(connection.sock)
            begun = time.monotonic()
            response = connection.post(post, post.batch)
            seconds = time.monotonic() - begun
            is_reusable = response.reusable and not self._closed
        finally:
            post.uses(None)
            if is_reusable:
                self._connections.keep(url, connection)
            else:
                connection.close()
        return TimedResponse(response, seconds)
