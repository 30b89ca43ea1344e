"""The synchronous client without a stream: answers over REST, their cache, and offline."""

from __future__ import annotations

import threading
import time
from datetime import datetime

import httpx

from schematic_native import (
    CheckFlagOptions,
    CheckFlagResult,
    CreditLeaseConfig,
    LocalCache,
    Schematic,
    SchematicConfig,
)
from tests.client.sync_clients import CREDIT, INFERENCE, at, make
from tests.conftest import ACME, API_KEY, eventually, plain, streaming
from tests.servers import Answer, HttpServer, data


def test_rest_answers_are_cached_by_flag_company_and_user():
    answer = data(flag="f", value=True, reason="ok")
    with (
        HttpServer(otherwise=Answer(body=answer)) as server,
        Schematic(API_KEY, at(server.url)) as client,
    ):
        for _ in range(3):
            assert client.check_flag("f", {"id": "a", "slug": "b"})
            assert client.check_flag("F", {"slug": "b", "id": "a"})
        assert len(server.requests) == 1
        client.check_flag("f", {"id": "b"})
        client.check_flag("f", {"id": "a", "slug": "b"}, {"id": "u"})
        assert len(server.requests) == 3
        for _ in range(2):
            client.check_flag("f", {"id": "a", "slug": "b"}, None, CheckFlagOptions(usage=1))
        assert len(server.requests) == 5


def test_a_cached_answer_expires():
    now = [0.0]
    cache = LocalCache(2, 5000, clock=lambda: now[0])
    answers = {name: CheckFlagResult(flag=name, value=True, reason="") for name in "abc"}
    for name in "ab":
        cache.set(name, answers[name])
    assert cache.get("a") == answers["a"]
    cache.set("c", answers["c"])
    assert cache.get("b") is None
    now[0] = 5.0
    assert cache.get("a") is None


def test_a_users_cache_is_used_and_may_fail(caplog):
    class Broken:
        def get(self, key):
            raise OSError("get is broken")

        def set(self, key, val, ttl_override=None):
            raise OSError("set is broken")

    answer = data(flag="f", value=True, reason="ok")
    with HttpServer(otherwise=Answer(body=answer)) as server:
        config = at(server.url, cache_providers=[Broken(), LocalCache()])
        with Schematic(API_KEY, config) as client:
            assert client.check_flag("f")
            assert client.check_flag("f")
        assert len(server.requests) == 1
    assert "get is broken" in caplog.text
    assert "set is broken" in caplog.text


class WitnessCache(LocalCache):
    """A cache that records the threads that it is called on."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[threading.Thread] = set()

    def get(self, key):
        self.threads.add(threading.current_thread())
        return super().get(key)

    def set(self, key, val, ttl_override=None):
        self.threads.add(threading.current_thread())
        super().set(key, val, ttl_override)


ALL = data(flag="f", value=True, flags=[{"flag": "f", "value": True}, {"flag": "G", "value": True}])


def test_a_users_cache_is_called_on_the_callers_thread():
    cache = WitnessCache()
    with HttpServer(otherwise=Answer(body=ALL)) as server:
        with Schematic(API_KEY, at(server.url, cache_providers=[cache])) as client:
            client.check_flag("f")
            client.check("f", {"id": "a"})
            client.check_flags(["f"], {"id": "b"})
            for company in (None, {"id": "a"}, {"id": "b"}):
                client.check_flag("f", company)
        assert len(server.requests) == 3
    assert cache.threads == {threading.current_thread()}


def test_answers_of_a_check_of_several_flags_are_cached_too():
    with (
        HttpServer(otherwise=Answer(body=ALL)) as server,
        Schematic(API_KEY, at(server.url)) as client,
    ):
        for keys in (["f", "g"], ["G"], ["f"]):
            answers = client.check_flags(keys, ACME)
            assert [answer.value for answer in answers] == [True] * len(keys)
        assert client.check_flag("g", ACME)
        assert len(server.requests) == 1
        # If one flag is not cached, all of them are requested.
        assert [answer.value for answer in client.check_flags(["f", "h"], ACME)] == [True, False]
        client.check_flags(["f", "g"], {"id": "other"})
        assert len(server.requests) == 3
        # Only the API knows which flags there are.
        client.check_flags(None, ACME)
        assert len(server.requests) == 4


def test_an_empty_list_of_flag_keys_means_all_flags(emulator):
    for fields in (plain(emulator), streaming(emulator)):
        with make(fields) as client:
            assert len(client.check_flags([], ACME)) == len(client.check_flags(None, ACME)) == 3


def test_requests_go_through_the_users_own_synchronous_httpx_client():
    answer = data(flag="f", value=True, reason="ok")
    with HttpServer(otherwise=Answer(body=answer)) as server, httpx.Client(trust_env=False) as own:
        with Schematic(API_KEY, at(server.url, httpx_client=own)) as client:
            assert client.check_flag("f")
        assert not own.is_closed


def test_a_hold_without_an_event_to_settle_it_is_released_at_once():
    hold = {
        "id": "r1",
        "company_id": "co",
        "credit_type_id": "ct",
        "credits_reserved": 2,
        "quantity_reserved": 1,
        "consumption_rate": 2,
        "expires_at": "2030-01-01T00:00:00Z",
    }
    answer = Answer(body=data(flag="f", value=True, reason="ok", reservation=hold))
    with HttpServer(otherwise=answer) as server:
        config = at(
            server.url, credit_leases=CreditLeaseConfig(mode="server", default_reservation_ttl=4000)
        )
        with Schematic(API_KEY, config) as client:
            closed = client.check("f", ACME, usage=1)
            opened = client.check("f", ACME, usage=1, on_acquire_failure="fail-open")
            eventually(lambda: len(server.requests) == 4)
        releases = [r.path for r in server.requests if r.path.endswith("/release")]
        asked = [r.body for r in server.requests if r.path.endswith("check-and-reserve")]
    assert releases == ["/billing/credits/reservations/r1/release"] * 2
    assert (closed.allowed, closed.reason) == (False, "missing_event_subtype")
    assert (opened.allowed, opened.reservation, opened.error) == (
        True,
        None,
        "missing_event_subtype",
    )
    expires_at = datetime.fromisoformat(asked[0]["expires_at"].replace("Z", "+00:00")).timestamp()
    assert 3500 < expires_at - time.time() <= 3540
    assert asked[0]["quantity"] == 1
    assert asked[0]["preflight"] == {"usage": 1}


def test_offline_does_no_io_and_answers_the_defaults():
    threads = set(threading.enumerate())
    config = SchematicConfig(
        offline=True, flag_defaults={"On": True}, credit_leases=CreditLeaseConfig()
    )
    with Schematic(API_KEY, config) as client:
        assert client.check_flag("ON") is True
        assert client.check_flag("off") is False
        client.set_flag_default("off", True)
        client.set_flag_defaults({"Third": True})
        assert [client.check_flag(key) for key in ("OFF", "third")] == [True, True]
        result = client.check("on", ACME, usage=5)
        assert (result.allowed, result.reservation) == (True, None)
        assert {answer.flag: answer.value for answer in client.check_flags()} == {
            "On": True,
            "off": True,
            "Third": True,
        }
        client.track("e")
        client.identify({"id": "a"})
        client.prewarm(ACME, [CREDIT])
        assert set(threading.enumerate()) <= threads
        assert client.status().queued_events == 0


def test_a_default_function_is_called_on_the_callers_thread(dead_url):
    seen = []

    def default() -> bool:
        seen.append(threading.current_thread())
        return True

    with Schematic(API_KEY, at(dead_url, timeout=0.3)) as client:
        assert client.check_flag("f", None, None, CheckFlagOptions(default_value=default))
        assert client.check("f", default_value=default).allowed
    assert seen == [threading.current_thread()] * 2


def test_keys_that_match_two_companies_answer_the_default_as_a_conflict(emulator):
    with make(streaming(emulator)) as client:
        client.check_flag(INFERENCE, ACME)
        emulator.set_company(
            {"id": "comp_two", "account_id": "a", "environment_id": "e", "keys": {"slug": "two"}}
        )
        client.check_flag(INFERENCE, {"slug": "two"})
        both = {"id": "acme", "slug": "two"}
        answer = client.check_flag_with_entitlement(
            INFERENCE, both, None, CheckFlagOptions(default_value=True)
        )
        assert (answer.value, answer.reason) == (True, "key conflict")
