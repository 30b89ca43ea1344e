"""Flags, companies and users: found by id or key, and written as DataStream sends them.

Balances belong to the ledger and come in as arguments; metrics live here, in the very rows that are
sent. What an event costs is for `metering` to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from schematic_native.emulator.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Entity = dict[str, Any]
# The fields of a metric row that conditions and entitlements find it by.
RowName = tuple[str, str, str]  # event subtype, period, month reset


class KeyConflictError(ServiceError):
    """Lookup keys that belong to different entities."""

    status = 400


@dataclass(frozen=True)
class CreditLine:
    """What one company has of one credit type, in credits."""

    remaining: float
    reserved: float
    settled: float
    total: float


class Directory:
    """Every entity by id and by lookup key; key names and values compare without case."""

    def __init__(self) -> None:
        self.flags: dict[str, Entity] = {}
        self.companies: dict[str, Entity] = {}
        self.users: dict[str, Entity] = {}
        # What the API tells of companies and users beyond the DataStream: names and instants.
        self.records: dict[str, Entity] = {}
        self._flag_ids: dict[str, str] = {}
        self._company_ids: dict[tuple[str, str], str] = {}
        self._user_ids: dict[tuple[str, str], str] = {}

    # Flags

    def put_flag(self, flag: Entity) -> None:
        """Add a flag or replace the one with its id."""
        self.drop_flag(flag["id"])
        self.flags[flag["id"]] = flag
        self._flag_ids[flag["key"].lower()] = flag["id"]

    def drop_flag(self, flag_id: str) -> Entity | None:
        """Forget a flag and return it."""
        flag = self.flags.pop(flag_id, None)
        if flag is not None:
            self._flag_ids.pop(flag["key"].lower(), None)
        return flag

    def flag(self, key: str) -> Entity | None:
        """Return the flag of a key, whatever its case."""
        flag_id = self._flag_ids.get(key.lower())
        return None if flag_id is None else self.flags[flag_id]

    # Companies and users

    def put_company(self, company: Entity) -> None:
        """Add a company or replace the one with its id."""
        record = company.pop("record", None) or self.records.get(company["id"])
        self.drop_company(company["id"])
        if record is not None:
            self.records[company["id"]] = record
        company["metrics"] = list(company.get("metrics") or [])
        self.companies[company["id"]] = company
        _index(self._company_ids, company)

    def drop_company(self, company_id: str) -> Entity | None:
        """Forget a company and return it."""
        company = self.companies.pop(company_id, None)
        self.records.pop(company_id, None)
        _unindex(self._company_ids, company)
        return company

    def put_user(self, user: Entity) -> None:
        """Add a user or replace the one with its id."""
        record = user.pop("record", None) or self.records.get(user["id"])
        self.drop_user(user["id"])
        if record is not None:
            self.records[user["id"]] = record
        self.users[user["id"]] = user
        _index(self._user_ids, user)

    def drop_user(self, user_id: str) -> Entity | None:
        """Forget a user and return it."""
        user = self.users.pop(user_id, None)
        self.records.pop(user_id, None)
        _unindex(self._user_ids, user)
        return user

    def company_id(self, keys: Mapping[str, str] | None) -> str | None:
        """Return the id of the company that the keys name, if any.

        Raises:
            KeyConflictError: The keys name different companies.

        """
        return _find(self._company_ids, keys, "companies")

    def user_id(self, keys: Mapping[str, str] | None) -> str | None:
        """Return the id of the user that the keys name, if any.

        Raises:
            KeyConflictError: The keys name different users.

        """
        return _find(self._user_ids, keys, "users")

    def merge(self, entity: Entity, keys: Mapping[str, str], traits: Mapping[str, Any]) -> Entity:
        """Merge identified keys and traits into a company or user; return the fields that changed.

        A trait is known by its definition's id; others have no definition and are left out.
        """
        index = self._company_ids if entity["id"] in self.companies else self._user_ids
        changed: Entity = {}
        known = entity.get("keys") or {}
        fresh = {
            name: value
            for name, value in keys.items()
            if known.get(name) != value and (name.lower(), value.lower()) not in index
        }
        if fresh:
            _unindex(index, entity)
            entity["keys"] = changed["keys"] = {**known, **fresh}
            _index(index, entity)
        for trait in entity.get("traits") or []:
            name = (trait.get("trait_definition") or {}).get("id") or ""
            if name in traits and trait["value"] != (text := _trait_text(traits[name])):
                trait["value"] = text
                changed["traits"] = entity["traits"]
        return changed

    # What entities name

    def conditions(self, company: Entity | None) -> Iterator[Entity]:
        """Yield the conditions of a company's own rules, if one is given, and of all flags."""
        for holder in [*([company] if company else []), *self.flags.values()]:
            for rule in holder.get("rules") or []:
                yield from rule.get("conditions") or []
                for group in rule.get("condition_groups") or []:
                    yield from group.get("conditions") or []

    def credit_types(self) -> set[str]:
        """Return the credit types that entitlements and conditions name."""
        companies = list(self.companies.values())
        named = [e for company in companies for e in company.get("entitlements") or []]
        named += [c for holder in [None, *companies] for c in self.conditions(holder)]
        return {each["credit_id"] for each in named if each.get("credit_id")}

    def plans(self) -> set[str]:
        """Return the plans that companies are on and conditions name."""
        plans: set[str] = set()
        for company in self.companies.values():
            plans.update(plan for plan in [company.get("base_plan_id")] if plan)
            plans.update(company.get("plan_ids") or [])
        for holder in [None, *self.companies.values()]:
            for condition in self.conditions(holder):
                if condition["condition_type"] in {"plan", "base_plan"}:
                    plans.update(condition.get("resource_ids") or [])
        return plans

    def owner(self) -> tuple[str, str]:
        """Return the account and the environment that everything here belongs to."""
        for entities in (self.flags, self.companies, self.users):
            for entity in entities.values():
                return entity["account_id"], entity["environment_id"]
        return "acct_demo", "env_demo"

    # The wire

    def company_wire(self, company_id: str, lines: Mapping[str, CreditLine]) -> Entity:
        """Return a company as DataStream sends it, with its current balances, metrics and usage."""
        company = dict(self.companies[company_id])
        company["credit_balances"] = {credit: line.remaining for credit, line in lines.items()}
        if company.get("entitlements"):
            rows = {row_name(row): row["value"] for row in reversed(company["metrics"])}
            company["entitlements"] = [
                _current(entitlement, rows, lines) for entitlement in company["entitlements"]
            ]
        return company


def _current(
    entitlement: Entity, rows: Mapping[RowName, int], lines: Mapping[str, CreditLine]
) -> Entity:
    """Bring up to date what the seed says of usage and credits; what it leaves out stays out."""
    current = dict(entitlement)
    usage = rows.get(entitlement_row(entitlement))
    if usage is not None and entitlement.get("usage") is not None:
        current["usage"] = usage
    line = lines.get(entitlement.get("credit_id") or "")
    if line is not None:
        values = {
            "credit_remaining": line.remaining,
            "credit_reserved": line.reserved,
            "credit_settled": line.settled,
            "credit_used": line.total - line.remaining,
            "credit_total": line.total,
        }
        current.update({name: v for name, v in values.items() if entitlement.get(name) is not None})
    return current


def row_name(row: Entity) -> RowName:
    """Return what conditions and entitlements find a metric row by."""
    return (row["event_subtype"], row["period"], row["month_reset"])


def entitlement_row(entitlement: Entity) -> RowName:
    """Return the name of the metric row that an entitlement reads."""
    return (
        entitlement.get("event_name") or "",
        entitlement.get("metric_period") or "all_time",
        entitlement.get("month_reset") or "first_of_month",
    )


def _trait_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _index(index: dict[tuple[str, str], str], entity: Entity) -> None:
    for name, value in (entity.get("keys") or {}).items():
        index[name.lower(), value.lower()] = entity["id"]


def _unindex(index: dict[tuple[str, str], str], entity: Entity | None) -> None:
    for name, value in ((entity or {}).get("keys") or {}).items():
        index.pop((name.lower(), value.lower()), None)


def _find(
    index: Mapping[tuple[str, str], str], keys: Mapping[str, str] | None, what: str
) -> str | None:
    found: str | None = None
    for name, value in (keys or {}).items():
        entity_id = index.get((name.lower(), value.lower()))
        if entity_id is not None and found is not None and entity_id != found:
            raise KeyConflictError(f"key conflict: the keys name different {what}")
        found = entity_id or found
    return found
