"""A `Core` with a clock that the test sets, one flag, one company and one lease."""

from __future__ import annotations

import json

from schematic_native import CheckResult
from schematic_native._native import Core, PendingCheck

SCOPE = {"account_id": "a", "environment_id": "e"}
CREDIT = {
    "id": "c1",
    "condition_type": "credit",
    "operator": "lt",
    "credit_id": "ct",
    "consumption_rate": 2.0,
    "event_subtype": "tokens",
    "trait_value": "",
    **SCOPE,
}
RULE = {
    "id": "r1",
    "name": "plan",
    "rule_type": "plan_entitlement",
    "priority": 0,
    "value": True,
    "conditions": [CREDIT],
    **SCOPE,
}
FLAG = {"id": "f1", "key": "inference", "default_value": False, "rules": [RULE], **SCOPE}
ENTITLEMENT = {
    "feature_id": "feat",
    "feature_key": "inference",
    "value_type": "credit",
    "credit_id": "ct",
    "consumption_rate": 2.0,
    "event_subtype": "tokens",
}
METRIC = {
    "company_id": "comp",
    "event_subtype": "tokens",
    "period": "all_time",
    "month_reset": "first_of_month",
    "value": 5,
    "created_at": "2026-01-01T00:00:00Z",
    **SCOPE,
}
COMPANY = {
    "id": "comp",
    "keys": {"id": "acme"},
    "credit_balances": {"ct": 1000},
    "entitlements": [ENTITLEMENT],
    "metrics": [METRIC],
    **SCOPE,
}


def message(entity: str, kind: str, data: object, entity_id: str | None = None) -> bytes:
    envelope = {
        "entity_type": f"rulesengine.{entity}",
        "message_type": kind,
        "data": data,
        "entity_id": entity_id,
    }
    return json.dumps(envelope).encode()


class World:
    """A core with an injected clock, one flag, one company and, once asked for, one lease."""

    def __init__(self, **settings: object) -> None:
        self.now = 1_000_000.0
        self.woken: list[str] = []
        settings = {"api_key": "k", "lease_size": 1000, "seed": 7} | settings

        def clock() -> float:
            return self.now

        self.stepped = 0.0

        def steady() -> float:
            return self.now - self.stepped

        self.core = Core(clock=clock, steady=steady, wake=self.woken.append, **settings)  # type: ignore[arg-type]
        for entity, data in (("Flags", [FLAG]), ("Company", COMPANY)):
            assert self.core.ingest(message(entity, "full", data)).skipped == []

    def lend(self, granted: float = 1000, lease_id: str = "lease") -> None:
        assert self.core.install_lease("comp", "ct", lease_id, granted, self.now + 300) == lease_id

    def step(self, seconds: float) -> None:
        """Set the wall clock, as an administrator or a time service does."""
        self.now += seconds
        self.stepped += seconds
        self.core.sweep()

    def check(self, usage: float = 10, **options: object) -> CheckResult | PendingCheck:
        return self.core.check("inference", {"id": "acme"}, None, usage, **options)  # type: ignore[arg-type]

    def hold(self, usage: float = 10) -> CheckResult:
        result = self.check(usage)
        assert isinstance(result, CheckResult)
        assert result.reservation is not None
        return result

    def remaining(self) -> float:
        lease = self.core.lease("comp", "ct")
        assert lease is not None
        return lease.remaining

    def events(self) -> list[dict[str, object]]:
        batch = self.core.take_batch()
        return [] if batch is None else json.loads(batch.body)["events"]
