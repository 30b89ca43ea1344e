"""Every Python example of the README runs, against the emulator."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from schematic_native.emulator import Emulator

ROOT = Path(__file__).parent.parent
EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


@pytest.fixture
def emulator(emulator_process: Emulator) -> Emulator:
    return emulator_process


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_of_the_readme_runs(
    example: str,
    emulator: Emulator,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    url = emulator.base_url
    if "YOUR_API_KEY" in example:
        example = example.replace("YOUR_API_KEY", emulator.api_key)
        example = example.replace(
            "Config(use", f"Config(base_url={url!r}, event_capture_url={url!r}, use"
        )
    names: dict[str, object] = {}
    exec("from schematic_native import *\nfrom schematic_native.emulator import Emulator", names)
    exec(compile(example, "README.md", "exec"), names)
    assert "denied" not in capsys.readouterr().out
    if url in example:
        assert emulator.state()["billed"]["comp_acme"]["inference_tokens"] == 950
        assert emulator.audit()["balanced"]


def test_the_readme_has_the_examples_that_newcomers_copy() -> None:
    assert len(EXAMPLES) == 5
