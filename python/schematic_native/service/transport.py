"""Posts batches of events over HTTP/1.1, from threads that block on sockets.

A blocked thread holds up neither the event loop nor the interpreter: Rust writes the request, which goes
to the socket in one piece, and Rust reads the response. Each thread handles one request at a time.
Nothing here retries, but for a kept connection that was already closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections import deque
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

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    from schematic_native._native import EventBatch, HttpAnswer

# Seconds that a thread waits for another request before it ends.
LONGEST_IDLE = 30.0
# Seconds that closing waits for threads: only looking up a host name cannot be interrupted.
CLOSING_TIMEOUT = 1.0


class TimedResponse(NamedTuple):
    """A response, and how many seconds after the request it came."""

    response: HttpAnswer
    seconds: float


class _Post(Exchange):
    """A batch on its way, from the call of `post` until a thread has finished with it."""

    def __init__(self, url: str, batch: EventBatch, timeout: float) -> None:
        super().__init__(timeout)
        self.url = url
        self.batch = batch
        self.outcome: asyncio.Future[TimedResponse] = asyncio.get_running_loop().create_future()


class SocketTransport:
    """Posts batches of events.

    Make it on the event loop that uses it; everything but `_work` and what that calls runs there.

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
        self._posts: queue.SimpleQueue[_Post | None] = queue.SimpleQueue()
        self._lock = threading.Lock()  # of the next two
        self._threads: set[threading.Thread] = set()
        self._unfinished: set[_Post] = set()
        self._callbacks: deque[Callable[[], None]] = deque()
        self._is_wake_up_scheduled = False
        self._closed = False
        self._ended = asyncio.Event()
        # Early: when the interpreter exits, no thread can be started any more, and events are still to be
        # sent.
        with contextlib.suppress(UnusableTransportError):
            self._start_thread()

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
        post = _Post(url, batch, timeout)
        with self._lock:
            self._unfinished.add(post)
            is_thread_wanted = len(self._unfinished) > len(self._threads)
        if is_thread_wanted:
            try:
                self._start_thread()
            except UnusableTransportError:
                self._unfinished.discard(post)
                raise
        self._posts.put(post)
        timer = self._loop.call_later(timeout, self._time_out, post)
        try:
            return await post.outcome
        except asyncio.CancelledError:
            post.abort()
            raise
        finally:
            timer.cancel()

    async def close(self) -> None:
        """Abort what is under way and end the threads."""
        self._closed = True
        with self._lock:
            unfinished, threads = list(self._unfinished), list(self._threads)
        for post in unfinished:
            post.abort()
            if not post.outcome.done():
                post.outcome.set_exception(ConnectionError("the client is shut down"))
                post.outcome.exception()  # marks it as retrieved: maybe nobody waits for it any more
        for _ in threads:
            self._posts.put(None)
        timer = self._loop.call_later(CLOSING_TIMEOUT, self._ended.set)
        try:
            if threads:
                await self._ended.wait()
        finally:
            timer.cancel()
        for thread in threads:
            if thread not in self._threads:
                thread.join()  # it is about to return
        self._connections.close()

    def _time_out(self, post: _Post) -> None:
        post.abort()
        if not post.outcome.done():
            post.outcome.set_exception(TimeoutError())

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._work, name="schematic-native sender", daemon=True)
        with self._lock:
            self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError as error:
            with self._lock:
                self._threads.discard(thread)
                has_others = bool(self._threads)
            # Otherwise another thread handles the post when it has finished its own.
            if not has_others:
                raise UnusableTransportError(str(error)) from None

    def _call_on_loop(self, callback: Callable[[], None]) -> None:
        """Call a function on the loop; many threads that do so at once wake it up once."""
        self._callbacks.append(callback)
        if not self._is_wake_up_scheduled:
            self._is_wake_up_scheduled = True
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._run_callbacks)

    def _run_callbacks(self) -> None:
        # First, so that a callback added after the last look schedules another wake-up.
        self._is_wake_up_scheduled = False
        while self._callbacks:
            self._callbacks.popleft()()

    # On the threads

    def _work(self) -> None:
        me = threading.current_thread()
        while (post := self._next_post(me)) is not None:
            callback = self._handle(post)
            with self._lock:
                self._unfinished.discard(post)
            self._call_on_loop(callback)
        with self._lock:
            self._threads.discard(me)
            is_last = not self._threads
        if is_last and self._closed:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._ended.set)

    def _next_post(self, me: threading.Thread) -> _Post | None:
        while True:
            try:
                return self._posts.get(timeout=LONGEST_IDLE)
            except queue.Empty:
                with self._lock:
                    # One thread stays: when the interpreter exits, no other can be started.
                    fewest = 0 if self._loop.is_closed() else 1
                    if len(self._threads) > max(fewest, len(self._unfinished)):
                        self._threads.discard(me)
                        return None

    def _handle(self, post: _Post) -> Callable[[], None]:
        """Post a batch; return what the loop is to call then."""
        outcome = post.outcome
        try:
            response = self._follow(post)
        except Exception as error:  # noqa: BLE001 - the caller handles it
            failure = error
            return lambda: None if outcome.done() else outcome.set_exception(failure)
        return lambda: None if outcome.done() else outcome.set_result(response)

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
            request = post.batch.request(connection.head)
            begun = time.monotonic()
            response = connection.read_response(post, request)
            seconds = time.monotonic() - begun
            is_reusable = response.reusable and not self._closed
        finally:
            post.uses(None)
            if is_reusable:
                self._connections.keep(url, connection)
            else:
                connection.close()
        return TimedResponse(response, seconds)
