"""Every Python example of the documentation runs, page by page, against one emulator."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import pytest
from scripts.python_floors import FLOORS

from schematic_native import Schematic
from schematic_native.config import settings
from schematic_native.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.stores.servers import RedisServer

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>.+?) -->\n+)?```python\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
FENCE = re.compile(r"^ *```(\w*)")
REDIS_URL = "redis://localhost:6379/0"
# Examples that must not run, by page: each is marked there, with the reason.
NOT_RUN = {"frameworks.md": 1}


class Example(NamedTuple):
    """One block of a page: where its code begins, and why it is not run, if it is not."""

    line: int
    code: str
    reason: str | None


def examples(page: Path) -> list[Example]:
    text = page.read_text()
    return [
        Example(text.count("\n", 0, found.start("code")), found["code"], found["reason"])
        for found in BLOCK.finditer(text)
    ]


PAGES = {page.name: examples(page) for page in sorted(DOCS.glob("*.md"))}
RUNNING = [name for name, found in PAGES.items() if any(not each.reason for each in found)]


@pytest.fixture(scope="module")
def service() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


def run(page: str, code: str, line: int, names: dict[str, object]) -> None:
    """Run one example; a traceback shows the page and the line in it."""
    exec(compile("\n" * line + code, str(DOCS / page), "exec"), names)


def close(names: dict[str, object]) -> None:
    """Close what the examples have opened for the time of a program."""
    for value in names.values():
        if isinstance(value, Schematic):
            value.shutdown()
    for value in names.values():
        if isinstance(value, Emulator):
            value.stop()


# What frameworks have deprecated among themselves is no fault of an example.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("page", RUNNING)
def test_the_examples_of_a_page_run(
    page: str,
    service: Emulator,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if page == "frameworks.md":
        for framework in ("celery", "django", "fastapi", "flask"):
            pytest.importorskip(framework, reason="pip install --group docs")
    if page == "litellm.md":
        pytest.importorskip("litellm", reason="make test-litellm")
    if page in {"migration.md", "testing.md"}:
        pytest.importorskip("schematic.base_client", reason="pip install --group peer")
    monkeypatch.chdir(ROOT)
    # The examples name no URL, and must not reach the public service.
    monkeypatch.setattr(settings, "BASE_URL", service.base_url)
    monkeypatch.setattr(settings, "EVENT_CAPTURE_URL", service.base_url)
    before = service.state()["billed"].get("comp_acme", {}).get("inference_tokens", 0)
    module = ModuleType("example")
    monkeypatch.setitem(sys.modules, "example", module)
    try:
        for example in PAGES[page]:
            if example.reason is None:
                code = example.code.replace("YOUR_API_KEY", service.api_key)
                code = code.replace(REDIS_URL, redis_server.url)
                run(page, code, example.line, vars(module))
    finally:
        close(vars(module))
    if any("YOUR_API_KEY" in example.code for example in PAGES[page]):
        assert service.state()["billed"]["comp_acme"]["inference_tokens"] > before
    assert service.audit()["balanced"]


def test_the_tests_of_the_testing_page_pass_as_a_file_of_their_own(tmp_path: Path) -> None:
    blocks = [each.code for each in PAGES["testing.md"] if "def test_" in each.code]
    file = tmp_path / "test_example.py"
    file.write_text("\n".join(blocks))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--rootdir", str(tmp_path), str(file)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_what_is_not_run_is_marked_and_counted() -> None:
    marked = {name: sum(bool(each.reason) for each in found) for name, found in PAGES.items()}
    assert {name: count for name, count in marked.items() if count} == NOT_RUN


def test_every_fence_of_python_is_collected() -> None:
    for name, found in PAGES.items():
        fences = [FENCE.match(line) for line in (DOCS / name).read_text().splitlines()]
        assert sum(bool(fence) and fence[1] == "python" for fence in fences) == len(found), name


def test_the_pages_that_newcomers_copy_from_have_examples() -> None:
    expected = {"index.md", "migration.md", "leases.md", "redis.md", "frameworks.md"}
    assert expected | {"testing.md", "operations.md"} <= set(RUNNING)


DECISIONS = (DOCS / "decisions.md").read_text()
DECISION = re.compile(
    r"^## (?P<number>\d+)\. (?P<title>.+)\n\n(?P<opening>.+(?:\n.+)*)", re.MULTILINE
)
STATUS = r"(?:accepted|(?:amended|superseded) by \[\d+\]\(#[^)]+\)(?: and \[\d+\]\(#[^)]+\))*)"
INDEXED = re.compile(rf"^\| (\d+) \| \[(.+)\]\(#[^)]+\) \| {STATUS} \|$", re.MULTILINE)


def test_the_index_lists_every_decision_with_its_title_and_status() -> None:
    decisions = [(found["number"], found["title"]) for found in DECISION.finditer(DECISIONS)]
    assert decisions == INDEXED.findall(DECISIONS)
    assert [int(number) for number, _ in decisions] == list(range(1, len(decisions) + 1))


@pytest.mark.parametrize(
    "decision", list(DECISION.finditer(DECISIONS)), ids=lambda found: found["number"]
)
def test_a_decision_opens_with_one_sentence_that_says_what_was_decided(
    decision: re.Match[str],
) -> None:
    sentence = re.fullmatch(r"\*\*([^*]+)\*\*", decision["opening"])
    assert sentence is not None
    assert sentence[1].endswith(".")
    assert ". " not in sentence[1].replace("\n", " ")


CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
NAMED = re.compile(r"`([\w./-]+)`")
PACKAGE = ROOT / "python" / "schematic_native"


def paths_of(section: str) -> list[str]:
    """Return the files and folders that a section of CONTRIBUTING names."""
    begin = CONTRIBUTING.index(f"\n## {section}\n")
    end = CONTRIBUTING.find("\n## ", begin + 1)
    named = NAMED.findall(CONTRIBUTING[begin:end])
    return [
        each for each in named if "/" in each or re.search(r"\.(?:py|pyi|rs|lua|md|toml)$", each)
    ]


@pytest.mark.parametrize(
    ("section", "least"),
    [
        ("The floors", 6),
        ("The life of a check", 15),
        ("The life of a settle", 5),
        ("Where to change what", 80),
        ("What the tests need", 5),
    ],
)
def test_each_file_that_the_map_names_exists(section: str, least: int) -> None:
    paths = paths_of(section)
    assert len(paths) >= least
    missing = [
        path for path in paths if not (ROOT / path).exists() and not (PACKAGE / path).exists()
    ]
    assert missing == []


def test_the_map_leads_from_twenty_five_changes_or_more_to_a_file() -> None:
    begin = CONTRIBUTING.index("\n## Where to change what\n")
    table = CONTRIBUTING[begin : CONTRIBUTING.index("\n## ", begin + 1)]
    changes = re.findall(r"^\| ([^*|]+) \| (.*`[\w./-]+`.*) \| .* \|$", table, re.MULTILINE)
    assert len(changes) >= 25


def test_contributing_lists_every_decision_with_its_status() -> None:
    listed = re.findall(
        r"^- \[(\d+)\. (.+)\]\(docs/decisions\.md(#[^)]+)\)(?:, (.+))?$", CONTRIBUTING, re.MULTILINE
    )
    indexed = re.findall(r"^\| (\d+) \| \[(.+)\]\((#[^)]+)\) \| (.+) \|$", DECISIONS, re.MULTILINE)
    statuses = [re.sub(r"\[(\d+)\]\([^)]+\)", r"\1", status) for *_, status in indexed]
    assert sorted(listed, key=lambda each: int(each[0])) == [
        (number, title, anchor, "" if status == "accepted" else status)
        for (number, title, anchor, _), status in zip(indexed, statuses, strict=True)
    ]


def test_the_picture_of_the_floors_shows_those_that_are_checked() -> None:
    picture = (DOCS / "images" / "floors.svg").read_text()
    drawn = re.findall(r'font-weight="600">([^<:]+)</text>', picture)
    boxes = [set(re.findall(r"\w+", line)) for line in drawn]
    floors = [at for box in boxes for at, floor in enumerate(FLOORS) if box & set(floor)]
    assert floors == list(range(len(FLOORS)))


LINK = re.compile(r"\[[^\]]*\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")


def anchors_of(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"])
def test_each_link_of_a_page_outside_the_site_leads_somewhere(name: str) -> None:
    for path, anchor in LINK.findall((ROOT / name).read_text()):
        target = ROOT / (path or name)
        assert target.exists(), path
        assert not anchor or anchor in anchors_of(target), (path, anchor)
