"""What one request of events costs its process, by who makes it: `python benches/transports.py`.

Processor time of this process alone: what answers is a sink of another process. Candidates take turns, so that
what else the machine does falls on all of them.
"""

import asyncio
import http.client
import os
import queue
import socket
import statistics
import subprocess
import sys
import threading
import time

import httpx

EVENTS = 100
ROUNDS, REQUESTS = 15, 100
EVENT = (
    b'{"api_key":"sch_dev_key","type":"track","body":{"event":"inference_tokens","company":{"id":"acme"},'
    b'"quantity":7,"lease_id":"lse_0123456789abcdef"},"idempotency_key":"lease-reservation:0123456789abcdef-0123456789abcdef"}'
)
BODY = b'{"events":[' + b",".join([EVENT] * EVENTS) + b"]}"
HEADERS = {
    "X-Schematic-Api-Key": "sch_dev_key",
    "Content-Type": "application/json",
    "Accept": "application/json",
}
SINK = """
import socket, threading
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
ANSWER = b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: 2\\r\\n\\r\\n{}"
def serve(peer):
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    held = b""
    while True:
        while b"\\r\\n\\r\\n" not in held:
            got = peer.recv(262144)
            if not got:
                return
            held += got
        head, _, held = held.partition(b"\\r\\n\\r\\n")
        left = int(head.lower().split(b"content-length:")[1].split(b"\\r\\n")[0]) - len(held)
        while left > 0:
            left -= len(peer.recv(262144))
        held = b""
        peer.sendall(ANSWER)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""


def httpx_async(port):
    async def work():
        async with httpx.AsyncClient(trust_env=False) as client:
            begun = time.process_time()
            for _ in range(REQUESTS):
                answer = await client.post(
                    f"http://127.0.0.1:{port}/batch", content=BODY, headers=HEADERS
                )
                assert answer.status_code == 200
            return time.process_time() - begun

    return asyncio.run(work())


def httpx_sync(port):
    with httpx.Client(trust_env=False) as client:
        begun = time.process_time()
        for _ in range(REQUESTS):
            answer = client.post(f"http://127.0.0.1:{port}/batch", content=BODY, headers=HEADERS)
            assert answer.status_code == 200
        return time.process_time() - begun


def library(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    begun = time.process_time()
    for _ in range(REQUESTS):
        connection.request("POST", "/batch", BODY, HEADERS)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200
    took = time.process_time() - begun
    connection.close()
    return took


def raw(port):
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    head = "POST /batch HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    begun = time.process_time()
    for _ in range(REQUESTS):
        connection.sendall(f"{head}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    took = time.process_time() - begun
    connection.close()
    return took


def on_a_thread(exchange):
    """Have each request made on a thread, and its answer awaited on a loop."""

    def candidate(port):
        wanted = queue.SimpleQueue()

        async def work():
            loop = asyncio.get_running_loop()

            def sender():
                with exchange(port) as post:
                    while (answer := wanted.get()) is not None:
                        loop.call_soon_threadsafe(answer.set_result, post())

            thread = threading.Thread(target=sender)
            thread.start()
            begun = time.process_time()
            for _ in range(REQUESTS):
                answer = loop.create_future()
                wanted.put(answer)
                assert await answer == 200
            took = time.process_time() - begun
            wanted.put(None)
            thread.join()
            return took

        return asyncio.run(work())

    return candidate


class Library:
    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)

    def __enter__(self):
        self.connection.connect()
        self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.post

    def __exit__(self, *_):
        self.connection.close()

    def post(self):
        self.connection.request("POST", "/batch", BODY, HEADERS)
        answer = self.connection.getresponse()
        answer.read()
        return answer.status


class Raw:
    def __init__(self, port):
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.head = "POST /batch HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        self.head += "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())

    def __enter__(self):
        return self.post

    def __exit__(self, *_):
        self.connection.close()

    def post(self):
        request = f"{self.head}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY
        self.connection.sendall(request)
        return int(self.connection.recv(65536).split(b" ", 2)[1])


CANDIDATES = {
    "httpx.AsyncClient": httpx_async,
    "httpx.Client": httpx_sync,
    "http.client": library,
    "a socket": raw,
    "http.client on a thread, awaited on a loop": on_a_thread(Library),
    "a socket on a thread, awaited on a loop": on_a_thread(Raw),
}


def main():
    with subprocess.Popen([sys.executable, "-c", SINK], stdout=subprocess.PIPE) as sink:
        port = int(sink.stdout.readline())
        times = {name: [] for name in CANDIDATES}
        for _ in range(ROUNDS):
            for name, candidate in CANDIDATES.items():
                times[name].append(candidate(port) / REQUESTS * 1e6)
        sink.kill()
    print(f"{os.cpu_count()} processors, {len(BODY)} bytes and {EVENTS} events a request")
    for name, values in times.items():
        middle = statistics.median(values)
        print(f"{name:<45}{middle:8.0f} us a request {middle / EVENTS:8.2f} us an event")


if __name__ == "__main__":
    main()
