"""Signatures of webhooks, alone and in the frameworks that people receive them with."""

from __future__ import annotations

import hmac
import json
from types import SimpleNamespace
from typing import Any

import pytest

from schematic_native import webhooks
from schematic_native.webhooks import (
    WEBHOOK_SIGNATURE_HEADER,
    WEBHOOK_TIMESTAMP_HEADER,
    WebhookSignatureError,
    compute_hex_signature,
    compute_signature,
    verify_signature,
    verify_webhook_signature,
)

SECRET = "whsec"  # noqa: S105 - made up
BODY = json.dumps({"action": "company.updated", "name": "Ünï"}, ensure_ascii=False).encode()
STAMP = "1735689600"


def signed(body: bytes = BODY, secret: str = SECRET) -> dict[str, str]:
    return {
        WEBHOOK_SIGNATURE_HEADER: compute_hex_signature(body, STAMP, secret),
        WEBHOOK_TIMESTAMP_HEADER: STAMP,
    }


def test_a_signature_is_that_of_the_published_package() -> None:
    published = pytest.importorskip("schematic.webhook_utils")
    assert set(published.__all__) == set(webhooks.__all__)
    for body in (BODY, BODY.decode(), b"", b"\x00\xff"):
        for name in ("compute_signature", "compute_hex_signature"):
            theirs = getattr(published, name)(body, STAMP, SECRET)
            assert getattr(webhooks, name)(body, STAMP, SECRET) == theirs
    for name in ("WEBHOOK_SIGNATURE_HEADER", "WEBHOOK_TIMESTAMP_HEADER"):
        assert getattr(webhooks, name) == getattr(published, name)
    verify_signature(BODY, published.compute_hex_signature(BODY, STAMP, SECRET), STAMP, SECRET)


def test_a_signature_of_something_else_is_refused() -> None:
    good = compute_hex_signature(BODY, STAMP, SECRET)
    verify_signature(BODY, good.upper(), STAMP, SECRET)
    for body, signature, stamp, secret in (
        (BODY + b" ", good, STAMP, SECRET),
        (BODY, good, "1735689601", SECRET),
        (BODY, good, STAMP, "other"),
        (BODY, good[:-2], STAMP, SECRET),
        (BODY, "00" * 32, STAMP, SECRET),
    ):
        with pytest.raises(WebhookSignatureError, match="not that of this body"):
            verify_signature(body, signature, stamp, secret)
    with pytest.raises(WebhookSignatureError, match="not hexadecimal"):
        verify_signature(BODY, "nonsense", STAMP, SECRET)
    with pytest.raises(WebhookSignatureError, match=WEBHOOK_SIGNATURE_HEADER):
        verify_signature(BODY, "", STAMP, SECRET)
    with pytest.raises(WebhookSignatureError, match=WEBHOOK_TIMESTAMP_HEADER):
        verify_signature(BODY, good, "", SECRET)
    with pytest.raises(ValueError, match="secret must not be empty"):
        verify_signature(BODY, compute_hex_signature(BODY, STAMP, ""), STAMP, "")


def test_signatures_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    verify_signature(BODY, compute_hex_signature(BODY, STAMP, SECRET), STAMP, SECRET)
    assert compared == [(compute_signature(BODY, STAMP, SECRET),) * 2]


@pytest.mark.parametrize(
    "request_",
    [
        SimpleNamespace(headers=signed(), body=BODY),
        SimpleNamespace(headers={k.lower(): v for k, v in signed().items()}, data=BODY),
        SimpleNamespace(headers=signed(), content=bytearray(BODY)),
        SimpleNamespace(
            META={f"HTTP_{k.upper().replace('-', '_')}": v for k, v in signed().items()}, body=BODY
        ),
    ],
)
def test_headers_and_bodies_are_found_where_frameworks_have_them(request_: object) -> None:
    verify_webhook_signature(request_, SECRET)
    with pytest.raises(WebhookSignatureError):
        verify_webhook_signature(request_, "other")


def test_a_mapping_of_headers_will_do_with_the_body() -> None:
    verify_webhook_signature(signed(), SECRET, BODY)
    with pytest.raises(WebhookSignatureError, match="pass it as body"):
        verify_webhook_signature(signed(), SECRET)
    with pytest.raises(WebhookSignatureError, match="no header"):
        verify_webhook_signature({}, SECRET, BODY)


def statuses(post: Any) -> list[int]:
    """Post what was signed, what was not, and what was changed on the way."""
    return [post(BODY, signed()), post(BODY, {}), post(b'{"action": "other"}', signed())]


def test_flask() -> None:
    flask = pytest.importorskip("flask", reason="pip install --group docs")
    app = flask.Flask("webhooks")

    @app.post("/hook")
    def hook() -> tuple[str, int]:
        try:
            verify_webhook_signature(flask.request, SECRET)
        except WebhookSignatureError as error:
            return str(error), 400
        return flask.request.get_json()["action"], 200

    with app.test_client() as client:

        def post(body: bytes, headers: dict[str, str]) -> int:
            kind = {"Content-Type": "application/json"}
            return int(client.post("/hook", data=body, headers=headers | kind).status_code)

        assert statuses(post) == [200, 400, 400]


def test_django() -> None:
    pytest.importorskip("django", reason="pip install --group docs")
    from django.conf import settings  # noqa: PLC0415 - once it is known to be there
    from django.http import HttpResponse  # noqa: PLC0415
    from django.test import RequestFactory  # noqa: PLC0415

    if not settings.configured:
        settings.configure()

    def hook(request: Any) -> HttpResponse:
        try:
            verify_webhook_signature(request, SECRET)
        except WebhookSignatureError as error:
            return HttpResponse(str(error), status=400)
        return HttpResponse(json.loads(request.body)["action"])

    def post(body: bytes, headers: dict[str, str]) -> int:
        meta = {f"HTTP_{k.upper().replace('-', '_')}": v for k, v in headers.items()}
        request = RequestFactory().post("/hook", body, content_type="application/json", **meta)
        return int(hook(request).status_code)

    assert statuses(post) == [200, 400, 400]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_fastapi() -> None:
    fastapi = pytest.importorskip("fastapi", reason="pip install --group docs")
    from starlette.testclient import TestClient  # noqa: PLC0415 - it comes with fastapi

    app = fastapi.FastAPI()

    async def verified(request: Any) -> None:
        try:
            verify_webhook_signature(request, SECRET, await request.body())
        except WebhookSignatureError as error:
            raise fastapi.HTTPException(400, str(error)) from error

    verified.__annotations__["request"] = fastapi.Request

    @app.post("/hook", dependencies=[fastapi.Depends(verified)])
    async def hook() -> str:
        return "taken"

    with TestClient(app) as client:

        def post(body: bytes, headers: dict[str, str]) -> int:
            return client.post("/hook", content=body, headers=headers).status_code

        assert statuses(post) == [200, 400, 400]


def test_an_asynchronous_request_is_asked_for_its_body() -> None:
    async def body() -> bytes:
        return BODY

    request = SimpleNamespace(headers=signed(), body=body)
    with pytest.raises(WebhookSignatureError, match=r"await request\.body\(\)"):
        verify_webhook_signature(request, SECRET)
