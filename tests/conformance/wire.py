"""What was asked of the service since a vector began."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.conformance.service import Request, Service

Seen = dict[str, Any]


class Wire:
    """What was asked of the service since the vector began."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def seen(self) -> Seen:
        acquire, extend = self._service.last("acquire"), self._service.last("extend")
        return {
            "wire_acquires": self._service.count("acquire"),
            "last_acquire_requested_amount": _asked(acquire, "requested_amount"),
            "last_acquire_expires_at_ms": acquire and acquire.asked_end(),
            "wire_extends": self._service.count("extend"),
            "last_extend_lease_id": extend and extend.name,
            "last_extend_additional_amount": _asked(extend, "additional_amount"),
            "last_extend_expires_at_ms": extend and extend.asked_end(),
            "released_lease_ids": self._names("release"),
            "released_reservation_ids": self._names("release_reservation"),
            "reserve_requests": [_reserve(r) for r in self._service.requests if _reserves(r)],
            "plain_requests": [r.body for r in self._service.requests if r.call == "check_flag"],
            "idempotency_keys": self._idempotency_keys(),
        }

    def _names(self, call: str) -> list[str]:
        return [request.name for request in self._service.requests if request.call == call]

    def _idempotency_keys(self) -> list[int]:
        """Number the keys by their first use: [1, 1, 2] are a call, its retry and another call."""
        bodies = [request.body for request in self._service.requests]
        keys = [body["idempotency_key"] for body in bodies if "idempotency_key" in body]
        numbers = {key: number for number, key in enumerate(dict.fromkeys(keys), start=1)}
        return [numbers[key] for key in keys]


def _asked(request: Request | None, name: str) -> Any:
    return None if request is None else request.body[name]


def _reserves(request: Request) -> bool:
    return request.call == "check_and_reserve"


def _reserve(request: Request) -> Seen:
    body = dict(request.body)
    del body["idempotency_key"], body["expires_at"]
    return {"flag_key": request.name, "expires_at_ms": request.asked_end(), **body}
