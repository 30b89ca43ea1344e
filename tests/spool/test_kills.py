"""Every settle that has returned is billed exactly once, though its process is killed at any point."""

from __future__ import annotations

import os
import sys

import pytest

from tests.spool import kills

# SCHEMATIC_SPOOL_KILLS=100 settles 10 000 times.
KILLS = int(os.environ.get("SCHEMATIC_SPOOL_KILLS", "4"))
SETTLES_PER_KILL = 100


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.timeout(300 + 10 * KILLS)
@pytest.mark.parametrize("fsync", ["never", 0.01])
def test_every_settle_that_returned_is_billed_once_whenever_its_process_was_killed(
    fsync: float | str,
) -> None:
    outcome = kills.run(KILLS * SETTLES_PER_KILL, KILLS, seed=7, fsync=fsync)
    assert len(outcome.done) >= KILLS * SETTLES_PER_KILL
    assert not outcome.lost
    assert not outcome.doubled
    assert not outcome.invented
