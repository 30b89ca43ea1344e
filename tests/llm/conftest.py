"""LiteLLM without the network: what it would fetch when it is imported comes with it."""

from __future__ import annotations

import os

import pytest

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
pytest.importorskip("litellm", reason="make test-litellm")
