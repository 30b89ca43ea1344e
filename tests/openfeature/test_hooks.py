"""What hooks receive of an evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("openfeature", reason="pip install --group test")

from openfeature.exception import ErrorCode, OpenFeatureError
from openfeature.flag_evaluation import FlagEvaluationDetails, FlagEvaluationOptions, Reason
from openfeature.hook import Hook, add_hooks

from tests.openfeature.evaluations import ACME

if TYPE_CHECKING:
    from openfeature.client import OpenFeatureClient


class Recorder(Hook):
    def __init__(self) -> None:
        self.stages: list[str] = []
        self.last: FlagEvaluationDetails[Any] | None = None
        self.error_met: Exception | None = None

    def before(self, hook_context, hints):
        self.stages.append("before")

    def after(self, hook_context, details, hints):
        self.stages.append("after")
        self.last = details

    def error(self, hook_context, exception, hints):
        self.stages.append("error")
        self.error_met = exception

    def finally_after(self, hook_context, details, hints):
        self.stages.append("finally")
        self.last = details


def test_hooks_receive_the_details(client: OpenFeatureClient) -> None:
    hook = Recorder()
    client.add_hooks([hook])
    client.get_boolean_details("inference", False, ACME)
    assert hook.stages == ["before", "after", "finally"]
    assert hook.last is not None
    assert (hook.last.flag_key, hook.last.value, hook.last.variant) == ("inference", True, "on")
    assert (hook.last.reason, hook.last.error_code) == (Reason.TARGETING_MATCH, None)


def test_hooks_of_one_evaluation_run_in_their_order(client: OpenFeatureClient) -> None:
    stages: list[str] = []

    class Named(Recorder):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def before(self, hook_context, hints):
            stages.append(f"before {self.name}")

        def after(self, hook_context, details, hints):
            stages.append(f"after {self.name}")

    options = FlagEvaluationOptions(hooks=[Named("one"), Named("two")])
    assert client.get_boolean_details("inference", False, ACME, options).value is True
    assert stages == ["before one", "before two", "after two", "after one"]


@pytest.mark.parametrize(
    ("key", "code"), [("missing", ErrorCode.FLAG_NOT_FOUND), ("inference", ErrorCode.TYPE_MISMATCH)]
)
def test_hooks_receive_errors(client: OpenFeatureClient, key, code) -> None:
    hook = Recorder()
    add_hooks([hook])
    client.get_string_details(key, "uh-oh", ACME)
    assert hook.stages == ["before", "error", "finally"]
    assert isinstance(hook.error_met, OpenFeatureError)
    assert hook.error_met.error_code == code
    assert hook.last is not None
    assert (hook.last.value, hook.last.variant) == ("uh-oh", None)
    assert (hook.last.reason, hook.last.error_code) == (Reason.ERROR, code)
