"""The native base of a client: what it answers from memory, and what it passes on to Python."""

from __future__ import annotations

import pytest

from schematic_native import CheckFlagOptions, CheckOptions, CheckResult
from schematic_native._native import Core, Memory, Schematic
from schematic_native.tools.bench.scenarios import hot, stocked
from schematic_native.tools.bench.worlds import COMPANY, FLAG


def begin(memory: Memory, *, options: object = None, **asked: object) -> object:
    names = ("usage", "event_subtype", "on_acquire_failure", "default_value", "timeout")
    return memory._begin_now(FLAG, COMPANY, None, options, *(asked.get(name) for name in names))


def holds(core: Core) -> int:
    return core.counts()["open_holds"]


def test_memory_answers_only_what_has_been_opened():
    core = stocked("small")
    memory = Memory()
    assert memory._flag_value_now(FLAG, COMPANY, None) is None
    memory._take_core(core)
    assert memory._flag_value_now(FLAG, COMPANY, None) is None
    memory._open(checking=True, leasing=False, settling=False)
    assert memory._flag_value_now(FLAG, COMPANY, None) is True
    assert begin(memory, usage=1) is None
    memory._open(checking=True, leasing=True, settling=False)
    answer = begin(memory, usage=1)
    assert isinstance(answer, CheckResult)
    assert not memory._settle_now(answer.reservation, 1)
    assert holds(core) == 1
    memory._open(checking=False, leasing=False, settling=True)
    assert memory._settle_now(answer.reservation, 1)
    assert begin(memory, usage=1) is None
    assert holds(core) == 0


def test_a_new_core_replaces_the_previous_one_and_starts_closed():
    first, second, third = (stocked("small") for _ in range(3))
    memory = hot(first)
    for core in (second, third):
        memory._take_core(core)
        assert begin(memory, usage=1) is None
        memory._open(checking=True, leasing=True, settling=True)
        assert isinstance(begin(memory, usage=1), CheckResult)
    assert [holds(core) for core in (first, second, third)] == [0, 1, 1]


def test_options_equal_keywords_and_a_keyword_takes_precedence():
    memory = hot(stocked("small"))
    said = begin(memory, options=CheckOptions(usage=3, event_subtype="other", timeout=1))
    assert isinstance(said, CheckResult)
    assert said.reservation is not None
    assert (said.reservation.quantity_reserved, said.reservation.event_subtype) == (3, "other")
    won = begin(memory, options=CheckOptions(usage=3, event_subtype="other"), usage=5)
    assert isinstance(won, CheckResult)
    assert won.reservation is not None
    assert (won.reservation.quantity_reserved, won.reservation.event_subtype) == (5, "other")


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"usage": 1, "timeout": -1},
        {"usage": 1, "timeout": True},
        {"usage": 1, "timeout": float("nan")},
        {"usage": 1, "timeout": "soon"},
        {"usage": 1, "default_value": "yes"},
        {"usage": 1, "options": CheckFlagOptions()},
        {"options": CheckOptions(usage=1, timeout=float("inf"))},
    ],
)
def test_a_check_that_is_invalid_or_not_metered_is_passed_on(asked):
    core = stocked("small")
    assert begin(hot(core), **asked) is None
    assert holds(core) == 0


@pytest.mark.parametrize("quantity", [-1, float("nan"), float("inf"), True, "7", None, 10**400])
def test_a_quantity_that_must_be_reported_is_not_settled_in_memory(quantity):
    core = stocked("small")
    memory = hot(core)
    answer = begin(memory, usage=1)
    assert isinstance(answer, CheckResult)
    assert not memory._settle_now(answer.reservation, quantity)
    assert not memory._settle_now(None, 1)
    assert holds(core) == 1


def test_calls_that_must_wait_go_to_the_python_methods():
    class Client(Schematic):
        def _check_waiting(self, *arguments: object) -> object:
            return arguments

        def _track_with_reservation(self, *arguments: object) -> None:
            self.settled = arguments

    client = Client("key", config=None)
    arguments = ("flag", COMPANY, None, None, 2, None, None, None, 3)
    assert client.check("flag", COMPANY, usage=2, timeout=3) == (arguments, None)
    client.track_with_reservation(None, 5)
    assert client.settled == (None, 5, None)
    with pytest.raises(TypeError, match=r"Schematic.check\(\) got an unexpected keyword argument"):
        client.check("flag", usge=2)
