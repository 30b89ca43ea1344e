"""The oldest releases that the package says it works with, as `make test-oldest` installs them."""

from __future__ import annotations

import pytest
from scripts.oldest import PROJECT, oldest

ONE = '[project]\ndependencies = ["{}"]\n[project.optional-dependencies]\nemulator = ["b.c-d>=2"]'


def test_each_requirement_is_pinned_to_its_lowest_release():
    assert oldest(ONE.format("a>=1.2.3,<2; python_version < '4'")) == ["a==1.2.3", "b.c-d==2"]
    assert "redis==5.0.1" in oldest(PROJECT.read_text())


def test_a_requirement_without_a_lowest_release_is_refused():
    with pytest.raises(ValueError, match=r"'a<2' must name its lowest release"):
        oldest(ONE.format("a<2"))
