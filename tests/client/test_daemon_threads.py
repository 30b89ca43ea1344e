"""Daemon threads that use a client when the interpreter exits: the process ends in order."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

# A thread that never leaves the function it gives to the client: the exit always meets it there.
PROGRAM = """
    import threading
    from schematic_native import CheckFlagOptions, Schematic, SchematicConfig

    is_there = threading.Event()

    def busy():
        is_there.set()
        while True:
            pass

    client = Schematic("", SchematicConfig(offline=True))
    threading.Thread(target=lambda: {call}, daemon=True).start()
    assert is_there.wait(30)
"""


@pytest.mark.parametrize(
    "call",
    [
        "client.check('f', default_value=busy)",
        "client.check('f', usage=1, default_value=busy)",
        "client.check_flag('f', None, None, CheckFlagOptions(default_value=busy))",
        "client.hold('f', usage=1, default_value=busy).__enter__()",
    ],
)
def test_a_daemon_thread_in_a_call_does_not_abort_the_process(call):
    program = textwrap.dedent(PROGRAM.format(call=call))
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=250, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
