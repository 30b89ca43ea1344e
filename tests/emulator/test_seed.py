"""Seeds: what the documentation promises of them, and how a wrong one is refused."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest

from schematic_native.emulator import SeedError
from schematic_native.emulator.seed import load_seed

EXAMPLE = Path(__file__).parents[2] / "examples" / "inference.json"


@pytest.fixture
def seed() -> dict[str, Any]:
    """The seed that ships, as a mapping to spoil."""
    return json.loads(EXAMPLE.read_text())


def test_the_example_is_the_seed_that_ships() -> None:
    assert load_seed(EXAMPLE) == load_seed()
    shipped = Path(load_seed.__code__.co_filename).with_name("inference.json")
    assert shipped.read_bytes() == EXAMPLE.read_bytes()


def test_a_seed_has_what_the_documentation_promises() -> None:
    seed = load_seed()
    assert seed.api_key == "sch_dev_emulator"
    assert "inference" in [flag["key"] for flag in seed.flags]
    acme = next(company for company in seed.companies if company["keys"] == {"id": "acme"})
    entitlement = acme["entitlements"][0]
    assert (entitlement["value_type"], entitlement["event_subtype"]) == (
        "credit",
        "inference_tokens",
    )
    assert acme["credit_balances"][entitlement["credit_id"]] >= 1_000_000


def spoil(seed: dict[str, Any], path: list[str | int], value: object) -> dict[str, Any]:
    spoiled = copy.deepcopy(seed)
    place: Any = spoiled
    for step in path[:-1]:
        place = place[step]
    if value is KeyError:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return spoiled


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["api_key"], KeyError, r"^api_key: expected a non-empty string, got nothing"),
        (["api_key"], "", r"^api_key: expected a non-empty string, got ''"),
        (["flags"], {}, r"^flags: expected a list"),
        (["planets"], [], r"^planets: unknown; a seed has api_key"),
        (["flags", 0, "key"], KeyError, r"^flags\[0\]\.key: missing"),
        (["flags", 0, "id"], "", r"^flags\[0\]\.id: expected a non-empty string"),
        (
            ["flags", 1, "id"],
            "flag_inference",
            r"^flags\[1\]: id 'flag_inference' is taken by flags\[0\]",
        ),
        (["flags", 1, "key"], "Inference", r"^flags\[1\]: key 'inference' is taken"),
        (
            ["flags", 0, "default_value"],
            "no",
            r"^flags\[0\]\.default_value: expected true or false",
        ),
        (
            ["flags", 0, "rules", 0, "rule_type"],
            "magic",
            r"rule_type: expected one of global_override",
        ),
        (["flags", 0, "rules", 0, "priority"], 1.0, r"priority: expected a whole number"),
        (
            ["flags", 0, "rules", 0, "conditions", 1, "consumption_rate"],
            -1,
            r"^flags\[0\]\.rules\[0\]\.conditions\[1\]\.consumption_rate: expected a rate",
        ),
        (
            ["flags", 0, "rules", 0, "conditions", 0, "trait_value"],
            None,
            r"trait_value: expected a string",
        ),
        (["companies", 0], 7, r"^companies\[0\]: expected an object, got 7"),
        (
            ["companies", 1, "keys", "id"],
            "ACME",
            r"^companies\[1\]: key id 'acme' is taken by companies\[0\]",
        ),
        (
            ["companies", 0, "credit_balances", "credit_inference"],
            "lots",
            r"^companies\[0\]\.credit_balances\.credit_inference: expected an amount",
        ),
        (
            ["companies", 0, "metrics", 0, "period"],
            "century",
            r"metrics\[0\]\.period: expected one of all_time",
        ),
        (
            ["companies", 0, "entitlements", 0, "value_type"],
            3,
            r"entitlements\[0\]\.value_type: expected one of",
        ),
        (
            ["companies", 0, "traits", 0, "value"],
            3,
            r"traits\[0\]\.value: expected a string, got 3",
        ),
        (
            ["companies", 0, "subscription", "period_end"],
            KeyError,
            r"subscription\.period_end: missing",
        ),
        (["users", 0, "keys"], ["id"], r"^users\[0\]\.keys: expected an object"),
    ],
)
def test_a_bad_seed_is_refused_by_the_place(
    seed: dict[str, Any], path: list[str | int], value: object, message: str
) -> None:
    with pytest.raises(SeedError, match=message):
        load_seed(spoil(seed, path, value))


def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "seed.json"
    file.write_text("{")
    with pytest.raises(SeedError, match="not valid JSON"):
        load_seed(file)
    with pytest.raises(SeedError, match="JSON values only"):
        load_seed({"api_key": object()})
    with pytest.raises(SeedError, match="expected an object"):
        load_seed(
            {
                "api_key": "k",
                "users": [{"id": "u", "account_id": "", "environment_id": "", "keys": math.pi}],
            }
        )


def test_nulls_and_unknown_fields_are_as_the_service_sends_them(seed: dict[str, Any]) -> None:
    seed["companies"][0].update(rules=None, traits=None, credit_postpaid={"x": None}, news=1)
    seed["flags"][0]["rules"][0]["conditions"][0]["quantity_rates"] = {"a": None}
    assert load_seed(seed).companies[0]["news"] == 1


def test_a_seed_needs_an_api_key_and_nothing_else() -> None:
    assert load_seed({"api_key": "k"}).companies == []
