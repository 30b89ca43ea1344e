"""Probes of networks: certificates of one's own, proxies, IPv6. Each stands between the program and the emulator."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trustme

from schematic_native.emulator import Emulator
from tests.conftest import eventually
from tests.ports import free_port
from tests.stores.servers import RedisServer
from tests.under.probe import ROOT, FailedError, Finding, Probe, audit, program
from tests.under.processes import PYTHON, installed, version_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# A name that is none of this machine's, as nothing for this machine goes by way of a proxy.
HOST = "service.invalid"


class Certificates:
    """An authority, and what it has signed, as files of a folder."""

    def __init__(self, folder: str) -> None:
        self._authority = trustme.CA()
        self.authority = str(Path(folder, "authority.pem"))
        self.client = str(Path(folder, "client.pem"))
        self.server = str(Path(folder, "server.pem"))
        self._authority.cert_pem.write_to_path(self.authority)
        for path, name in ((self.client, "client@example.org"), (self.server, "127.0.0.1")):
            issued = self._authority.issue_cert(name, "localhost", HOST)
            issued.private_key_and_cert_chain_pem.write_to_path(path)

    def context(self, *, asks_client: bool) -> ssl.SSLContext:
        """Return the context of a server."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.server)
        if asks_client:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.authority)
        return context


@contextlib.contextmanager
def certificates() -> Iterator[Certificates]:
    with tempfile.TemporaryDirectory() as folder:
        yield Certificates(folder)


class TlsEntrance:
    """Takes TLS connections, and passes what comes on to the emulator."""

    def __init__(self, target: int, context: ssl.SSLContext) -> None:
        self._target = target
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._serve, args=(accepted,)))
                self._threads[-1].start()

    def _serve(self, accepted: socket.socket) -> None:
        accepted.settimeout(60)
        with (
            accepted,
            contextlib.suppress(OSError),
        ):  # a handshake that fails is the program's to report
            inside = self._context.wrap_socket(accepted, server_side=True)
            with inside, socket.create_connection(("127.0.0.1", self._target), 60) as outside:
                back = threading.Thread(target=_copy, args=(outside, inside))
                back.start()
                _copy(inside, outside)
                back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def entrance(
    emulator: Emulator, files: Certificates, *, asks_client: bool
) -> Iterator[TlsEntrance]:
    served = TlsEntrance(emulator.port, files.context(asks_client=asks_client))
    try:
        yield served
    finally:
        served.close()


def own_authority(emulator: Emulator) -> Finding:
    with certificates() as files, entrance(emulator, files, asks_client=False) as tls:
        url = f"https://127.0.0.1:{tls.port}"
        env = {"SCHEMATIC_URL": url, "SSL_CERT_FILE": files.authority}
        told = program(emulator, "plain", env=env)
    return _streamed(told, ssl.OPENSSL_VERSION, "works with", "`SSL_CERT_FILE`")


def client_certificate(emulator: Emulator) -> Finding:
    with certificates() as files, entrance(emulator, files, asks_client=True) as tls:
        url = f"https://127.0.0.1:{tls.port}"
        env = {"SCHEMATIC_URL": url, "SSL_CERT_FILE": files.authority}
        units = program(
            emulator, "plain", env={**env, "SCHEMATIC_CLIENT_CERTIFICATE": files.client}
        )["units"]
    note = (
        "an `httpx_client` that has the certificate, and no DataStream, which has no option for one"
    )
    return Finding(units, ssl.OPENSSL_VERSION, "works with", note)


def redis_with_certificates(emulator: Emulator) -> Finding:
    with certificates() as files:
        port = str(free_port())
        options = ["--tls-port", port, "--tls-cert-file", files.server]
        options += ["--tls-key-file", files.server, "--tls-ca-cert-file", files.authority]
        server = RedisServer(*options).start()
        try:
            query = f"ssl_ca_certs={files.authority}&ssl_certfile={files.client}"
            url = f"rediss://localhost:{port}/0?{query}&ssl_keyfile={files.client}"
            units = program(emulator, "plain", env={"SCHEMATIC_REDIS": url})["units"]
            version = version_of(server)
        finally:
            server.remove()
    return Finding(
        units, version, "works with", "`ssl_ca_certs`, `ssl_certfile` of redis-py", is_shared=True
    )


def proxy(login: str, emulator: Emulator) -> Finding:
    """Go to a host that only the proxy can find."""
    versions = installed("proxy.py")
    port = free_port()
    command = [sys.executable, "-m", "proxy", "--hostname", "127.0.0.1", "--port", str(port)]
    command += ["--num-workers", "1", "--num-acceptors", "1", "--log-level", "ERROR"]
    command += ["--plugins", "tests.under.programs.proxy_plugin.ToThisMachine"]
    command += ["--basic-auth", login] if login else []
    named = f"http://{f'{login}@' if login else ''}127.0.0.1:{port}"
    with (
        certificates() as files,
        entrance(emulator, files, asks_client=False) as tls,
        serving(command, port, {**os.environ, "PYTHONPATH": str(ROOT), "PROXIED_HOST": HOST}),
    ):
        proxied = {"SCHEMATIC_URL": f"https://{HOST}:{tls.port}", "SSL_CERT_FILE": files.authority}
        told = program(emulator, "plain", env={**proxied, "HTTPS_PROXY": named})
    return _streamed(told, versions, "works with", "`HTTPS_PROXY`")


@contextlib.contextmanager
def serving(command: Sequence[str], port: int, env: Mapping[str, str]) -> Iterator[None]:
    """Run a server that listens at a port."""
    with subprocess.Popen(command, env=env, cwd=ROOT) as server:
        try:
            eventually(lambda: _listens(port), timeout=30)
            yield
        finally:
            server.terminate()
            server.wait(30)


def _streamed(told: dict[str, object], versions: str, result: str, note: str) -> Finding:
    if told["stream"] is not True:
        raise FailedError("the DataStream was not connected")
    return Finding(int(str(told["units"])), versions, result, note)


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def ipv6(_: Emulator) -> Finding:
    """Run against an emulator that listens at ::1 alone; that of the probe stays unused."""
    try:
        with Emulator(host="::1") as emulator:
            told = program(emulator, "plain")
            finding = _streamed(told, PYTHON, "works", "a service at `[::1]` alone")
            problems = audit(emulator, finding)
    except OSError as error:
        raise FailedError(str(error)) from error
    if problems:
        raise FailedError("; ".join(problems))
    return finding._replace(units=0)


_GROUP = "Networks"
PROBES = [
    Probe(_GROUP, "TLS, authority of one's own", own_authority),
    Probe(_GROUP, "TLS, client certificate", client_certificate),
    Probe(_GROUP, "TLS to Redis, client certificate", redis_with_certificates),
    Probe(_GROUP, "HTTP proxy", partial(proxy, "")),
    Probe(_GROUP, "HTTP proxy with a password", partial(proxy, "user:secret")),
    Probe(_GROUP, "IPv6 only", ipv6),
]
