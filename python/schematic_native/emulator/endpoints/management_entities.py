"""The management calls about companies and users: look up, upsert, traits, delete.

What they change is pushed over the DataStream like every other change. Balances are the ledger's: no
call in here changes one.
"""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Any

from schematic_native.emulator.clock import format_instant
from schematic_native.emulator.endpoints import management_responses, query, request_body
from schematic_native.emulator.endpoints.datastream import COMPANY, USER
from schematic_native.emulator.endpoints.keyed_routes import keyed_routes
from schematic_native.emulator.errors import InvalidRequestError, UnknownIdError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import Route

    from schematic_native.emulator.endpoints.datastream import DataStream
    from schematic_native.emulator.state.service import Service

Entity = dict[str, Any]

_KEY = re.compile(r"keys\[(.+)\]")
# The credits of an entitlement: a company that is new to a plan has none yet.
_CREDITS = ("credit_total", "credit_used", "credit_remaining", "credit_reserved", "credit_settled")


def routes(service: Service, stream: DataStream) -> list[Route]:
    """Return the routes over one service."""
    return [
        route
        for kind, path in (("company", "/companies"), ("user", "/users"))
        for route in _routes(_Entities(service, stream, kind), service, kind, path)
    ]


def _routes(entities: _Entities, service: Service, kind: str, path: str) -> list[Route]:
    return keyed_routes(
        service,
        [
            ("POST", path, entities.upsert),
            ("POST", f"{path}/create", entities.upsert),
            ("GET", path, entities.page),
            ("GET", f"{path}/count", entities.count),
            ("GET", f"{path}/lookup", entities.lookup),
            ("POST", f"{path}/delete", entities.delete_by_keys),
            ("GET", path + "/{id}", entities.get),
            ("DELETE", path + "/{id}", entities.delete),
            ("POST", f"/{kind}-traits", entities.set_trait),
        ],
    )


class _Entities:
    """The calls about companies, or about users: one handler for each."""

    def __init__(self, service: Service, stream: DataStream, kind: str) -> None:
        self._service = service
        self._stream = stream
        self._kind = kind
        is_company = kind == "company"
        self._write = management_responses.company if is_company else management_responses.user
        self._type = COMPANY if is_company else USER

    @property
    def _all(self) -> dict[str, Entity]:
        directory = self._service.directory
        return directory.companies if self._kind == "company" else directory.users

    def _find(self, keys: dict[str, str] | None) -> str | None:
        directory = self._service.directory
        return directory.company_id(keys) if self._kind == "company" else directory.user_id(keys)

    # Reading

    async def get(self, request: Request) -> Any:
        return self._write(self._service, query.known(request, self._kind, self._all))

    async def page(self, request: Request) -> Any:
        return management_responses.every(
            self._write, self._service, query.page(request, self._selected(request))
        )

    async def count(self, request: Request) -> Any:
        return {"count": len(self._selected(request))}

    def _selected(self, request: Request) -> list[str]:
        member = "plan_id" if self._kind == "company" else "company_id"
        query.check_filters(request, "ids", "q", member)
        records = self._service.directory.records

        def text(entity: Entity) -> str:
            name = records.get(entity["id"], {}).get("name") or ""
            return " ".join([entity["id"], name, *(entity.get("keys") or {}).values()])

        found = query.selected(request, {name: text(entity) for name, entity in self._all.items()})
        wanted = request.query_params.get(member)
        if wanted is None:
            return found
        if self._kind == "company":
            return [each for each in found if wanted in (self._all[each].get("plan_ids") or [])]
        return [each for each in found if wanted in records.get(each, {}).get("members", ())]

    async def lookup(self, request: Request) -> Any:
        pairs = request.query_params.multi_items()
        keys = {match[1]: value for name, value in pairs if (match := _KEY.fullmatch(name))}
        return self._write(self._service, self._named(keys))

    def _named(self, keys: dict[str, str] | None) -> str:
        entity_id = self._find(keys)
        if entity_id is None:
            raise UnknownIdError(f"{self._kind} not found: none has the keys {keys}")
        return entity_id

    # Changing

    async def upsert(self, request: Request) -> Any:
        return self._upsert(await request_body.read_object(request))

    def _upsert(self, body: Entity) -> Any:
        keys = request_body.keys(body, "keys") or {}
        entity_id, found = request_body.optional_text(body, "id"), self._find(keys)
        if entity_id is not None and entity_id not in self._all:
            raise UnknownIdError(f"{self._kind} not found: {entity_id}")
        if entity_id is not None and found not in (None, entity_id):
            raise InvalidRequestError(f"the keys belong to another {self._kind}: {found}")
        entity_id = entity_id or found
        if entity_id is None and body.get("update_only"):
            raise UnknownIdError(f"{self._kind} not found: none has the keys {keys}")
        if entity_id is None and not keys:
            raise InvalidRequestError("keys must hold at least one key")
        entity = self._new() if entity_id is None else dict(self._all[entity_id])
        removed = body.get("remove_keys") or []
        entity["keys"] = {
            name: value
            for name, value in {**(entity.get("keys") or {}), **keys}.items()
            if name not in removed
        }
        self._set_traits(entity, body.get("traits") or {})
        self._put(entity, body)
        return self._write(self._service, entity["id"])

    def _new(self) -> Entity:
        account_id, environment_id = self._service.directory.owner()
        prefix = "comp" if self._kind == "company" else "user"
        return {
            "id": f"{prefix}_{secrets.token_hex(10)}",
            "account_id": account_id,
            "environment_id": environment_id,
            "keys": {},
            "traits": [],
            "rules": [],
        }

    def _put(self, entity: Entity, body: Entity) -> None:
        """Store a changed entity, and tell who follows it."""
        service, stream = self._service, self._stream
        now = format_instant(service.clock.now())
        record = dict(service.directory.records.get(entity["id"]) or {"created_at": now})
        record["updated_at"] = now
        record |= {name: body[name] for name in ("name", "last_seen_at") if body.get(name)}
        if self._kind == "user":
            record["members"] = self._members(record, body)
        elif body.get("base_plan_id"):
            self._enter_plan(entity, request_body.text(body, "base_plan_id"))
        entity["record"] = record
        stream.push_changes()  # what changed before must not arrive after the whole entity
        if self._kind == "company":
            # The balances are the ledger's; those that an entity names are opening balances.
            entity.pop("credit_balances", None)
            service.set_company(entity)
        else:
            service.set_user(entity)
        stream.push_full(self._type, entity["id"])

    def _members(self, record: Entity, body: Entity) -> list[str]:
        """Return the companies of a user; those that are named by keys are made if need be."""
        companies = _Entities(self._service, self._stream, "company")
        named = [
            *([body["company"]] if body.get("company") else []),
            *(body.get("companies") or []),
        ]
        ids = [
            *([body["company_id"]] if body.get("company_id") else []),
            *body.get("company_ids", []),
        ]
        for company_id in ids:
            if company_id not in self._service.directory.companies:
                raise UnknownIdError(f"company not found: {company_id}")
        found = [companies._upsert({"keys": keys})["id"] for keys in named]
        return list(dict.fromkeys([*record.get("members", ()), *ids, *found]))

    def _enter_plan(self, company: Entity, plan: str) -> None:
        if plan not in self._service.directory.plans():
            raise UnknownIdError(f"plan not found: {plan}")
        if company.get("base_plan_id") == plan:
            return
        others = [c for c in self._all.values() if c.get("base_plan_id") == plan]
        left = {company.get("base_plan_id")}
        kept = [each for each in company.get("plan_ids") or [] if each not in left | {plan}]
        company["base_plan_id"], company["plan_ids"] = plan, [plan, *kept]
        for other in others[:1]:
            company["plan_version_ids"] = other.get("plan_version_ids") or []
            company["entitlements"] = [
                {
                    **entitlement,
                    **{name: 0 for name in (*_CREDITS, "usage") if entitlement.get(name)},
                }
                for entitlement in other.get("entitlements") or []
            ]

    def _set_traits(self, entity: Entity, traits: Entity) -> None:
        """Set traits by the ids of their definitions, which are made if need be; null removes."""
        if not isinstance(traits, dict):
            raise InvalidRequestError(f"traits must be an object, got {traits!r}")
        known = {
            trait["trait_definition"]["id"]: trait
            for trait in entity.get("traits") or []
            if trait.get("trait_definition")
        }
        for name, value in traits.items():
            if value is None:
                known.pop(name, None)
                continue
            definition = known.get(name, {}).get("trait_definition") or {
                "id": name,
                "comparable_type": _comparable_type(value),
                "entity_type": self._kind,
            }
            known[name] = {"value": _text(value), "trait_definition": definition}
        entity["traits"] = list(known.values())

    async def set_trait(self, request: Request) -> Any:
        body = await request_body.read_object(request)
        name = request_body.text(body, "trait")
        keys = request_body.keys(body, "keys")
        entity_id = self._find(keys)
        value: object = body.get("set")
        if body.get("incr") is not None:
            traits = {} if entity_id is None else self._write(self._service, entity_id)["traits"]
            before = traits.get(name, 0)
            if not isinstance(before, int):
                raise InvalidRequestError(f"the trait {name} is no number: {before!r}")
            value = before + int(request_body.number(body, "incr"))
        update_only = body.get("update_only")
        return self._upsert({"keys": keys, "traits": {name: value}, "update_only": update_only})

    async def delete(self, request: Request) -> Any:
        self._delete(request.path_params["id"])
        return {"deleted": True}

    async def delete_by_keys(self, request: Request) -> Any:
        body = await request_body.read_object(request)
        entity_id = self._named(request_body.keys(body, "keys"))
        told = management_responses.brief(self._service, self._all[entity_id])
        self._delete(entity_id)
        return told

    def _delete(self, entity_id: str) -> None:
        self._service.delete(self._kind, entity_id)
        self._stream.push_delete(self._type, entity_id)


def _comparable_type(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    return "int" if isinstance(value, int) else "string"


def _text(value: object) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
