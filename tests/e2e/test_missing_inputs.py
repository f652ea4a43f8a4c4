"""Inputs that were taken to be in the store, and are not: found out when they are needed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from blake3 import blake3

from engine.memo import read_memo, write_memo

if TYPE_CHECKING:
    from tests.e2e.conftest import Bn

SPEC = """
    [sources.src]
    path = "src"
    [actions.leaf]
    foreach = "src:*.txt"
    inputs = ["{item}", "src:common"]
    tools = ["sh"]
    script = "{ read a; read b; } < src/common; read c < {item}; echo $a $c > $out/{item.stem}.o"
    outputs = ["{item.stem}.o"]
    [actions.all]
    inputs = ["leaf"]
    tools = ["sh"]
    script = "for one in leaf/*; do read a < $one; echo $a; done > $out/all"
    outputs = ["all"]
    """
NAMES = ("a", "b", "c", "d")


@pytest.fixture
def built(bn: Bn) -> Bn:
    """A project that was built."""
    bn.spec(SPEC, "all")
    bn.put("src/common", "x\n\n")
    for name in NAMES:
        bn.put(f"src/{name}.txt", f"{name}\n")
    bn("build")
    bn.put("src/a.txt", "one\n")
    assert bn.ran() == {"leaf[src/a.txt]", "all"}
    return bn


def blob(bn: Bn, text: str) -> Path:
    digest = blake3(text.encode()).hexdigest()
    return bn.store / "blobs" / digest[:2] / digest[2:]


def remove(file: Path) -> None:
    file.unlink()


def change(file: Path) -> None:
    file.chmod(0o644)
    file.write_text("else\n")
    file.chmod(0o444)


@pytest.mark.parametrize("harm", [remove, change])
def test_output_of_a_cached_step_that_is_gone_is_made_again(
    built: Bn, harm: Callable[[Path], None]
) -> None:
    shutil.rmtree(built.store / "staged", ignore_errors=True)
    harm(blob(built, "x b\n"))
    built.put("src/a.txt", "two\n")
    built("build")
    assert built.result("all") == "x two\nx b\nx c\nx d\n"
    assert blob(built, "x b\n").read_text() == "x b\n"


def test_source_that_is_gone_from_the_store_is_taken_in_again(built: Bn) -> None:
    shutil.rmtree(built.store / "staged", ignore_errors=True)
    for text in ("x b\n", "b\n", "x\n\n"):
        blob(built, text).unlink()
    built.put("src/a.txt", "two\n")
    built("build")
    assert built.result("all") == "x two\nx b\nx c\nx d\n"
    assert blob(built, "b\n").exists()


def test_target_that_is_gone_is_made_again(built: Bn) -> None:
    blob(built, "x b\n").unlink()
    built.put("src/a.txt", "two\n")
    assert "leaf[src/b.txt]" in built.ran("all", "leaf")
    assert built.result("b.o") == "x b\n"


def test_all_is_looked_for_where_the_plan_is_shown(built: Bn) -> None:
    blob(built, "x b\n").unlink()
    built.put("src/a.txt", "two\n")
    plan = built.json("build", "--dry-run")["steps"]
    assert plan["leaf[src/b.txt]"]["plan"] == "run"


def evaluations(bn: Bn, code: int = 0) -> tuple[int, str]:
    """Build, and return how often all was evaluated, and what was said."""
    said = bn("build", "--profile-bn", "trace.json", code=code).stderr
    events = json.loads((bn.directory / "trace.json").read_text())["traceEvents"]
    return [event["name"] for event in events].count("evaluate"), said


@pytest.fixture
def other_tools(built: Bn) -> Bn:
    """A project that was built, with tools of which one is not as it was when they were imported,
    behind the back of the package manager."""
    (path,) = (built.store / "records").glob("*.toolchain")
    tree, watched, marks, directories, blobs = read_memo(str(path))
    place = next(place for place, mark in marks.items() if place not in watched and any(mark))
    marks = {**marks, place: (1, 1, 1, 1)}
    write_memo(str(path), (tree, watched, marks, directories, blobs))
    return built


def test_tools_that_changed_unseen_are_found_out_while_something_runs(other_tools: Bn) -> None:
    other_tools.put("src/b.txt", "two\n")
    assert evaluations(other_tools)[0] == 2
    assert other_tools.result("all") == "x one\nx two\nx c\nx d\n"
    other_tools.put("src/b.txt", "three\n")
    assert evaluations(other_tools)[0] == 1


def test_tools_that_changed_unseen_are_found_out_where_nothing_runs(other_tools: Bn) -> None:
    other_tools.spec(f"{SPEC}\n# a comment", "all")
    assert evaluations(other_tools)[0] == 2


def test_a_failure_with_tools_that_changed_unseen_is_not_told(other_tools: Bn) -> None:
    other_tools.put("src/common", "")
    count, said = evaluations(other_tools, code=1)
    assert count == 2
    assert said.startswith("failed: [1/5] leaf[")
    failed = [line.split()[2] for line in said.splitlines() if "exited with" in line]
    assert len(failed) == len({*failed}), "each was told of once"
