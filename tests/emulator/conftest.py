"""Emulators and clients of them, on real sockets."""

from __future__ import annotations

import itertools
import ssl
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from schematic_native.emulator import Emulator
from schematic_native.emulator.clock import format_instant
from schematic_native.ground import json_text

if TYPE_CHECKING:
    from collections.abc import Iterator

CREDIT = "credit_inference"


class Wire:
    """A client that speaks the wire by hand."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self.http = httpx.Client(
            base_url=emulator.base_url,
            headers={"X-Schematic-Api-Key": emulator.api_key},
            trust_env=False,
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            timeout=60,
        )

    def at(self, seconds: float) -> str:
        return format_instant(self.emulator.state()["now"] + seconds)

    def acquire(
        self, amount: float, company: str = "comp_acme", seconds: float = 300
    ) -> httpx.Response:
        return self.http.post(
            "/billing/credits/lease",
            json={
                "company_id": company,
                "credit_type_id": CREDIT,
                "requested_amount": amount,
                "expires_at": self.at(seconds),
            },
        )

    def lease(self, amount: float, company: str = "comp_acme", seconds: float = 300) -> str:
        answer = self.acquire(amount, company, seconds)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]["id"]

    def extend(self, lease: str, amount: float, **body: Any) -> httpx.Response:
        return self.http.put(
            f"/billing/credits/lease/{lease}/extend", json={"additional_amount": amount, **body}
        )

    def release(self, lease: str) -> httpx.Response:
        return self.http.put(f"/billing/credits/lease/{lease}/release")

    def check(self, flag: str, company: str | None = None, **body: Any) -> httpx.Response:
        keys = {} if company is None else {"company": {"id": company}}
        return self.http.post(f"/flags/{flag}/check", json={**keys, **body})

    def reserve(self, quantity: float, company: str = "acme", **body: Any) -> httpx.Response:
        return self.http.post(
            "/flags/inference/check-and-reserve",
            json={
                "company": {"id": company},
                "quantity": quantity,
                "expires_at": self.at(60),
                "idempotency_key": "check-1",
                **body,
            },
        )

    def event(
        self, quantity: float | None = None, key: str | None = None, **body: Any
    ) -> dict[str, Any]:
        event: dict[str, Any] = {
            "api_key": self.emulator.api_key,
            "type": "track",
            "body": {"event": "inference_tokens", "company": {"id": "acme"}, **body},
        }
        if quantity is not None:
            event["body"]["quantity"] = quantity
        if key is not None:
            event["idempotency_key"] = key
        return event

    def batch(self, *events: Any) -> httpx.Response:
        return self.http.post("/batch", content=json_text.write({"events": list(events)}))

    def track(self, quantity: float | None = None, key: str | None = None, **body: Any) -> None:
        answer = self.batch(self.event(quantity, key, **body))
        assert answer.status_code == 200, answer.text

    def balance(self, company: str = "comp_acme") -> float:
        return self.emulator.state()["companies"][company]["balances"][CREDIT]


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """One on a thread, from the seed that ships; its books must balance after every test."""
    with Emulator(process=False) as running:
        yield running
        report = running.audit()
        assert report["balanced"], report["problems"]


@pytest.fixture
def wire(emulator: Emulator) -> Iterator[Wire]:
    """A client of the emulator."""
    client = Wire(emulator)
    with client.http:
        yield client


@pytest.fixture
def new_key() -> Iterator[str]:
    """Fresh idempotency keys."""
    return (f"key-{number}" for number in itertools.count())
