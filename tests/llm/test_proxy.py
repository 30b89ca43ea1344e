"""The proxy of LiteLLM as a process, with holds around its requests."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import litellm
import pytest

from tests.client.hold_worlds import billed, bills
from tests.conftest import API_KEY, eventually
from tests.llm.provider import ANSWER, ASKED, PROMPT, WORDS, serving
from tests.ports import free_port

pytest.importorskip("litellm.proxy.proxy_cli", reason="make test-litellm")
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(300)]

TOLD = PROMPT + ANSWER
SEEN = litellm.token_counter(model="gpt-3.5-turbo", text=ASKED[0]["content"])
MODELS = ("good", "slow", "bad", "breaks")
MOCKED = {"model": "gpt-4o", "mock_response": "Those of two divisors"}


def configuration(logger, url):
    models = [
        {
            "model_name": name,
            "litellm_params": {"model": f"openai/{name}", "api_base": url, "api_key": "none"},
        }
        for name in MODELS
    ]
    claude = {"model": "anthropic/claude", "api_base": url.removesuffix("/v1"), "api_key": "none"}
    models.append({"model_name": "claude", "litellm_params": claude})
    models.append({"model_name": "mocked", "litellm_params": MOCKED})
    return {
        "model_list": models,
        "litellm_settings": {"callbacks": [f"callbacks.{logger}"], "num_retries": 0},
        "router_settings": {
            "fallbacks": [{"bad": ["good"]}],
            "num_retries": 0,
            "disable_cooldowns": True,
        },
    }


class World:
    """A provider, the emulator, and a proxy between them."""

    def __init__(self, provider, emulator, browser):
        self.provider, self.emulator, self.browser = provider, emulator, browser
        self._before = 0, 0

    def begin(self):
        self.provider.asked.clear()
        self.provider.ended.clear()
        self.provider._going_on.clear()
        self._before = billed(self.emulator), len(bills(self.emulator))
        return self

    @property
    def billed(self):
        return billed(self.emulator) - self._before[0]

    @property
    def bills(self):
        return len(bills(self.emulator)) - self._before[1]

    def ask(self, model, path="/v1/chat/completions", **body):
        body = {"model": model, "messages": ASKED, **body}
        return self.browser.post(path, json=body)

    def is_billed(self, units, within=0):
        eventually(lambda: self.billed > 0)
        assert abs(self.billed - units) <= within
        assert self.bills == 1


@pytest.fixture(scope="module", params=["seen", "drained"])
def world(request, tmp_path_factory):
    from schematic_native.emulator import Emulator  # noqa: PLC0415 - of this module's own

    home = tmp_path_factory.mktemp("proxy")
    shutil.copy(Path(__file__).with_name("callbacks.py"), home)
    port, key = free_port(), f"sk-{secrets.token_urlsafe(32)}"
    with Emulator(process=False) as emulator, serving() as (provider, url):
        config = home / "config.yaml"
        config.write_text(json.dumps(configuration(request.param, url)))  # JSON is YAML
        env = os.environ | {
            "SCHEMATIC_URL": emulator.base_url,
            "SCHEMATIC_KEY": API_KEY,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_MASTER_KEY": key,
        }
        command = [sys.executable, "-m", "schematic_native.integrations.litellm"]
        command += ["--config", str(config)]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        with (
            subprocess.Popen(command, env=env, cwd=home) as process,
            httpx.Client(
                base_url=f"http://127.0.0.1:{port}",
                headers={"Authorization": f"Bearer {key}"},
                timeout=60,
            ) as browser,
        ):
            try:
                eventually(lambda: is_up(process, browser), timeout=120)
                yield World(provider, emulator, browser)
            finally:
                process.terminate()
                process.wait(60)
        # What was left was delivered at the end, and nothing is held.
        assert emulator.audit()["balanced"]
        assert all(lease["released_at"] for lease in emulator.state()["leases"].values())


def is_up(process, browser):
    assert process.poll() is None
    try:
        return browser.get("/health/liveliness").status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture
def proxy(world):
    return world.begin()


def test_an_answer_is_billed_by_its_usage(proxy):
    answer = proxy.ask("good")
    assert answer.json()["usage"]["total_tokens"] == TOLD, answer.text
    proxy.is_billed(TOLD)


def test_the_answer_of_a_mock_is_billed(proxy):
    answer = proxy.ask("mocked").json()
    proxy.is_billed(answer["usage"]["total_tokens"])


def test_a_company_without_credits_is_answered_with_402_and_the_reason(proxy):
    answer = proxy.ask("good", user="none")
    assert answer.status_code == 402
    assert "lease_acquire_failed" in answer.text
    assert proxy.provider.asked == []
    assert proxy.billed == 0


def test_a_stream_is_billed_by_its_usage(proxy):
    text = proxy.ask("good", stream=True).text
    assert text.count("word") == WORDS
    assert '"total_tokens"' not in text
    proxy.is_billed(TOLD)


def test_a_fallback_to_another_model_is_billed_once(proxy):
    answer = proxy.ask("bad")
    assert answer.json()["usage"]["total_tokens"] == TOLD, answer.text
    assert proxy.provider.asked[-1] == "good"
    assert "bad" in proxy.provider.asked
    proxy.is_billed(TOLD)


def test_a_request_that_fails_bills_nothing(proxy):
    answer = proxy.ask("bad", fallbacks=[], disable_fallbacks=True)
    assert answer.status_code >= 500, answer.text
    assert proxy.ask("good").status_code == 200
    proxy.is_billed(TOLD)  # the one that did not fail


def test_a_stream_that_breaks_off_is_billed_by_what_was_seen(proxy):
    body = {"model": "breaks", "messages": ASKED, "stream": True}
    with proxy.browser.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = answer.iter_lines()
        # It may hold back what came last, and whatever has not been read when a connection breaks is lost.
        for _ in range(WORDS // 2 - 2):
            next(line for line in lines if "word" in line)
        proxy.provider.go_on()
        assert not any("[DONE]" in line for line in lines)
    proxy.is_billed(SEEN + WORDS // 2, within=2)


def test_a_client_that_leaves_in_mid_stream_is_billed(proxy, request):
    body = {"model": "slow", "messages": ASKED, "stream": True}
    with proxy.browser.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = answer.iter_lines()
        for _ in range(WORDS // 4):
            next(line for line in lines if "word" in line)
    if "drained" in request.node.name:
        proxy.provider.go_on()
        proxy.is_billed(TOLD)
    else:
        proxy.is_billed(SEEN + WORDS // 2, within=WORDS // 4 + 1)
        proxy.provider.go_on()


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("model", ["claude", "good"])
def test_the_messages_of_anthropics_api_are_billed(proxy, model, streams):
    answer = proxy.ask(model, "/v1/messages", max_tokens=100, stream=streams)
    assert answer.text.count("word") == WORDS
    assert proxy.provider.asked == [model]
    proxy.is_billed(TOLD)


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("model", ["claude", "good"])
def test_chat_completions_of_any_provider_are_billed(proxy, model, streams):
    answer = proxy.ask(model, stream=streams)
    assert answer.text.count("word") == WORDS
    proxy.is_billed(TOLD)


@pytest.mark.parametrize("streams", [False, True])
def test_the_responses_api_is_billed(proxy, streams):
    body = {"model": "good", "input": "Which numbers are prime?", "stream": streams}
    answer = proxy.browser.post("/v1/responses", json=body)
    assert "response.completed" in answer.text or not streams, answer.text
    proxy.is_billed(TOLD)


def test_a_callers_own_name_for_a_hold_is_not_taken(proxy):
    assert proxy.ask("good", metadata={"schematic_hold": "another"}).status_code == 200
    proxy.is_billed(TOLD)


def test_what_costs_no_tokens_is_not_held_for(proxy):
    assert proxy.browser.get("/v1/models").status_code == 200
    assert proxy.billed == 0
