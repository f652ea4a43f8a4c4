"""The bench: what it compares, how it reckons, what it does with tools that fail."""

from __future__ import annotations

import random
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar
from xml.etree import ElementTree

import pytest

from tests.bench.c_files import c_files
from tests.bench.measure import RunFailedError, Usage, run
from tests.bench.model import Action, Rule, Workload, render
from tests.bench.peers.base import Peer, Setting
from tests.bench.phases import Bench, DifferentBytesError, Plan, Sample
from tests.bench.render import BEGIN, END, charts, rewrite_readme, tables
from tests.bench.results import Results, load, together
from tests.bench.shapes import chain, large, layers, many, wide
from tests.bench.workloads import SIZES, parse_sizes


class Shell(Peer):
    """A shell script of all commands: the plainest tool there is."""

    name: ClassVar = "shell"
    programs: ClassVar = ("sh",)
    spoil: ClassVar = ""

    def write_build(self) -> None:
        lines = [render(action) for action in self.workload.actions]
        (self.directory / "build.sh").write_text("\n".join([*lines, self.spoil, ""]))

    def command(self) -> Sequence[str]:
        return ("sh", "-e", "build.sh")


class Wrong(Shell):
    """A tool that adds a byte to what all others make."""

    name: ClassVar = "wrong"
    spoil: ClassVar = "echo >> all/all"


class Failing(Shell):
    """A tool that fails."""

    name: ClassVar = "failing"
    spoil: ClassVar = "exit 3"


SHAPES = [wide(4), chain(3), layers(3, 4, 2), large(5000), many(7, in_directory=3)]


def bench(tmp_path: Path, rounds: int = 2) -> Bench:
    plan = Plan(rounds=rounds, timeout=60, sync=False)
    return Bench(Setting(), tmp_path / "work", plan, lambda _: None)


@pytest.mark.parametrize("workload", SHAPES, ids=lambda one: one.name)
def test_every_shape_builds_and_every_phase_is_timed(workload: Workload, tmp_path: Path) -> None:
    made = bench(tmp_path)
    made.run(workload, [Shell])
    timed = {(one.phase, one.round) for one in made.samples if one.peer == "shell"}
    wanted = set(workload.phases) - {"clean"}  # it has no cache
    assert timed == {(phase, number) for phase in wanted for number in range(2)}
    assert not made.failed


def test_a_leaf_changes_the_end_and_a_comment_does_not(tmp_path: Path) -> None:
    for number, workload in enumerate([wide(4), chain(4), layers(3, 4, 2)]):
        peer = Shell(Setting(), tmp_path / str(number))
        peer.write(workload)

        def built(peer: Shell = peer, name: str = workload.ends[0]) -> bytes:
            run(peer.command(), peer.directory, peer.env(), tmp_path / "log", 60)
            return peer.result(name).read_bytes()

        before = built()
        path = workload.edits["comment"].choose(random.Random(1))
        workload.edits["comment"].apply(peer.place(path), 77)
        assert built() == before
        workload.edits["leaf"].apply(peer.place(path), 77)
        assert built() != before


def test_tools_that_disagree_end_the_bench(tmp_path: Path) -> None:
    with pytest.raises(DifferentBytesError, match="all/all differs"):
        bench(tmp_path).run(wide(3), [Shell, Wrong])
    assert not list((tmp_path / "work").iterdir())


def test_a_tool_that_fails_is_left_out_and_named(tmp_path: Path) -> None:
    made = bench(tmp_path)
    made.run(wide(3), [Failing, Shell])
    assert {one.peer for one in made.samples} == {"shell"}
    assert [one.peer for one in made.skipped] == ["failing"]
    assert made.failed


def test_a_run_that_takes_too_long_ends_with_all_its_processes(tmp_path: Path) -> None:
    mark = tmp_path / "late"
    script = f"(sleep 2; touch {shlex.quote(str(mark))}) & sleep 60"
    with pytest.raises(RunFailedError, match="took more"):
        run(("sh", "-c", script), tmp_path, {"PATH": "/usr/bin:/bin"}, tmp_path / "log", 0.5)
    time.sleep(2.5)
    assert not mark.exists()


def test_the_work_of_children_is_counted(tmp_path: Path) -> None:
    script = "(i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done)"
    usage = run(("sh", "-c", script), tmp_path, {"PATH": "/usr/bin:/bin"}, tmp_path / "log", 60)
    assert usage.cpu > 0.01
    assert usage.memory > 0


def test_a_script_names_its_paths_as_the_tool_does() -> None:
    rule = Rule(name="r", script="cc -I{include}{md} {in} -o {out}", common=("include/h",))
    action = Action(rule=rule, inputs=("src/a", "src/b"), output="o/a")
    assert render(action, md=" -MD") == "cc -Iinclude -MD src/a src/b -o o/a"
    assert (
        render(action, lambda path: f"/x/{path}") == "cc -I/x/include /x/src/a /x/src/b -o /x/o/a"
    )
    assert action.reads == ("src/a", "src/b", "include/h")


def test_generated_c_is_the_same_for_the_same_seed() -> None:
    assert c_files(5, seed=3).sources == c_files(5, seed=3).sources
    assert c_files(5, 20, seed=3).sources != c_files(5, 20, seed=4).sources


def test_sizes_are_read_and_checked() -> None:
    assert parse_sizes("W1=7,W3=2x3x2", SIZES)["W3"] == "2x3x2"
    for wrong in ("W9=1", "W1=", "W1=0", "W5=1+x", "W6=much"):
        with pytest.raises(ValueError):
            parse_sizes(wrong, SIZES)


def results(*seconds: tuple[str, float, float], workload: str = "W1") -> Results:
    samples = [
        Sample(workload, peer, "cold", number, Usage(value, value, 5_000_000, 6_000_000))
        for peer, *values in seconds
        for number, value in enumerate(values)
    ]
    machine = {
        "processors": 2,
        "memory": 2**34,
        "kernel": "6",
        "architecture": "x86_64",
        "python": "3.11",
        "file_system": "ext4",
        "root": False,
    }
    return Results(
        machine=machine,
        options={},
        versions={peer: "1" for peer, *_ in seconds},
        notes={},
        titles={workload: "wide"},
        samples=samples,
    )


def test_ratios_are_those_of_the_same_round() -> None:
    found = results(("ninja", 1.0, 10.0), ("bn", 3.0, 20.0)).cell("W1", "cold", "bn")
    assert (found.median, found.least, found.most, found.ratio) == (11.5, 3.0, 20.0, 2.5)


def test_results_survive_json_and_are_put_together() -> None:
    first = results(("ninja", 1.0, 1.0))
    assert load(first.document()) == first
    whole = together([first, results(("bn", 2.0, 2.0), workload="W2")])
    assert list(whole.titles) == ["W1", "W2"]
    assert len(whole.samples) == 4
    with pytest.raises(ValueError):
        load({"format": 0})


def test_tables_and_charts_show_every_tool(tmp_path: Path) -> None:
    found = results(("ninja", 1.0, 10.0), ("bn", 3.0, 20.0))
    assert "| bn | 11.5 s (3 s–20 s) · 2.50× |" in tables(found)
    images = charts(found)
    texts = [one.text for one in ElementTree.fromstring(images["W1.svg"]).iter()]
    assert "bn" in texts
    readme = tmp_path / "README.md"
    readme.write_text(f"above\n{BEGIN}\nbygone\n{END}\nbelow\n")
    rewrite_readme(readme, found, images, tmp_path / "charts")
    text = readme.read_text()
    assert text.startswith("above\n")
    assert text.endswith(f"{END}\nbelow\n")
    assert "bygone" not in text
    assert "(charts/W1.svg)" in text
    assert (tmp_path / "charts" / "W1.svg").exists()
    readme.write_text("no markers")
    with pytest.raises(ValueError):
        rewrite_readme(readme, found, images, tmp_path)
