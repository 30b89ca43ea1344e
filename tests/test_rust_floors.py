"""The floors of the Rust crates, as `make lint` holds them."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripts.rust_floors import LONGEST_FILE, expand, problems

FLOORS = {"rust/core/src": ("ground", "leases", "decider")}
UPWARD = "leases/slot.rs: leases may not know decider, which lies above it"
CIRCLE = "a circle: decider -> leases -> decider"
HEAD = "//! What this owns.\n"
SOUND = {
    "lib.rs": "mod decider;\nmod ground;\nmod leases;\npub use ground::Now;\n",
    "ground.rs": "pub struct Now;\n",
    "leases/mod.rs": "mod ledger;\nmod slot;\npub use ledger::Ledger;\npub use slot::{Key, Slot};\n",
    "leases/ledger.rs": "use super::Slot;\nuse crate::Now;\n",
    "leases/slot.rs": "use crate::ground;\n",
    "decider.rs": "use crate::{leases::{Key, Ledger}, ground::Now};\n",
}


@pytest.fixture
def check(tmp_path: Path):
    """Check a tree that is sound but for the files given, and name files as they lie in the crate."""

    def check(**changed: str):
        source = tmp_path / "rust/core/src"
        for name, text in {**SOUND, **changed}.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_text(text if text.startswith("//!") else HEAD + text)
        faults = problems(tmp_path, FLOORS)
        return [line.removeprefix(str(source)).lstrip("/: ") for line in faults]

    return check


def test_the_crates_of_this_repository_keep_their_floors():
    assert problems(Path(__file__).parent.parent) == []


def test_arrows_that_run_down_are_fine(check):
    assert check() == []


@pytest.mark.parametrize(
    "arrow",
    [
        "use crate::decider::Decider;",
        "use crate::{Now, decider::{self, Decider}};",
        "use super::super::decider::Decider;",
        "fn f() -> crate::decider::Decider {}",
    ],
)
def test_an_arrow_that_runs_up_is_refused(check, arrow):
    assert check(**{"leases/slot.rs": arrow}) == [UPWARD, CIRCLE]


def test_an_arrow_that_runs_up_through_the_crate_root_is_refused(check):
    faults = check(
        **{"lib.rs": "pub use decider::Decider;", "leases/slot.rs": "use crate::Decider;"}
    )
    assert faults == [UPWARD, CIRCLE]


@pytest.mark.parametrize("back", ["use super::ledger::Ledger;", "use crate::leases::Ledger;"])
def test_files_of_a_folder_that_know_each_other_in_a_circle_are_refused(check, back):
    (fault,) = check(**{"leases/slot.rs": back})
    assert fault == "leases: a circle: ledger -> slot -> ledger"


def test_a_module_without_a_floor_is_refused(check):
    (fault,) = check(**{"attic.rs": ""})
    assert fault == "attic: has no floor: give it one in scripts/rust_floors.py"


def test_comments_and_tests_may_name_what_lies_above(check):
    tests = "// crate::decider\n#[cfg(test)]\nmod tests {\n    use crate::decider::Decider;\n}\n"
    assert check(**{"leases/slot.rs": tests}) == []


def test_a_file_that_does_not_say_what_it_owns_is_refused(check, tmp_path):
    check()
    bare = tmp_path / "rust/core/tests/slots.rs"
    bare.parent.mkdir()
    bare.write_text("fn f() {}\n")
    (fault,) = problems(tmp_path, FLOORS)
    assert fault == f"{bare}: must open with what it owns and must never do (//!)"


def test_a_file_that_is_too_long_is_refused(check):
    lines = HEAD + "\n" * (LONGEST_FILE - 1)
    assert check(**{"ground.rs": lines}) == []
    (fault,) = check(**{"ground.rs": lines + "\n"})
    assert fault == f"ground.rs: has {LONGEST_FILE + 1} lines, of at most {LONGEST_FILE}"


@pytest.mark.parametrize(
    ("tree", "paths"),
    [
        ("crate::a", ["crate a"]),
        ("crate::{a, b::{c, d as e}, f::*,}", ["crate a", "crate b c", "crate b d", "crate f *"]),
        ("super::{self, a::{b}}", ["super self", "super a b"]),
    ],
)
def test_a_use_is_read_path_by_path(tree, paths):
    assert [" ".join(path) for path in expand(tree)] == paths
