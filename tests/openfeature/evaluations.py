"""What evaluations are given: the contexts of a company and of nobody, and a default of each kind."""

from __future__ import annotations

from typing import Any

from openfeature.evaluation_context import EvaluationContext

ACME = EvaluationContext(attributes={"company.id": "acme"})
NOBODY = EvaluationContext()
DEFAULTS: dict[str, Any] = {
    "boolean": False,
    "string": "bye",
    "integer": 1,
    "float": 0.1,
    "object": {"a": 1},
}
