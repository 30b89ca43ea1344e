"""The dashboard over plain HTTP: who may ask for it, what it shows, and that all text is escaped."""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from schematic_native.emulator.dashboard.balance_bar import balance_bar
from schematic_native.emulator.dashboard.markup import Markup, tag
from schematic_native.emulator.dashboard.texts import amount
from schematic_native.emulator.state.directory import CreditLine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schematic_native.emulator import Emulator
    from tests.emulator.conftest import Wire

HOSTILE = "<img src=x onerror=alert(1)>'\""
ADMIN = [
    ("POST", "/_emulator/clock", {"advance": 100}),
    ("POST", "/_emulator/fail", {"kind": "refuse"}),
    ("POST", "/_emulator/heal", {}),
    ("POST", "/_emulator/drop-sockets", {}),
    ("POST", "/_emulator/send-raw", {}),
    ("POST", "/_emulator/balance", {}),
    ("POST", "/_emulator/reset", {}),
    ("PUT", "/_emulator/flag", {}),
    ("POST", "/_emulator/dashboard/check", {"flag_id": "flag_beta"}),
    ("DELETE", "/_emulator/company/comp_acme", None),
]
READ = ["/", "/_emulator/state", "/_emulator/seed", "/_emulator/dashboard/dashboard.js"]


@pytest.fixture
def http(emulator: Emulator) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=emulator.base_url,
        trust_env=False,
        verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
    ) as client:
        yield client


def page(http: httpx.Client) -> str:
    answer = http.get("/")
    assert answer.status_code == 200
    return answer.text


# Who may ask


@pytest.mark.parametrize("origin", ["https://example.com", "http://127.0.0.1:1", "null"])
@pytest.mark.parametrize(("method", "path", "body"), ADMIN)
def test_no_page_from_elsewhere_can_command_it(
    http: httpx.Client, emulator: Emulator, origin: str, method: str, path: str, body: Any
) -> None:
    before = emulator.state()
    answer = http.request(method, path, json=body, headers={"origin": origin})
    assert answer.status_code == 403
    assert origin in answer.json()["error"]
    after = emulator.state()
    assert emulator.faults() == []
    assert after["now"] - before["now"] < 50
    assert after["companies"] == before["companies"]


@pytest.mark.parametrize("path", READ)
@pytest.mark.parametrize("host", ["example.com", "rebound.example:80", "127.0.0.1.example.com"])
def test_a_name_that_resolves_to_loopback_is_not_enough(
    http: httpx.Client, path: str, host: str
) -> None:
    answer = http.get(path, headers={"host": host})
    assert answer.status_code == 403
    assert "sch_dev_emulator" not in answer.text


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", None])
@pytest.mark.parametrize(
    ("method", "path"), [(method, path) for method, path, body in ADMIN if body is not None]
)
def test_what_a_form_can_send_is_refused(
    http: httpx.Client, emulator: Emulator, kind: str | None, method: str, path: str
) -> None:
    headers = {} if kind is None else {"content-type": kind}
    answer = http.request(method, path, content=b'{"kind": "drop"}', headers=headers)
    assert answer.status_code == 415
    assert emulator.faults() == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_its_own_page_can(http: httpx.Client, emulator: Emulator, host: str) -> None:
    headers = {"host": f"{host}:{emulator.port}", "origin": f"http://{host}:{emulator.port}"}
    answer = http.post("/_emulator/fail", json={"kind": "delay"}, headers=headers)
    assert answer.status_code == 200
    assert [fault["kind"] for fault in emulator.faults()] == ["delay"]
    assert http.get("/", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [("https://example.com", 403), ("null", 403), ("http://localhost:3000", 200), (None, 200)],
)
def test_no_page_from_elsewhere_can_post_events(
    wire: Wire, emulator: Emulator, origin: str | None, status: int
) -> None:
    if origin is not None:
        wire.http.headers["origin"] = origin
    assert wire.batch(wire.event(1, "key")).status_code == status
    assert len(emulator.events()) == (status == 200)


def test_nothing_answers_a_preflight(http: httpx.Client) -> None:
    answer = http.options(
        "/_emulator/reset",
        headers={"origin": "https://example.com", "access-control-request-method": "POST"},
    )
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]


# What it shows


def test_the_page_names_nothing_from_elsewhere_and_forbids_it(http: httpx.Client) -> None:
    answer = http.get("/")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    for reference in re.findall(r'(?:src|href|action)="([^"]*)"', answer.text):
        assert reference.startswith(("/_emulator/", "#", "data:,"))
    for asset in ("dashboard.css", "dashboard.js"):
        text = http.get(f"/_emulator/dashboard/{asset}").text
        assert not re.findall(r"https?://|url\(|@import|import ", text)
    assert " style=" not in answer.text
    assert not re.search(r"<script(?![^>]*src=)", answer.text)


def test_all_that_it_shows_is_escaped(http: httpx.Client, emulator: Emulator, wire: Wire) -> None:
    owner = {"account_id": "a", "environment_id": "e"}
    emulator.set_flag({"id": HOSTILE, "key": HOSTILE, "default_value": False, **owner})
    emulator.set_user({"id": HOSTILE, "keys": {HOSTILE: HOSTILE}, **owner})
    emulator.set_company(
        {
            "id": HOSTILE,
            "keys": {"id": HOSTILE},
            "credit_balances": {HOSTILE: 7, "credit_inference": 9},
            **owner,
        }
    )
    wire.lease(3, HOSTILE)
    wire.track(2, "key", event=HOSTILE, company={"id": HOSTILE})
    wire.http.get(f"/{HOSTILE}")
    wire.http.post("/batch", content=b"{}", headers={"user-agent": HOSTILE})
    text = page(http)
    assert "<img" not in text
    assert text.count("&lt;img src=x onerror=alert(1)&gt;&#x27;&quot;") > 10


def test_an_event_may_hold_anything(http: httpx.Client, wire: Wire) -> None:
    bodies: list[dict[str, Any]] = [
        {"event": None, "company": [1], "quantity": {"a": []}},
        {"event": {"x": 1}, "company": {"id": None}},
        {},
    ]
    events = [
        {**wire.event(), "type": kind, "body": body}
        for body in bodies
        for kind in ("track", "identify", "flag_check")
    ]
    assert wire.batch(*events).status_code == 200
    assert page(http).count('id="event-') == len(events)


def test_a_bar_shows_the_shares_of_what_was_granted() -> None:
    bar = balance_bar(CreditLine(remaining=50, reserved=25, settled=25, total=100))
    assert re.findall(r' width="([\d.]+)"', bar) == ["250.0", "250.0", "500.0"]
    assert 'aria-label="100 granted: 25 settled, 25 held, 50 remaining"' in bar


def test_a_small_part_of_a_bar_can_be_seen_and_an_overdraft_has_no_width() -> None:
    bar = balance_bar(CreditLine(remaining=-5, reserved=1, settled=1e9, total=1e9 - 4))
    settled, held, remaining = map(float, re.findall(r' width="([\d.]+)"', bar))
    assert held > 5
    assert remaining == 0
    assert settled + held == pytest.approx(1000, abs=0.2)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1e9, "1,000,000,000"),
        (12.5, "12.5"),
        (-0.25, "-0.25"),
        (1e18, "1e+18"),
        (100, "100"),
        (1 / 3, "0.3333"),
    ],
)
def test_amounts_read_well(value: float, text: str) -> None:
    assert amount(value) == text


def test_an_element_escapes_text_and_attributes_but_not_markup() -> None:
    inner = tag("b", "<&>")
    assert inner == "<b>&lt;&amp;&gt;</b>"
    assert tag("p", inner, None, False, ["x", Markup("<i></i>")], data_id='"', hidden=True) == (
        '<p data-id="&quot;" hidden><b>&lt;&amp;&gt;</b>x<i></i></p>'
    )


# Trying a check


def trial(http: httpx.Client, **body: Any) -> str:
    answer = http.post("/_emulator/dashboard/check", json=body)
    assert answer.status_code == 200, answer.text
    return re.sub(r"<[^>]+>", "", answer.text)


def test_a_check_that_is_tried_tells_why(http: httpx.Client) -> None:
    text = trial(http, flag_id="flag_inference", company_id="comp_few", usage=26)
    assert "inference: false" in text
    assert "Pro plan (plan entitlement rule of the flag): does not match" in text
    assert "holds plan is plan_pro (found: plan_pro)" in text
    assert "fails the balance of credit_inference covers the cost, 2 a unit" in text
    assert "(found: 50 credits left)" in text
    assert "matches and decides: false" in text
    assert "inference: true" in trial(
        http, flag_id="flag_inference", company_id="comp_few", usage=25
    )


def test_without_a_matching_rule_the_default_value_stands(http: httpx.Client) -> None:
    text = trial(http, flag_id="flag_inference")
    assert "No rule matches: the default value false stands." in text
    assert "(found: no company)" in text


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"flag_id": "flag_nothing"}, 404),
        ({"flag_id": ["x"]}, 404),
        ({"flag_id": "flag_beta", "company_id": "nobody"}, 404),
        ({"flag_id": "flag_beta", "user_id": {"a": 1}}, 404),
        ({"flag_id": "flag_beta", "usage": -1}, 200),
        ({"flag_id": "flag_beta", "usage": "much"}, 400),
        ({"flag_id": "flag_beta", "usage": 1.5}, 400),
    ],
)
def test_what_cannot_be_tried_is_told(http: httpx.Client, body: Any, status: int) -> None:
    answer = http.post("/_emulator/dashboard/check", json=body)
    assert answer.status_code == status, answer.text


def test_the_page_answers_while_requests_fail(http: httpx.Client, emulator: Emulator) -> None:
    emulator.fail("status")
    emulator.fail("freeze")
    assert http.post("/flags/check").status_code == 503
    assert "2: freeze" in page(http)
