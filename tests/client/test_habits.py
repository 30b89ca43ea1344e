"""What real programs and their tests do with a client beyond what the documentation shows."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock, MagicMock, create_autospec
from uuid import uuid4

import httpx
import pytest

from schematic_native import (
    REASON_OFFLINE,
    AsyncSchematic,
    AsyncSchematicConfig,
    EventBodyIdentifyCompany,
    LocalCache,
    Schematic,
    SchematicConfig,
)
from tests.callers import Caller, both_clients
from tests.conftest import ACME, API_KEY, plain, streaming

if TYPE_CHECKING:
    from schematic_native.emulator import Emulator

COMPANY = uuid4()


@both_clients
def test_a_uuid_is_a_lookup_value_wherever_keys_are_taken(emulator: Emulator, kind: str) -> None:
    place = {"account_id": "acct_demo", "environment_id": "env_demo"}
    emulator.set_company({"id": "comp_uuid", "keys": {"account": str(COMPANY)}, **place})
    user, account = uuid4(), {"account": COMPANY}
    for fields in (plain(emulator), streaming(emulator)):
        with Caller(kind, fields) as person:
            if person.client._settings.use_datastream:
                person.do("initialize")
            for _ in range(2):  # first over REST, then from memory
                answer = person.do("check_flag_with_entitlement", "inference", account)
                assert answer.company_id == "comp_uuid"
            person.do("check_flag", "inference", account, {"id": user})
            person.do("check_flags", ["inference"], account)
            person.do("check", "inference", account, usage=1)
            person.do("track", "opened", account, {"id": user})
            person.do("identify", {"id": user}, {"keys": account})
            person.do("identify", {"id": user}, EventBodyIdentifyCompany(keys=account))
            person.do("prewarm", account, ["credits"])
    bodies = [event["body"] for event in emulator.events() if event["type"] != "flag_check"]
    text = {"account": str(COMPANY)}
    assert {str(body.get("company")) for body in bodies} == {str(text), str({"keys": text})}
    assert all((body.get("user") or body.get("keys")) == {"id": str(user)} for body in bodies)


@both_clients
@pytest.mark.parametrize("value", [7, None, b"acme", object()])
def test_any_other_lookup_value_is_refused_by_name(kind: str, value: object) -> None:
    with Caller(kind, {"offline": True}) as person:
        for method, arguments in (
            ("check_flag", ("f", {"id": value})),
            ("check", ("f", {"id": value})),
            ("track", ("e", {"id": value})),
        ):
            with pytest.raises(TypeError, match="company"):
                person.do(method, *arguments)


@both_clients
def test_a_test_sets_a_client_offline_and_its_defaults(emulator: Emulator, kind: str) -> None:
    with Caller(kind, streaming(emulator)) as person:
        person.do("initialize")
        assert person.do("check_flag", "inference", ACME) is True
        client = person.client
        assert client.offline is False
        client.offline = True
        client.flag_defaults = {"New-UI": True}
        client.flag_defaults["other"] = False
        assert client.flag_defaults == {"New-UI": True, "other": False}
        assert client.flag_defaults["new-ui"] is True
        assert person.do("check_flag", "new-ui", ACME) is True
        answer = person.do("check_flag_with_entitlement", "inference", ACME)
        assert (answer.value, answer.reason) == (False, REASON_OFFLINE)
        assert person.do("check", "inference", ACME, usage=5).reservation is None
        assert {each.flag for each in person.do("check_flags")} == {"New-UI", "other"}
        del client.flag_defaults["NEW-UI"]
        assert "New-UI" not in client.flag_defaults
        person.do("track", "dropped", ACME)
        client.offline = False
        assert person.do("check_flag", "inference", ACME) is True
        held = person.do("check", "inference", ACME, usage=5)
        person.do("track_with_reservation", held.reservation, 5)
    events = [event["body"].get("event") for event in emulator.events()]
    assert "dropped" not in events
    assert "inference_tokens" in events
    assert emulator.audit()["balanced"]


def test_a_wrong_value_of_an_attribute_is_refused() -> None:
    client = Schematic("", SchematicConfig(offline=True))
    with pytest.raises(TypeError, match="offline must be a bool"):
        client.offline = 1  # type: ignore[assignment]
    with pytest.raises(TypeError, match=r"flag_defaults\['f'\] must be a bool"):
        client.flag_defaults["f"] = 1  # type: ignore[assignment]
    with pytest.raises(TypeError, match="flag_defaults must be a mapping"):
        client.flag_defaults = None  # type: ignore[assignment]
    with pytest.raises(TypeError, match="flag_check_cache_providers must be a list"):
        client.flag_check_cache_providers = LocalCache()  # type: ignore[assignment]


def test_the_caches_of_a_client_can_be_removed() -> None:
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(200, json={"data": {"flag": "f", "value": True, "reason": "match"}})

    with httpx.Client(transport=httpx.MockTransport(answer)) as given:
        client = Schematic(API_KEY, SchematicConfig(httpx_client=given))
        assert isinstance(client.flag_check_cache_providers[0], LocalCache)
        assert client.check_flag("f") is client.check_flag("f") is True
        assert asked == ["/flags/f/check"]
        client.flag_check_cache_providers = []
        assert client.check_flag("f") is True
        assert asked == ["/flags/f/check"] * 2
        client.offline = True  # there is no service to send events to
        client.shutdown()


@both_clients
def test_a_client_can_be_initialized_repeatedly(dead_url: str, kind: str) -> None:
    for fields in ({"offline": True}, {"base_url": dead_url, "timeout": 0.2}):
        with Caller(kind, fields) as person:
            for _ in range(2):
                assert person.do("initialize") is None
            person.do("shutdown")
            assert person.do("initialize") is None


def test_a_mock_can_be_the_logger_and_the_httpx_client() -> None:
    log = MagicMock()
    given = MagicMock(spec=httpx.Client)
    given.request.side_effect = httpx.ConnectError("no {braces} 100%")
    given.follow_redirects = True
    config = SchematicConfig(logger=log, httpx_client=given, timeout=0.2)
    with Schematic(API_KEY, config) as client:
        assert client.logger is log
        assert client.check_flag("f") is False
    (text,) = log.error.call_args.args
    assert "no {braces} 100%" in text


@both_clients
def test_a_mock_that_returns_no_response_leaves_the_defaults(kind: str) -> None:
    given = MagicMock(spec=httpx.Client)  # its responses are mocks as well
    fields = {"httpx_client": given, "flag_defaults": {"f": True}, "timeout": 0.2}
    with Caller(kind, fields) as person:
        assert person.do("check_flag", "f") is True
        assert person.do("check_flag", "g") is False
        (answer,) = person.do("check_flags", ["f"])
        assert (answer.value, "is no response" in answer.error) == (True, True)
        result = person.do("check", "f", ACME, usage=1)
        assert (result.allowed, result.reservation) == (True, None)


def test_a_logger_of_another_library_gets_formatted_messages() -> None:
    class Log:
        def __init__(self) -> None:
            self.said: list[tuple[str, str]] = []

        def info(self, text: str) -> None:
            self.said.append(("info", text))

        def warning(self, text: str) -> None:
            self.said.append(("warning", text))

        def error(self, text: str) -> None:
            self.said.append(("error", text))

    log: Any = Log()
    client = Schematic("", SchematicConfig(offline=True, use_datastream=True, logger=log))
    client.track_with_reservation(None, 1)
    assert [level for level, _ in log.said] == ["warning", "error"]
    own = logging.getLogger("habits")
    assert Schematic("", SchematicConfig(offline=True, logger=own)).logger is own
    with pytest.raises(TypeError, match=r"logger must be a logging\.Logger, or have info"):
        Schematic("", SchematicConfig(offline=True, logger=object()))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [Schematic, AsyncSchematic])
def test_a_client_can_be_mocked_by_its_class(kind: type) -> None:
    mocked = create_autospec(kind, instance=True)
    for name in ("check_flag", "track", "companies", "credits", "offline", "flag_defaults"):
        assert hasattr(mocked, name)
    with pytest.raises(AttributeError):
        _ = mocked.nonsense


@pytest.mark.parametrize(
    "name", ["check", "check_flag", "track_with_reservation", "track", "identify"]
)
def test_an_awaited_method_is_known_as_a_coroutine_function(name: str) -> None:
    client = AsyncSchematic("", AsyncSchematicConfig(offline=True))
    for method in (getattr(AsyncSchematic, name), getattr(client, name)):
        assert inspect.iscoroutinefunction(method)
    assert isinstance(getattr(create_autospec(AsyncSchematic, instance=True), name), AsyncMock)
