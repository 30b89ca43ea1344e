"""LiteLLM without the network: what it would fetch when it is imported comes with it."""

from __future__ import annotations

import os

import pytest

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
pytest.importorskip("litellm", reason="make test-litellm")

from schematic_native import Schematic, SchematicConfig
from tests.conftest import API_KEY, streaming
from tests.llm.provider import ASKED, serving


@pytest.fixture(scope="module")
def served():
    with serving() as served:
        yield served


@pytest.fixture
def provider(served):
    provider, _ = served
    provider.asked.clear()
    provider.ended.clear()
    provider._going_on.clear()
    return provider


@pytest.fixture
def at(served, provider):
    """Arguments of a call of one model of the provider's."""

    def arguments(model, **others):
        return {
            "model": f"openai/{model}",
            "messages": ASKED,
            "api_base": served[1],
            "api_key": "none",
            "max_retries": 0,
            **others,
        }

    return arguments


@pytest.fixture
def client(emulator):
    config = SchematicConfig(**streaming(emulator, event_buffer_period=0.05))
    with Schematic(API_KEY, config) as client:
        yield client
