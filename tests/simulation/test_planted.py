"""Wrong lines have their places in the package as it is; whether schedules find them is for `make simulate-faults`."""

from __future__ import annotations

import ast

import pytest

from tests.simulation.planted import FAULTS, Fault, wrong_source


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_wrong_line_has_its_place(fault: Fault) -> None:
    source = wrong_source(fault)
    if fault.file.endswith(".py"):
        ast.parse(source)
