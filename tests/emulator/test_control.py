"""The connection over which an emulator is commanded."""

from __future__ import annotations

import os
import signal
import socket
import threading

import pytest

from schematic_native.emulator import Emulator, EmulatorError
from schematic_native.emulator.control import Control

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


def test_a_connection_that_the_server_has_closed_is_not_used_again() -> None:
    closed = [threading.Event(), threading.Event()]
    asked: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        for event in closed:
            connection, _ = listener.accept()
            with connection:
                asked.append(connection.recv(65_536))
                connection.sendall(ANSWER)
            event.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        control = Control(listener.getsockname()[1])
        for event in closed:
            assert control.ask("GET", "/state") == {}
            assert event.wait(20)
        control.close()
        server.join(20)
    assert [each.split(b" ")[1] for each in asked] == [b"/_emulator/state"] * 2


def test_threads_do_not_share_a_connection(emulator: Emulator) -> None:
    answers: list[int] = []

    def ask() -> None:
        answers.extend(emulator.state()["events"] for _ in range(20))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert answers == [0] * 80


@pytest.mark.skipif(
    not hasattr(os, "waitid"), reason="nothing here waits for a process and leaves it"
)
def test_an_emulator_that_has_died_is_told() -> None:
    with Emulator() as emulator:
        emulator.state()
        assert emulator.pid is not None
        os.kill(emulator.pid, signal.SIGKILL)
        os.waitid(os.P_PID, emulator.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(EmulatorError, match="no answer"):
            emulator.audit()
        emulator.restart()
        assert emulator.audit()["balanced"]


def test_what_is_no_json_is_refused_before_it_is_sent(emulator: Emulator) -> None:
    with pytest.raises(EmulatorError, match="not JSON"):
        emulator.set_flag({"id": object()})
