"""Real Redis servers on free ports, started and stopped by the tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis
from redis.crc import key_slot
from typing_extensions import Self

from tests.conftest import eventually
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


# Milliseconds without an answer after which servers of a cluster take one of them for dead: neither a frozen
# machine nor a server that a test has stopped is noticed, unless the test waits for that.
NOT_MISSED, SOON_MISSED = "60000", "1000"


def find_server() -> str:
    """Find redis-server, installing Debian's package where that is possible."""
    found = shutil.which("redis-server")
    if found is None and shutil.which("apt-get") and os.geteuid() == 0:
        subprocess.run(["apt-get", "install", "-y", "-qq", "redis-server"], check=True)
        found = shutil.which("redis-server")
    assert found, "redis-server is needed: install Debian's package redis-server"
    return found


class RedisServer:
    """One server; `start(keep=True)` goes on with what it had. `command` is another program than redis-server."""

    def __init__(self, *options: str, command: Sequence[str] | None = None) -> None:
        self.options = options
        self._command = command
        self._folder = Path(tempfile.mkdtemp(prefix="schematic-native-redis-"))
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def file(self) -> Path:
        """The socket of the file system that the server listens at, too."""
        return self._folder / "redis.sock"

    def connect(self, module: Any = redis, **options: Any) -> Any:
        """Make a client, of `redis` or of `redis.asyncio`."""
        return module.Redis(host="127.0.0.1", port=self.port, **options)

    def clients(self) -> list[dict[str, str]]:
        """The connections to the server, but for the one that asks."""
        with redis.Redis.from_url(self.url) as client:
            own = str(client.client_id())
            return [other for other in client.client_list() if other["id"] != own]

    def command(self, *words: object) -> Any:
        """What the server itself answers."""
        with redis.Redis.from_url(self.url, decode_responses=True) as client:
            return client.execute_command(*words)

    def start(self, *, keep: bool = False, wait: bool = True) -> Self:
        if not keep:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir()
        command = [
            *(self._command or [find_server()]), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
            "--appendonly", "yes", "--appendfsync", "always", "--dir", str(self._folder),
            "--unixsocket", str(self.file), "--loglevel", "warning", *self.options,
        ]  # fmt: skip
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        if wait:
            self.await_answer()
        return self

    def await_answer(self) -> None:
        eventually(self._answers)

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url) as client:
                return bool(client.ping())
        except redis.AuthenticationError:
            return True
        except redis.RedisError:
            return False

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let the server take connections and bytes, and do nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        # The signal takes effect a moment after it was sent, and the server may answer until then.
        os.waitpid(self.process.pid, os.WUNTRACED)
        try:
            yield
        finally:
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
        with self.connect() as client:
            client.flushall()


class ClusterServers:
    """Three servers of a cluster, none with a replica."""

    SLOTS = 16384

    def __init__(self, *more_options: str) -> None:
        options = (
            "--appendonly", "no", "--cluster-enabled", "yes", "--cluster-node-timeout", NOT_MISSED,
            *more_options,
        )  # fmt: skip
        self.servers = [RedisServer(*options, "--cluster-port", str(free_port())) for _ in range(3)]

        self._moved: set[int] = set()
        # Those that soon take another for dead.
        self._hasty: list[RedisServer] = []

    def start(self) -> Self:
        for server in self.servers:
            server.start()
        self._share_slots()
        self._meet()
        self.await_whole()
        return self

    def is_complete(self) -> bool:
        """Whether each server knows who has each slot."""
        return all(self._is_complete(server) for server in self.servers)

    def connect(self, module: Any = redis, **options: Any) -> Any:
        """Make a client, of `redis` or of `redis.asyncio`."""
        return module.RedisCluster(host="127.0.0.1", port=self.servers[0].port, **options)

    def owner_of(self, key: str) -> RedisServer:
        """Find the server that has a key's slot, unless it was moved."""
        return self.servers[self._part_of(key_slot(key.encode()))]

    def migrate(
        self, key: str, target: RedisServer, *, finish: bool, source: RedisServer | None = None
    ) -> None:
        """Move a key to another server; its slot as well, or leave that in the middle of it.

        From its first owner, unless `source` is given.
        """
        # Whoever takes a slot in without knowing the latest epoch may be taken for the older owner.
        eventually(self._has_one_epoch)
        source, slot = source or self.owner_of(key), key_slot(key.encode())
        with source.connect() as old, target.connect() as new:
            old_id, new_id = (client.execute_command("CLUSTER MYID") for client in (old, new))
            new.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", old_id)
            old.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", new_id)
            old.migrate("127.0.0.1", target.port, key, 0, 5000)
            if finish:
                for client in (new, old):
                    client.execute_command("CLUSTER SETSLOT", slot, "NODE", new_id)
        self._moved.add(slot)

    def _has_one_epoch(self) -> bool:
        """Whether every server has heard of the latest epoch, and none shares its own."""
        told = [server.command("CLUSTER INFO") for server in self.servers]
        latest = {one["cluster_current_epoch"] for one in told}
        own = {one["cluster_my_epoch"] for one in told}
        return len(latest) == 1 and len(own) == len(self.servers)

    def hand_over(self, key: str, target: RedisServer) -> None:
        """Give a key's slot to another server while its own is gone."""
        slot = key_slot(key.encode())
        with target.connect() as client:
            new_id = client.execute_command("CLUSTER MYID")
        for server in self.servers:
            if server.process is not None:
                with server.connect() as client:
                    client.execute_command("CLUSTER SETSLOT", slot, "NODE", new_id)
        self._moved.add(slot)

    def restore(self) -> None:
        """Empty the cluster, and give each slot to the server that had it first."""
        self.flush()
        for slot in self._moved:
            self._give_back(slot)
        self.await_whole()
        # A server that was gone had not heard of the others' epochs yet when it was given its slot.
        if self._moved:
            eventually(self._is_settled)
        self._moved.clear()

    def _is_settled(self) -> bool:
        """Whether every slot is back, and nothing that is still being told undoes that."""
        return self._has_one_epoch() and all(map(self._is_back, self._moved))

    def _give_back(self, slot: int) -> None:
        first = self.servers[self._part_of(slot)]
        with first.connect() as client:
            owner = client.execute_command("CLUSTER MYID")
        for server in self.servers:
            with server.connect() as client:
                client.execute_command("CLUSTER SETSLOT", slot, "STABLE")
                client.execute_command("CLUSTER SETSLOT", slot, "NODE", owner)
        # Whoever took the slot in has a later epoch than its first server, and would be believed.
        with first.connect() as client:
            client.execute_command("CLUSTER BUMPEPOCH")

    def _is_back(self, slot: int) -> bool:
        """Whether every server names the first one of a slot; if not, it is given back again."""
        first = self.servers[self._part_of(slot)]
        if all(self._names(server, slot) == first.port for server in self.servers):
            return True
        self._give_back(slot)
        return False

    def _names(self, server: RedisServer, slot: int) -> int | None:
        """Ask a server for the port of who has a slot."""
        with server.connect() as client:
            # What the client makes of the reply differs from one version of it to the next.
            client.set_response_callback("CLUSTER SLOTS", lambda reply, **_: reply)
            ranges = client.execute_command("CLUSTER SLOTS")
        ports = (primary[1] for start, end, primary, *_ in ranges if start <= slot <= end)
        return next(ports, None)

    def await_whole(self) -> None:
        """Wait until each server knows that all are there."""
        eventually(lambda: all(self._is_complete(server) for server in self.servers))
        while self._hasty:
            self._hasty.pop().command("CONFIG", "SET", "cluster-node-timeout", NOT_MISSED)

    def await_broken(self) -> None:
        """Wait until those that are left know that one is missing, which they do not notice by themselves."""
        # For a time as long they will not believe that it is back.
        self._hasty = [server for server in self.servers if server.process is not None]
        for server in self._hasty:
            server.command("CONFIG", "SET", "cluster-node-timeout", SOON_MISSED)
        eventually(lambda: not any(map(self._is_complete, self._hasty)))

    def remove(self) -> None:
        for server in self.servers:
            server.remove()

    def flush(self) -> None:
        for server in self.servers:
            server.flush()

    def _part_of(self, slot: int) -> int:
        return slot * len(self.servers) // self.SLOTS

    def _share_slots(self) -> None:
        for part, server in enumerate(self.servers):
            slots = [slot for slot in range(self.SLOTS) if self._part_of(slot) == part]
            with server.connect() as client:
                client.execute_command("CLUSTER ADDSLOTSRANGE", slots[0], slots[-1])
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", part + 1)

    def _meet(self) -> None:
        first, *others = self.servers
        with first.connect() as client:
            for other in others:
                options = dict(zip(other.options[::2], other.options[1::2], strict=True))
                client.execute_command(
                    "CLUSTER MEET", "127.0.0.1", other.port, options["--cluster-port"]
                )

    def _is_complete(self, server: RedisServer) -> bool:
        with server.connect() as client:
            info = client.execute_command("CLUSTER INFO")
        return info["cluster_state"] == "ok" and info["cluster_known_nodes"] == "3"


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
