"""Work in a forked child, which ends in time even if it hangs: then it says where."""

from __future__ import annotations

import faulthandler
import json
import os
import traceback
from typing import TYPE_CHECKING, Any

from tests.conftest import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

STDERR = 2  # itself, not what pytest puts in the place of sys.stderr


def in_fork(work: Callable[[], object]) -> Any:
    """Run a function in a forked child and return what it returned, as JSON has it."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _work_and_end(work, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return json.loads(answer)


def _work_and_end(work: Callable[[], object], writing: int) -> None:
    """Do the work and end the process; nothing else of the parent's program may run here."""
    status = 1
    try:
        faulthandler.dump_traceback_later(PATIENCE, exit=True, file=STDERR)
        os.write(writing, json.dumps(work()).encode())
        status = 0
    except BaseException:  # noqa: BLE001 - the parent is to see it, whatever it is
        os.write(STDERR, traceback.format_exc().encode())
    finally:
        os._exit(status)
