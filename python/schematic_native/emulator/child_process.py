"""The emulator in a process of its own, which ends with its parent.

The job goes in by stdin and the ports come out by stdout; `__main__` is the other end.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

from schematic_native.emulator.errors import EmulatorError
from schematic_native.ground import json_text

Entity = dict[str, Any]

_START_TIMEOUT = 30.0  # seconds
_STOP_TIMEOUT = 10.0  # seconds


class ChildProcess:
    """The emulator in a process of its own, which ends with its parent."""

    def __init__(self, job: Entity) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "schematic_native.emulator"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        stdin, stdout = self._popen.stdin, self._popen.stdout
        if stdin is None or stdout is None:
            raise EmulatorError("the emulator's process has no pipes")
        self._stdin, self._stdout = stdin, stdout
        # A child that hangs before it is ready is killed, which ends the read below.
        watchdog = threading.Timer(_START_TIMEOUT, self._popen.kill)
        watchdog.start()
        try:
            self._stdin.write(json_text.write(job) + b"\n")
            self._stdin.flush()
            line = self._stdout.readline()
        except BrokenPipeError:
            line = b""
        finally:
            watchdog.cancel()
            watchdog.join()
        answer: Entity = {"error": "the process ended before it was ready"}
        if line:
            answer = json_text.read(line)
        if "error" in answer:
            self.kill()
            raise EmulatorError(f"the emulator did not start: {answer['error']}")
        self.port: int = answer["port"]
        self.control_port: int = answer["control_port"]

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    def stop(self) -> None:
        """End in order; kill what does not end."""
        self._close(self._stdin)
        try:
            self._popen.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._popen.kill()
        self.kill()

    def kill(self) -> None:
        """End at once, as `kill -9` does."""
        self._popen.kill()
        self._popen.wait()
        self._close(self._stdin)
        self._stdout.close()

    @staticmethod
    def _close(pipe: Any) -> None:
        try:
            pipe.close()
        except BrokenPipeError:
            return
