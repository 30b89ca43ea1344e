"""The companies that all processes share, and the emulator's seed with them."""

from __future__ import annotations

import copy
import json
from importlib.resources import files
from typing import Any

FLAG, EVENT, CREDIT = "inference", "inference_tokens", "credit_inference"
# The companies, which all processes share: consumption rate and opening balance, in credits.
COMPANIES = {
    "rich": (2.0, 1e9),
    "fraction": (0.1, 1e9),
    "poor": (2.0, 700.0),
    "seldom": (2.0, 1e9),
}
# How often each is asked for. The last so seldom that its leases expire rather than being extended.
WEIGHTS = (40, 40, 20, 0.05)


def seed_file() -> dict[str, Any]:
    """Make the emulator's seed."""
    text = files("schematic_native.emulator").joinpath("inference.json").read_text()
    seed: dict[str, Any] = json.loads(text)
    acme = next(company for company in seed["companies"] if company["id"] == "comp_acme")
    seed["companies"] = []
    for name, (rate, balance) in COMPANIES.items():
        company = copy.deepcopy(acme)
        company |= {"id": f"comp_{name}", "keys": {"id": name}}
        company["credit_balances"] = {CREDIT: balance}
        for entitlement in company["entitlements"]:
            if entitlement.get("credit_id") == CREDIT:
                entitlement["consumption_rate"] = rate
        seed["companies"].append(company)
    return seed
