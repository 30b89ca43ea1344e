"""The management calls of the API: companies, users, credits, plans, features, flags, tokens.

What they change is pushed over the DataStream like every other change. There is no catalogue behind
them: plans, features and credit types are those that the seed's companies and flags name, and a
company that is put on a plan gets the entitlements of another that is on it.
"""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from schematic_native.emulator import answers, details
from schematic_native.emulator.clock import format_instant
from schematic_native.emulator.datastream import COMPANY, USER
from schematic_native.emulator.errors import InvalidRequestError, UnknownIdError
from schematic_native.emulator.rest import require_key

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from schematic_native.emulator.datastream import DataStream
    from schematic_native.emulator.service import Service

Entity = dict[str, Any]
Handle = "Callable[[Request], Awaitable[Any]]"

_TOKEN_LIFETIME = 900.0  # seconds
_PAGE, _LONGEST_PAGE = 100, 250
_KEY = re.compile(r"keys\[(.+)\]")
# The credits of an entitlement: a company that is new to a plan has none yet.
_CREDITS = ("credit_total", "credit_used", "credit_remaining", "credit_reserved", "credit_settled")


def routes(service: Service, stream: DataStream) -> list[Route]:
    """Return the routes over one service."""
    management = _Management(service, stream)

    def route(method: str, path: str, handle: Callable[[Request], Awaitable[Any]]) -> Route:
        async def endpoint(request: Request) -> Response:
            require_key(service, request.headers.get("x-schematic-api-key"))
            return answers.wrapped(await handle(request))

        return Route(path, endpoint, methods=[method])

    found = []
    for kind, path in (("company", "/companies"), ("user", "/users")):
        entities = _Entities(management, kind)
        found += [
            route("POST", path, entities.upsert),
            route("POST", f"{path}/create", entities.upsert),
            route("GET", path, entities.page),
            route("GET", f"{path}/count", entities.count),
            route("GET", f"{path}/lookup", entities.lookup),
            route("POST", f"{path}/delete", entities.delete_by_keys),
            route("GET", path + "/{id}", entities.get),
            route("DELETE", path + "/{id}", entities.delete),
            route("POST", f"/{kind}-traits", entities.set_trait),
        ]
    return [
        *found,
        route("GET", "/plans", management.plans),
        route("GET", "/plans/count", management.count_plans),
        route("GET", "/plans/{id}", management.plan),
        route("GET", "/features", management.features),
        route("GET", "/features/count", management.count_features),
        route("GET", "/features/{id}", management.feature),
        route("GET", "/flags", management.flags),
        route("GET", "/flags/count", management.count_flags),
        route("GET", "/flags/{id}", management.flag),
        route("GET", "/billing/credits", management.credits),
        route("GET", "/billing/credits/count", management.count_credits),
        route("GET", "/billing/credits/balance", management.balances),
        route("POST", "/billing/credits/grants/company", management.grant),
        route("GET", "/billing/credits/grants/company/list", management.company_grants),
        route("GET", "/billing/credits/grants/company/count", management.count_company_grants),
        route("GET", "/billing/credits/grants/list", management.credit_grants),
        route("PUT", "/billing/credits/grants/{id}/zero-out", management.zero_out),
        route("GET", "/billing/credits/{id}", management.credit),
        route("POST", "/temporary-access-tokens", management.issue_token),
    ]


class _Management:
    """One handler for each call."""

    def __init__(self, service: Service, stream: DataStream) -> None:
        self.service = service
        self.stream = stream

    # Plans, features, flags

    async def plans(self, request: Request) -> Any:
        found = _page(request, self._plans(request))
        return details.every(details.plan, self.service, found)

    async def count_plans(self, request: Request) -> Any:
        return {"count": len(self._plans(request))}

    def _plans(self, request: Request) -> list[str]:
        _check_filters(request, "ids", "q", "plan_type")
        if request.query_params.get("plan_type", "plan") != "plan":
            return []
        return _selected(request, {plan: plan for plan in self.service.directory.plans()})

    async def plan(self, request: Request) -> Any:
        return details.plan(self.service, _known(request, "plan", self.service.directory.plans()))

    async def features(self, request: Request) -> Any:
        found = _page(request, self._features(request))
        return details.every(details.feature, self.service, found)

    async def count_features(self, request: Request) -> Any:
        return {"count": len(self._features(request))}

    def _features(self, request: Request) -> list[str]:
        _check_filters(request, "ids", "q")
        found = details.features(self.service)
        return _selected(request, {name: each["feature_key"] for name, each in found.items()})

    async def feature(self, request: Request) -> Any:
        found = details.features(self.service)
        return details.feature(self.service, _known(request, "feature", found))

    async def flags(self, request: Request) -> Any:
        flags = self.service.directory.flags
        return [details.flag(flags[each]) for each in _page(request, self._flags(request))]

    async def count_flags(self, request: Request) -> Any:
        return {"count": len(self._flags(request))}

    def _flags(self, request: Request) -> list[str]:
        _check_filters(request, "ids", "q")
        flags = self.service.directory.flags
        return _selected(request, {name: flag["key"] for name, flag in flags.items()})

    async def flag(self, request: Request) -> Any:
        flags = self.service.directory.flags
        return details.flag(flags[_known(request, "flag", flags)])

    # Credits

    async def credits(self, request: Request) -> Any:
        return [details.credit(each) for each in _page(request, self._credits(request))]

    async def count_credits(self, request: Request) -> Any:
        return {"count": len(self._credits(request))}

    def _credits(self, request: Request) -> list[str]:
        _check_filters(request, "ids", "name")
        name = request.query_params.get("name")
        found = _selected(request, {credit: credit for credit in self.service.credit_types()})
        return [credit for credit in found if name in (None, credit)]

    async def credit(self, request: Request) -> Any:
        return details.credit(_known(request, "credit type", self.service.credit_types()))

    async def balances(self, request: Request) -> Any:
        self.service.sweep()
        return details.balances(self.service, self._company_asked(request))

    async def grant(self, request: Request) -> Any:
        body = await answers.read_object(request)
        self._refuse(body, "renewal_enabled", "renewal_period", "billing_periods_count")
        self._refuse(body, "credit_bundle_id", "expiry_unit", "expiry_unit_count")
        given = self.service.grant_credits(
            answers.text(body, "company_id"),
            answers.text(body, "credit_id"),
            answers.number(body, "quantity"),
            answers.text(body, "reason"),
            answers.instant(body, "expires_at"),
        )
        return details.grant(self.service, given)

    def _refuse(self, body: Entity, *names: str) -> None:
        for name in names:
            if body.get(name):
                raise InvalidRequestError(f"the emulator does not know {name} of a grant")

    async def company_grants(self, request: Request) -> Any:
        grants = self._company_grants(request)
        found = [details.grant(self.service, grants[each]) for each in grants]
        order = request.query_params.get("order", "created_at")
        if order not in {"created_at", "expires_at", "quantity", "quantity_remaining"}:
            raise InvalidRequestError(f"the emulator does not order grants by {order}")
        backwards = request.query_params.get("dir", "asc") == "desc"
        found.sort(key=lambda each: (each[order] is None, each[order] or 0), reverse=backwards)
        return _page(request, found)

    async def count_company_grants(self, request: Request) -> Any:
        return {"count": len(self._company_grants(request))}

    def _company_grants(self, request: Request) -> Any:
        _check_filters(request, "company_id", "order", "dir")
        self.service.sweep()
        company_id = self._company_asked(request)
        grants = self.service.grants.by_id
        return {name: each for name, each in grants.items() if each.company_id == company_id}

    async def credit_grants(self, request: Request) -> Any:
        _check_filters(request, "credit_id", "ids")
        self.service.sweep()
        credit, grants = request.query_params.get("credit_id"), self.service.grants.by_id
        found = _selected(request, {name: name for name in grants}, keep_order=True)
        found = [each for each in found if credit in (None, grants[each].credit_type_id)]
        return [details.grant(self.service, grants[each]) for each in _page(request, found)]

    async def zero_out(self, request: Request) -> Any:
        body = await answers.read_object(request)
        reason = answers.optional_text(body, "reason") or "zeroed_out"
        given = self.service.zero_out_grant(request.path_params["id"], reason)
        return details.grant(self.service, given)

    def _company_asked(self, request: Request) -> str:
        company_id = request.query_params.get("company_id", "")
        if company_id not in self.service.directory.companies:
            raise UnknownIdError(f"company not found: {company_id}")
        return company_id

    # Tokens

    async def issue_token(self, request: Request) -> Any:
        body = await answers.read_object(request)
        if body.get("resource_type", "company") != "company":
            raise InvalidRequestError("resource_type must be company")
        company_id = self.service.directory.company_id(answers.keys(body, "lookup"))
        if company_id is None:
            raise UnknownIdError("company not found: no company has these keys")
        return details.token(self.service, self.service.issue_token(company_id, _TOKEN_LIFETIME))


class _Entities:
    """The calls about companies, or about users."""

    def __init__(self, management: _Management, kind: str) -> None:
        self._management = management
        self._service = management.service
        self._kind = kind
        directory = self._service.directory
        self._all = directory.companies if kind == "company" else directory.users
        self._find = directory.company_id if kind == "company" else directory.user_id
        self._write = details.company if kind == "company" else details.user
        self._type = COMPANY if kind == "company" else USER

    # Reading

    async def get(self, request: Request) -> Any:
        return self._write(self._service, _known(request, self._kind, self._all))

    async def page(self, request: Request) -> Any:
        return details.every(self._write, self._service, _page(request, self._selected(request)))

    async def count(self, request: Request) -> Any:
        return {"count": len(self._selected(request))}

    def _selected(self, request: Request) -> list[str]:
        member = "plan_id" if self._kind == "company" else "company_id"
        _check_filters(request, "ids", "q", member)
        records = self._service.directory.records

        def text(entity: Entity) -> str:
            name = records.get(entity["id"], {}).get("name") or ""
            return " ".join([entity["id"], name, *(entity.get("keys") or {}).values()])

        found = _selected(request, {name: text(entity) for name, entity in self._all.items()})
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
        return self._upsert(await answers.read_object(request))

    def _upsert(self, body: Entity) -> Any:
        keys = answers.keys(body, "keys") or {}
        entity_id, found = answers.optional_text(body, "id"), self._find(keys)
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
        service, stream = self._service, self._management.stream
        now = format_instant(service.clock.now())
        record = dict(service.directory.records.get(entity["id"]) or {"created_at": now})
        record["updated_at"] = now
        record |= {name: body[name] for name in ("name", "last_seen_at") if body.get(name)}
        if self._kind == "user":
            record["members"] = self._members(record, body)
        elif body.get("base_plan_id"):
            self._enter_plan(entity, answers.text(body, "base_plan_id"))
        entity["record"] = record
        stream.push_moved()  # what moved before must not arrive after the whole entity
        if self._kind == "company":
            # The balances are the ledger's; those that an entity names are opening balances.
            entity.pop("credit_balances", None)
            service.set_company(entity)
        else:
            service.set_user(entity)
        stream.push_full(self._type, entity["id"])

    def _members(self, record: Entity, body: Entity) -> list[str]:
        """Return the companies of a user; those that are named by keys are made if need be."""
        companies = _Entities(self._management, "company")
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
        body = await answers.read_object(request)
        name = answers.text(body, "trait")
        keys = answers.keys(body, "keys")
        entity_id = self._find(keys)
        value: object = body.get("set")
        if body.get("incr") is not None:
            traits = {} if entity_id is None else self._write(self._service, entity_id)["traits"]
            before = traits.get(name, 0)
            if not isinstance(before, int):
                raise InvalidRequestError(f"the trait {name} is no number: {before!r}")
            value = before + int(answers.number(body, "incr"))
        update_only = body.get("update_only")
        return self._upsert({"keys": keys, "traits": {name: value}, "update_only": update_only})

    async def delete(self, request: Request) -> Any:
        self._delete(request.path_params["id"])
        return {"deleted": True}

    async def delete_by_keys(self, request: Request) -> Any:
        body = await answers.read_object(request)
        entity_id = self._named(answers.keys(body, "keys"))
        told = details.brief(self._service, self._all[entity_id])
        self._delete(entity_id)
        return told

    def _delete(self, entity_id: str) -> None:
        self._service.delete(self._kind, entity_id)
        self._management.stream.push_delete(self._type, entity_id)


def _known(request: Request, kind: str, known: Any) -> str:
    name: str = request.path_params["id"]
    if name not in known:
        raise UnknownIdError(f"{kind} not found: {name}")
    return name


def _check_filters(request: Request, *names: str) -> None:
    """Refuse a filter that would not take effect."""
    for name in request.query_params:
        if name not in {*names, "limit", "offset"}:
            raise InvalidRequestError(
                f"the emulator does not know {name} at {request.url.path}; "
                f"it knows {', '.join([*names, 'limit', 'offset'])}"
            )


def _selected(request: Request, known: dict[str, str], *, keep_order: bool = False) -> list[str]:
    """Return the ids that a request asks for; `known` is the text of each that is searched."""
    ids, words = request.query_params.getlist("ids"), request.query_params.get("q", "").lower()
    found = [
        name for name, text in known.items() if (not ids or name in ids) and words in text.lower()
    ]
    return found if keep_order else sorted(found)


def _page(request: Request, found: Sequence[Any]) -> Sequence[Any]:
    """Return the part that `limit` and `offset` name."""
    try:
        limit = int(request.query_params.get("limit", _PAGE))
        offset = int(request.query_params.get("offset", 0))
    except ValueError as error:
        raise InvalidRequestError(f"limit and offset must be whole numbers: {error}") from error
    if not 0 < limit <= _LONGEST_PAGE or offset < 0:
        raise InvalidRequestError(f"limit must be 1 to {_LONGEST_PAGE}, and offset 0 or more")
    return found[offset : offset + limit]


def _comparable_type(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    return "int" if isinstance(value, int) else "string"


def _text(value: object) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
