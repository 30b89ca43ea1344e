"""The wrong lines of `planted.py` still have their places; whether they are found is for `make simulate-faults`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.simulation.planted import FAULTS, Fault, plant

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_wrong_line_has_its_place(fault: Fault, tmp_path: Path) -> None:
    plant(fault, tmp_path)
