"""Tests of a user that pytest-xdist runs in several processes, each with a client of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.under.programs.common import make, work


@pytest.fixture(scope="session")
def client():
    with make() as client:
        yield client


@pytest.mark.parametrize("number", range(8))
def test_credits_are_held(client, number):
    units = work(client, 10)
    Path(os.environ["UNITS"], f"{number}-{os.getpid()}").write_text(str(units))
