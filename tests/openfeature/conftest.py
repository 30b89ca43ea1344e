"""The provider and the client under test, and an OpenFeature API in which nothing is left.

Without OpenFeature the tests of this folder are skipped, so only fixtures import it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from schematic_native import SchematicConfig
from tests.conftest import API_KEY, streaming

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openfeature.client import OpenFeatureClient
    from openfeature.evaluation_context import EvaluationContext
    from openfeature.flag_evaluation import FlagEvaluationDetails

    from schematic_native.emulator import Emulator
    from schematic_native.openfeature import SchematicProvider


@pytest.fixture(autouse=True)
def _nothing_is_left_in_the_api(emulator: Emulator) -> Iterator[None]:
    from openfeature.evaluation_context import (  # noqa: PLC0415
        EvaluationContext,
        set_evaluation_context,
    )
    from openfeature.hook import clear_hooks  # noqa: PLC0415

    from openfeature import _event_support, api  # noqa: PLC0415

    yield  # the emulator accepts what a shutdown still delivers
    api.clear_providers()
    _event_support.clear()
    clear_hooks()
    set_evaluation_context(EvaluationContext())


@pytest.fixture
def provider(emulator: Emulator) -> SchematicProvider:
    """A provider that has its own client and is not set yet."""
    from schematic_native.openfeature import SchematicProvider  # noqa: PLC0415

    return SchematicProvider(API_KEY, SchematicConfig(**streaming(emulator)))


@pytest.fixture
def client(provider: SchematicProvider) -> OpenFeatureClient:
    from openfeature import api  # noqa: PLC0415

    api.set_provider_and_wait(provider)
    return api.get_client()


@pytest.fixture(params=["sync", "async"])
def details(request: pytest.FixtureRequest, client: OpenFeatureClient) -> Any:
    """Evaluates with details, through each of the SDK's two ways."""
    from tests.openfeature.evaluations import ACME, DEFAULTS  # noqa: PLC0415

    def evaluate(
        kind: str, key: str, default: Any = None, context: EvaluationContext | None = ACME
    ) -> FlagEvaluationDetails[Any]:
        default = DEFAULTS[kind] if default is None else default
        if request.param == "sync":
            return getattr(client, f"get_{kind}_details")(key, default, context)
        return asyncio.run(getattr(client, f"get_{kind}_details_async")(key, default, context))

    return evaluate
