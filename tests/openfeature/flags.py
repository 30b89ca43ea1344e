"""Flags, their rules, and the company that has them, as the emulator is told of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from schematic_native.emulator import Emulator


def flag(key: str, *rules: dict[str, Any], default: bool = False) -> dict[str, Any]:
    ids = {"account_id": "acct_demo", "environment_id": "env_demo"}
    return {
        "id": f"flag_{key}",
        **ids,
        "key": key,
        "default_value": default,
        "rules": [{"condition_groups": [], "flag_id": None, "priority": 0, **ids, **rule} for rule in rules],
    }  # fmt: skip


def rule(kind: str, value: bool, **condition: Any) -> dict[str, Any]:
    ids = {"account_id": "acct_demo", "environment_id": "env_demo"}
    conditions = [
        {"id": "cond", **ids, "operator": "eq", "trait_value": "", **condition}
    ] if condition else []  # fmt: skip
    return {"id": f"rule_{kind}", "name": kind, "rule_type": kind, "value": value,
            "conditions": conditions}  # fmt: skip


def for_company(company_id: str, value: bool) -> dict[str, Any]:
    return rule("company_override", value, condition_type="company", resource_ids=[company_id])


def entitle(emulator: Emulator, key: str, **entitlement: Any) -> None:
    """Give the company an entitlement to a feature, and the feature a flag."""
    emulator.set_flag(flag(key))
    company = dict(emulator_company(emulator))
    company["entitlements"] = [
        *(company.get("entitlements") or []),
        {"feature_id": f"feat_{key}", "feature_key": key, **entitlement},
    ]
    emulator.set_company(company)


def emulator_company(emulator: Emulator) -> dict[str, Any]:
    import json  # noqa: PLC0415
    from importlib.resources import files  # noqa: PLC0415

    text = files("schematic_native.emulator").joinpath("inference.json").read_text()
    return json.loads(text)["companies"][0]
