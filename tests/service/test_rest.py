"""The calls of the REST API: what is sent, what is read, errors and retries."""

from __future__ import annotations

import asyncio
import pickle
from datetime import datetime, timezone
from email.utils import format_datetime

import certifi
import httpx
import pytest

from schematic_native._native import Core
from schematic_native.config.settings import Settings
from schematic_native.service.errors import (
    ApiConnectionError,
    ApiError,
    ApiTimeoutError,
    AuthenticationError,
    NotFoundError,
    PaymentRequiredError,
    UnreadableApiAnswerError,
)
from schematic_native.service.responses import read_instant, write_instant
from schematic_native.service.rest import Api, ReservationRequest
from tests.limits import within
from tests.servers import Answer, HttpServer, data

KEY = "sch_secret"
LEASE = {"id": "lse_1", "granted_amount": 100, "expires_at": "2030-01-01T00:00:00.123456789Z"}
_CORE = Core(api_key=KEY)
_CORE.track("tokens")
BATCH = _CORE.take_batch()
VERDICT = {"flag": "f", "value": True, "reason": "ok"}


class Waits:
    """Replaces sleeping: records for how long."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@pytest.fixture
def waits() -> Waits:
    return Waits()


def make_api(server: HttpServer | str, waits: Waits, **fields: object) -> Api:
    url = server if isinstance(server, str) else server.url
    settings = Settings(api_key=KEY, base_url=url, event_capture_url=url, **fields)
    return Api(settings, sleep=waits, jitter=lambda: 1.0, clock=lambda: 1000.0)


async def test_acquire_sends_its_fields_and_reads_the_response(waits):
    with HttpServer(Answer(body=data(**LEASE))) as server:
        api = make_api(server, waits)
        lease = await api.acquire_lease("co", "ct", 50.5, 1_700_000_000.25)
        await api.close()
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/billing/credits/lease")
    assert request.headers["x-schematic-api-key"] == KEY
    assert request.body == {
        "company_id": "co",
        "credit_type_id": "ct",
        "requested_amount": 50.5,
        "expires_at": "2023-11-14T22:13:20.250000Z",
    }
    expires_at = datetime(2030, 1, 1, 0, 0, 0, 123456, tzinfo=timezone.utc).timestamp()
    assert (lease.lease_id, lease.granted, lease.expires_at) == ("lse_1", 100.0, expires_at)


async def test_plain_http_on_this_machine_reads_no_certificates(waits, monkeypatch):
    monkeypatch.setattr(certifi, "where", lambda: "/nonexistent/authorities")
    with HttpServer(Answer(body=data(**LEASE))) as server:
        api = make_api(server, waits)
        assert (await api.acquire_lease("co", "ct", 1, 1_700_000_000)).lease_id == "lse_1"
        await api.close()
        api = make_api(server.url.replace("http:", "https:"), waits)
        with pytest.raises(ApiConnectionError):  # with TLS there is no way around them
            await api.acquire_lease("co", "ct", 1, 1_700_000_000)
        await api.close()


@pytest.mark.parametrize("script", [[], [Answer(503)], [Answer(close=True), Answer(503)]])
async def test_a_lease_tells_whether_an_earlier_attempt_may_have_created_it(waits, script):
    with HttpServer(*script, otherwise=Answer(body=data(**LEASE))) as server:
        api = make_api(server, waits)
        lease = await api.acquire_lease("co", "ct", 50.5, 1_700_000_000.25)
        await api.close()
    assert lease.is_retried is bool(script)


async def test_all_retries_of_an_extend_share_one_idempotency_key_and_another_extend_has_its_own(
    waits,
):
    script = [
        Answer(503),
        Answer(close=True),
        Answer(body=data(**LEASE)),
        Answer(body=data(**LEASE)),
    ]
    with HttpServer(*script) as server:
        api = make_api(server, waits)
        await api.extend_lease("lse 1", 10, 1_700_000_000)
        await api.extend_lease("lse 1", 10, 1_700_000_000)
        await api.close()
    keys = [request.body["idempotency_key"] for request in server.requests]
    assert len(keys) == 4
    assert len(set(keys[:3])) == 1
    assert keys[3] != keys[0]
    assert server.requests[0].path == "/billing/credits/lease/lse%201/extend"
    assert server.requests[0].method == "PUT"
    assert waits.seconds == [1.0, 2.0]


async def test_a_server_that_refuses_put_gets_post(waits):
    with HttpServer(Answer(405), otherwise=Answer(body=data(**LEASE))) as server:
        api = make_api(server, waits)
        await api.release_lease("a")
        await api.release_reservation("b")
        await api.close()
    assert [request.method for request in server.requests] == ["PUT", "POST", "POST"]


@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_a_temporary_status_is_tried_three_times(waits, status):
    with HttpServer(otherwise=Answer(status, {"error": "busy"})) as server:
        api = make_api(server, waits)
        with pytest.raises(ApiError, match=f"HTTP {status}: busy"):
            await api.check_flag("f", None, None)
        await api.close()
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, ApiError),
        (401, AuthenticationError),
        (402, PaymentRequiredError),
        (403, AuthenticationError),
        (404, NotFoundError),
        (422, ApiError),
    ],
)
async def test_a_permanent_error_is_not_retried_and_has_its_own_class(waits, status, kind):
    with HttpServer(otherwise=Answer(status, {"error": f"no, {KEY}"})) as server:
        api = make_api(server, waits)
        with pytest.raises(kind) as caught:
            await api.check_flag("f", None, None)
        await api.close()
    assert len(server.requests) == 1
    assert caught.value.status == status
    assert KEY not in str(caught.value)
    assert KEY not in repr(caught.value)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "1500"}, 1.5),
        ({"Retry-After": "7"}, 7.0),
        (
            {
                "Retry-After": format_datetime(
                    datetime.fromtimestamp(1009, timezone.utc), usegmt=True
                )
            },
            9.0,
        ),
        ({"X-RateLimit-Reset": "1011"}, 11.0),
        ({"Retry-After": "86400"}, 60.0),
        ({"Retry-After": "-5"}, 1.0),
        ({"Retry-After": "soon"}, 1.0),
        ({"Retry-After": "nan"}, 1.0),
    ],
)
async def test_retry_after_is_obeyed(waits, headers, seconds):
    with HttpServer(Answer(429, headers=headers), otherwise=Answer(body=data(**VERDICT))) as server:
        api = make_api(server, waits)
        await api.check_flag("f", None, None)
        await api.close()
    assert waits.seconds == [seconds]


async def test_no_retry_starts_that_cannot_finish_before_the_deadline(waits):
    with HttpServer(otherwise=Answer(503, headers={"Retry-After": "50"})) as server:
        api = make_api(server, waits)
        deadline = asyncio.get_running_loop().time() + 40
        with pytest.raises(ApiError):
            await api.check_flag("f", None, None, deadline=deadline)
        await api.close()
    assert len(server.requests) == 1
    assert waits.seconds == []


async def test_a_server_that_never_responds_takes_no_longer_than_the_deadline(waits):
    with HttpServer(otherwise=Answer(freeze=True)) as server:
        api = make_api(server, waits)
        for _ in within(0.6):
            deadline = asyncio.get_running_loop().time() + 0.2
            with pytest.raises(ApiConnectionError, match="no answer in time"):
                await api.check_flag("f", None, None, deadline=deadline)
            assert asyncio.get_running_loop().time() > deadline - 0.05
        await api.close()


async def test_an_unreachable_server_is_a_connection_error_after_the_retries(waits, dead_url):
    api = make_api(dead_url, waits)
    with pytest.raises(ApiConnectionError):
        await api.check_flag("f", None, None)
    await api.close()
    assert len(waits.seconds) == 2


async def test_unset_fields_are_not_sent(waits):
    with HttpServer(otherwise=Answer(body=data(**VERDICT))) as server:
        api = make_api(server, waits)
        await api.check_flag("a/b", None, {"id": "u"})
        await api.check_flag("f", {"id": "c"}, None, {"usage": 3})
        await api.close()
    assert server.requests[0].path == "/flags/a%2Fb/check"
    assert server.requests[0].body == {"user": {"id": "u"}}
    assert server.requests[1].body == {"company": {"id": "c"}, "preflight": {"usage": 3}}


async def test_the_callers_event_takes_precedence_in_a_reservation(waits):
    hold = {
        "id": "r1",
        "company_id": "co",
        "credit_type_id": "ct",
        "credits_reserved": 6,
        "quantity_reserved": 3,
        "consumption_rate": 2,
        "event_subtype": "theirs",
        "expires_at": "2030-01-01T00:00:00Z",
    }
    with HttpServer(otherwise=Answer(body=data(**VERDICT, reservation=hold))) as server:
        api = make_api(server, waits)
        asked = ReservationRequest("f", {"id": "c"}, None, 3, "mine", 1e9, {"usage": 3})
        first = await api.check_and_reserve(asked)
        second = await api.check_and_reserve(asked._replace(event_subtype=None))
        await api.close()
    assert first.reservation is not None
    assert second.reservation is not None
    assert (first.reservation.event_subtype, first.reservation.mode) == ("mine", "server")
    assert first.reservation.company == {"id": "c"}
    assert second.reservation.event_subtype == "theirs"
    keys = {request.body["idempotency_key"] for request in server.requests}
    assert len(keys) == 2


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"[]", b"{}", b'{"data": null}', b'{"data": {"flag": "f", "value": "yes"}}', b""],
)
async def test_an_unreadable_response_has_its_own_error(waits, body):
    with HttpServer(otherwise=Answer(body=body)) as server:
        api = make_api(server, waits)
        with pytest.raises(UnreadableApiAnswerError):
            await api.check_flag("f", None, None)
        await api.close()


async def test_unknown_values_of_a_newer_server_are_left_out(waits):
    odd = {
        **VERDICT,
        "feature_usage": 1.0,
        "feature_allocation": "many",
        "feature_usage_reset_at": "tomorrow",
        "entitlement": {
            "feature_id": "x",
            "feature_key": "f",
            "value_type": "brand_new",
            "quantity_rates": {"a": 1, "b": None},
            "warning_tiers": [{"key": "k", "value": 5}, {"key": 1}],
            "usage": 1e300,
        },
        "news": {},
    }
    with HttpServer(otherwise=Answer(body=data(**odd))) as server:
        api = make_api(server, waits)
        answer = await api.check_flag("f", None, None)
        await api.close()
    assert (answer.feature_usage, answer.feature_allocation, answer.feature_usage_reset_at) == (
        1,
        None,
        None,
    )
    entitlement = answer.entitlement
    assert entitlement is not None
    assert (entitlement.value_type, entitlement.usage) == ("unknown", None)
    assert entitlement.quantity_rates == {"a": 1.0}
    assert [(tier.key, tier.value) for tier in entitlement.warning_tiers or []] == [("k", 5)]


async def test_a_synchronous_client_of_the_users_is_used_and_left_open(waits):
    with (
        HttpServer(otherwise=Answer(body=data(**VERDICT))) as server,
        httpx.Client(trust_env=False) as client,
    ):
        api = make_api(server, waits, httpx_client=client)
        assert (await api.check_flag("f", None, None)).value is True
        await api.close()
        assert not client.is_closed


@pytest.mark.parametrize("error", [ApiTimeoutError(), ApiConnectionError("away")])
def test_an_error_can_be_pickled(error):
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy).__name__, copy.message) == (type(error).__name__, error.message)


async def test_a_closed_api_opens_no_connection(waits):
    with HttpServer(otherwise=Answer(body=data(**VERDICT))) as server:
        api = make_api(server, waits)
        await api.close()
        with pytest.raises(ApiConnectionError, match="shut down"):
            await api.check_flag("f", None, None)
    assert server.requests == []


@pytest.mark.parametrize(
    ("text", "epoch"),
    [
        ("1970-01-01T00:00:01Z", 1.0),
        ("1970-01-01t00:00:01.5z", 1.5),
        ("1970-01-01T01:00:00+01:00", 0.0),
        ("1970-01-01T00:00:00.000000999Z", 0.0),
    ],
)
def test_instants_are_read_in_the_format_of_go(text, epoch):
    assert read_instant(text).timestamp() == epoch


@pytest.mark.parametrize("text", ["", "1970-01-01", "1970-01-01T00:00:00", "1970-13-01T00:00:00Z"])
def test_a_malformed_instant_is_refused(text):
    with pytest.raises(ValueError, match=r"instant|month"):
        read_instant(text)


def test_an_instant_is_written_in_utc():
    assert write_instant(0.5) == "1970-01-01T00:00:00.500000Z"


@pytest.mark.parametrize(
    ("body", "is_explained"),
    [({"error": "batch too large"}, True), (b"<html>413</html>", False), ([], False), (b"", False)],
)
async def test_a_refusal_of_the_service_differs_from_one_of_a_proxy(waits, body, is_explained):
    with HttpServer(Answer(413, body)) as server:
        api = make_api(server, waits)
        posted = await api.post_events(BATCH)
        assert (posted.status, posted.is_explained) == (413, is_explained)
        await api.close()


@pytest.mark.parametrize("status", [301, 302, 303])
async def test_a_redirect_that_turns_a_post_into_a_get_is_not_followed(waits, status):
    with HttpServer(Answer(status, headers={"Location": "/elsewhere"})) as server:
        api = make_api(server, waits)
        assert (await api.post_events(BATCH)).status == status
        await api.close()
    assert [request.method for request in server.requests] == ["POST"]


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("client", [None, httpx.AsyncClient, httpx.Client])
async def test_a_redirect_that_keeps_the_request_is_followed(waits, status, client):
    given = None if client is None else client(follow_redirects=True)
    with HttpServer(Answer(status, headers={"Location": "/elsewhere"}), Answer(202)) as server:
        api = make_api(server, waits, httpx_client=given)
        assert (await api.post_events(BATCH)).status == 202
        await api.close()
    assert [(request.method, request.path) for request in server.requests] == [
        ("POST", "/batch"),
        ("POST", "/elsewhere"),
    ]
    if isinstance(given, httpx.Client):
        given.close()
    elif given is not None:
        await given.aclose()


@pytest.mark.parametrize("by", ["setting", "client"])
async def test_redirects_are_not_followed_when_that_is_turned_off(waits, by):
    async with httpx.AsyncClient() as given:
        fields = {"follow_redirects": False} if by == "setting" else {"httpx_client": given}
        with HttpServer(Answer(307, headers={"Location": "/elsewhere"})) as server:
            api = make_api(server, waits, **fields)
            assert (await api.post_events(BATCH)).status == 307
            await api.close()


async def test_a_redirect_loop_ends(waits):
    circle = Answer(307, headers={"Location": "/batch"})
    with HttpServer(otherwise=circle) as server:
        api = make_api(server, waits)
        with pytest.raises(ApiConnectionError, match="redirected more than 5 times"):
            await api.post_events(BATCH)
        await api.close()


async def test_an_unsupported_proxy_is_a_connection_error_until_it_is_gone(waits, monkeypatch):
    api = make_api("http://service.invalid", waits)
    monkeypatch.setenv("ALL_PROXY", "unknown://proxy.invalid:1")
    with pytest.raises(ApiConnectionError, match="unknown"):
        await api.post_events(BATCH)
    monkeypatch.delenv("ALL_PROXY")
    with pytest.raises(ApiConnectionError, match="gaierror"):
        await api.post_events(BATCH)
    await api.close()


async def test_a_malformed_proxy_is_a_connection_error_that_names_the_environment(
    waits, monkeypatch
):
    api = make_api("http://service.invalid", waits)
    monkeypatch.setenv("ALL_PROXY", "http://user:pass/word@proxy.invalid")
    for call in (api.post_events(BATCH), api.release_lease("lease")):
        with pytest.raises(ApiConnectionError, match="the proxy in HTTPS_PROXY") as caught:
            await call
        assert "pass" not in str(caught.value)
    await api.close()


@pytest.mark.parametrize("turns", range(5))
async def test_a_cancellation_at_the_moment_of_the_response_is_not_lost(waits, turns):
    loop = asyncio.get_running_loop()
    asked, answer = asyncio.Event(), loop.create_future()

    async def respond(_request: httpx.Request) -> httpx.Response:
        asked.set()
        return await answer

    async with httpx.AsyncClient(transport=httpx.MockTransport(respond)) as given:
        api = make_api("http://service.invalid", waits, httpx_client=given)
        goes_on = asyncio.Event()

        async def check() -> None:
            await api.check_flag("f", None, None)
            await goes_on.wait()

        task = asyncio.create_task(check())
        await asked.wait()
        answer.set_result(httpx.Response(200, json=data(**VERDICT)))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        assert task.cancelled()
        goes_on.set()


async def test_an_exception_of_a_given_client_is_a_connection_error(waits):
    def fail(_request: httpx.Request) -> httpx.Response:
        raise ValueError(f"a bug that tells {KEY}")

    async with httpx.AsyncClient(transport=httpx.MockTransport(fail)) as given:
        api = make_api("http://service.invalid", waits, httpx_client=given)
        with pytest.raises(ApiConnectionError, match=r"ValueError: a bug that tells \*\*\*"):
            await api.post_events(BATCH)
