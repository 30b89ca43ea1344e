"""Streams that count their items with a hold: how they end it, and what cannot be one."""

from __future__ import annotations

import pytest

from schematic_native import Schematic, SchematicConfig
from tests.conftest import ACME, API_KEY, streaming

INFERENCE = "inference"
EVENT = "inference_tokens"


@pytest.mark.parametrize(
    ("items", "units", "names"), [(None, len, "items"), (5, len, "items"), (["a"], 1, "units")]
)
def test_a_stream_that_cannot_be_made_leaves_its_hold_open(emulator, items, units, names):
    with (
        Schematic(API_KEY, SchematicConfig(**streaming(emulator))) as client,
        client.hold(INFERENCE, ACME, usage=10) as hold,
    ):
        with pytest.raises(TypeError, match=f"^{names} must be"):
            hold.stream(items, units)
        hold.use(3)
    assert emulator.state()["billed"] == {"comp_acme": {EVENT: 3}}


def test_the_iterator_of_a_stream_may_refuse_and_its_hold_stays_open(emulator):
    class Refusing:
        def __iter__(self):
            raise KeyboardInterrupt

    with (
        Schematic(API_KEY, SchematicConfig(**streaming(emulator))) as client,
        client.hold(INFERENCE, ACME, usage=10) as hold,
    ):
        with pytest.raises(KeyboardInterrupt):
            hold.stream(Refusing(), len)
        hold.use(3)
    assert emulator.state()["billed"] == {"comp_acme": {EVENT: 3}}


def test_the_items_of_a_stream_may_be_a_sequence_by_index(emulator):
    class Words:
        def __getitem__(self, index):
            return ["a", "bc"][index]

    with (
        Schematic(API_KEY, SchematicConfig(**streaming(emulator))) as client,
        client.hold(INFERENCE, ACME, usage=10) as hold,
    ):
        assert list(hold.stream(Words(), len)) == ["a", "bc"]
    assert emulator.state()["billed"] == {"comp_acme": {EVENT: 3}}


def test_a_stream_that_fails_or_is_dropped_bills_the_items_it_yielded(emulator):
    def broken():
        yield 3
        raise ValueError

    config = SchematicConfig(**streaming(emulator, event_buffer_period=0.05))
    with Schematic(API_KEY, config) as client:
        with pytest.raises(ValueError), client.hold(INFERENCE, ACME, usage=10) as hold:  # noqa: PT011
            list(hold.stream(broken(), lambda units: units))
        with client.hold(INFERENCE, ACME, usage=10) as hold:
            with pytest.raises(ZeroDivisionError):
                list(hold.stream([4, 0], lambda units: units / (1 if units else 0)))
            assert hold.used == 4
        stream = client.hold(INFERENCE, ACME, usage=10).stream([5, 6], lambda units: units)
        assert next(stream) == 5
        del stream
        assert client.status().open_holds == 0
    assert emulator.state()["billed"] == {"comp_acme": {EVENT: 12}}
