"""Flag evaluation for the REST endpoints, by the package's own rules engine."""

from __future__ import annotations

from typing import Any

from schematic_native._native import check_flag_json
from schematic_native.ground import json_text

Entity = dict[str, Any]

# The engine's names for what the REST API calls otherwise; other names only lose their camel case.
_RENAMED = {"flagKey": "flag", "err": "error"}


def evaluate(
    flag: Entity, company: Entity | None, user: Entity | None, options: Entity, now: float
) -> Entity:
    """Evaluate one flag at `now` (epoch seconds) and return the data of a check answer.

    Raises:
        ValueError: The engine refuses an entity or the options.

    """
    envelope = {"flag": flag, "company": company, "user": user, "options": options}
    result = json_text.read(check_flag_json(json_text.write(envelope), now=now))
    data = {_RENAMED.get(k) or _snake(k): v for k, v in result.items() if v is not None}
    entitlement = data.get("entitlement")
    if entitlement is not None:
        data["entitlement"] = {_snake(name): value for name, value in entitlement.items()}
    data.pop("credit_spend_policy", None)
    return data


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
