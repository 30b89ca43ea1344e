"""Real Redis servers on free ports, started and stopped by the tests."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import redis
from typing_extensions import Self

from tests.conftest import eventually


def find_server() -> str:
    """Find redis-server, installing Debian's package where that is possible."""
    found = shutil.which("redis-server")
    if found is None and shutil.which("apt-get") and os.geteuid() == 0:
        subprocess.run(["apt-get", "install", "-y", "-qq", "redis-server"], check=True)
        found = shutil.which("redis-server")
    assert found, "redis-server is needed: install Debian's package redis-server"
    return found


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class RedisServer:
    """One server; `start(keep=True)` goes on with what it had."""

    def __init__(self, *options: str) -> None:
        self._options = options
        self._folder = Path(tempfile.mkdtemp(prefix="schematic-native-redis-"))
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, *, keep: bool = False) -> Self:
        if not keep:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir()
        command = [
            find_server(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
            "--appendonly", "yes", "--appendfsync", "always", "--dir", str(self._folder),
            "--loglevel", "warning", *self._options,
        ]  # fmt: skip
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        eventually(self._answers)
        return self

    def clients(self) -> list[dict[str, str]]:
        """The connections to the server, but for the one that asks."""
        with redis.Redis.from_url(self.url) as client:
            own = str(client.client_id())
            return [other for other in client.client_list() if other["id"] != own]

    def command(self, *words: object) -> Any:
        """What the server itself answers."""
        with redis.Redis.from_url(self.url, decode_responses=True) as client:
            return client.execute_command(*words)

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def freeze(self) -> None:
        """Make the server say nothing, with its sockets open."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def flush(self) -> None:
        with redis.Redis.from_url(self.url) as client:
            client.flushall()


class Sentinel:
    """A server, a replica of it, and a sentinel that watches them as `watched`."""

    def __init__(self) -> None:
        self.port = free_port()
        self._servers = [RedisServer("--repl-diskless-sync-delay", "0") for _ in range(2)]
        self._folder = Path(tempfile.mkdtemp(prefix="schematic-native-sentinel-"))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        master, replica = (server.start() for server in self._servers)
        replica.command("REPLICAOF", "127.0.0.1", master.port)
        settings = self._folder / "sentinel.conf"
        settings.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self._folder}\n"
            f"sentinel monitor watched 127.0.0.1 {master.port} 1\n"
            "sentinel down-after-milliseconds watched 1000\n"
            "sentinel failover-timeout watched 5000\n"
        )
        command = [find_server(), str(settings), "--sentinel", "--loglevel", "warning"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        eventually(lambda: self.is_replicated() and self._knows_replica())
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        for server in self._servers:
            server.remove()
        shutil.rmtree(self._folder, ignore_errors=True)

    def is_replicated(self) -> bool:
        """Whether the replica has all that the server has."""
        info = [server.command("INFO", "replication") for server in self._servers]
        return (
            info[1]["master_link_status"] == "up"
            and info[0]["master_repl_offset"] == info[1]["slave_repl_offset"]
        )

    def _knows_replica(self) -> bool:
        try:
            with redis.Redis(port=self.port, decode_responses=True) as client:
                return client.sentinel_master("watched")["num-slaves"] == 1
        except redis.RedisError:
            return False

    def fail_over(self) -> RedisServer:
        """Kill the server; returns it."""
        self._servers[0].stop()
        return self._servers[0]

    def address_of_master(self) -> str:
        with redis.Redis(port=self.port, decode_responses=True) as client:
            host, port = client.sentinel_get_master_addr_by_name("watched")
            return f"redis://{host}:{port}/0"
