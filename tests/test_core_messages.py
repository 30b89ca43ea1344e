"""What the extension's `Core` takes from messages of the DataStream, and what it refuses."""

from __future__ import annotations

import json

import pytest

from schematic_native._native import Core
from tests.core_world import COMPANY, FLAG, World, message


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff",
        b"[]",
        b'{"entity_type": "rulesengine.Moon", "message_type": "full", "data": {}}',
        message("Flags", "full", {"not": "a list"}),
        message("Flag", "full", {"id": "f1"}),
        message("Company", "full", {"id": "comp", "keys": 5}),
        message("Company", "partial", {"credit_balances": "many"}, "comp"),
        b"[" * 100_000,
    ],
)
def test_what_cannot_be_read_is_told_and_changes_nothing(raw: bytes) -> None:
    world = World()
    world.lend()
    assert world.core.ingest(raw).skipped != []
    assert world.hold().allowed
    assert world.core.has_flags()


def test_a_message_names_the_flags_that_it_changed() -> None:
    def told(core: Core, entity_type: str, message_type: str, data: object) -> list[str]:
        message = {"entity_type": entity_type, "message_type": message_type, "data": data}
        return sorted(core.ingest(json.dumps(message)).changed_flags)

    core = Core(api_key="k")
    other = FLAG | {"id": "f2", "key": "other"}
    flags, flag = "rulesengine.Flags", "rulesengine.Flag"
    assert told(core, flags, "full", [FLAG, other]) == []  # all of them are news
    assert told(core, flags, "full", [other, FLAG]) == []
    assert told(core, flag, "full", FLAG) == []
    assert told(core, flag, "full", FLAG | {"default_value": True}) == ["inference"]
    assert told(core, flags, "full", [FLAG, other]) == ["inference"]
    assert told(core, flag, "full", other | {"key": "renamed"}) == ["other", "renamed"]
    assert told(core, flags, "full", [FLAG | {"id": "f3"}]) == ["inference", "renamed"]
    assert told(core, flag, "delete", {"key": "INFERENCE"}) == ["inference"]
    assert told(core, flag, "delete", {"id": "f3"}) == []
    assert told(core, "rulesengine.Company", "full", COMPANY) == []


def test_one_unreadable_flag_does_not_take_the_others_along() -> None:
    world = World()
    ingested = world.core.ingest(
        message("Flags", "full", [FLAG, {"id": "broken"}, FLAG | {"id": "f3", "key": "third"}])
    )
    assert len(ingested.skipped) == 1
    assert sorted(world.core.flag_keys()) == ["inference", "third"]


def test_a_partial_update_moves_a_balance_and_leaves_the_rest() -> None:
    world = World()
    world.core.ingest(message("Company", "partial", {"credit_balances": {"ct": 5}}, "comp"))
    assert world.core.company_balance("comp", "ct") == 5
    world.core.ingest(message("Company", "partial", {"credit_balances": {"ct": 7}}, "unknown"))
    assert world.core.counts()["companies"] == 1
    world.core.ingest(message("Company", "delete", None, "comp"))
    assert world.core.check_flag("inference", {"id": "acme"}) == "company"


def test_an_error_message_names_the_keys_whose_waiters_fail() -> None:
    ingested = World().core.ingest(
        message(
            "Company",
            "error",
            {"error": "not found", "keys": {"id": "zzz"}, "entity_type": "rulesengine.Company"},
        )
    )
    assert (ingested.error, ingested.keys) == ("not found", {"id": "zzz"})
