"""Workflows and hardware read from files, charts drawn."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from engine.placement.work import make_work
from engine.simulation.core import Settings, simulate
from engine.simulation.gantt import lanes, svg_chart, text_chart
from engine.simulation.hardware import load_hardware, machines
from engine.simulation.workflows import FORMAT, load_workflow, parse_workflow, to_document
from store.errors import InputError

NEW: dict[str, Any] = {
    "name": "new",
    "schemaVersion": "1.5",
    "workflow": {
        "specification": {
            "tasks": [
                {"name": "one", "id": "one_1", "children": ["two_2"], "outputFiles": ["x", "y"]},
                {"name": "two", "id": "two_2", "parents": ["one_1"], "inputFiles": ["x"]},
            ],
            "files": [{"id": "x", "sizeInBytes": 10}, {"id": "y", "sizeInBytes": 5}],
        },
        "execution": {
            "tasks": [
                {"id": "one_1", "runtimeInSeconds": 2.5, "coreCount": 2, "memoryInBytes": 7},
                {"id": "two_2", "runtimeInSeconds": 1},
            ]
        },
    },
}
OLD: dict[str, Any] = {
    "name": "old",
    "workflow": {
        "tasks": [
            {
                "name": "one",
                "runtime": 2.5,
                "cores": 2,
                "files": [{"link": "output", "name": "x", "size": 15}],
            },
            {"name": "two", "runtime": 1, "parents": ["one"]},
        ]
    },
}


@pytest.mark.parametrize("document", [NEW, OLD])
def test_workflows_of_wfcommons_are_read(document: dict[str, Any]) -> None:
    read = parse_workflow(document, "file")
    assert read.name == document["name"]
    assert list(read.work.seconds) == [2.5, 1.0]
    assert list(read.work.needs) == [[], [0]]
    assert list(read.work.cpus) == [2, 1]
    assert list(read.work.sizes) == [15, 0]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    read = parse_workflow(NEW, "file")
    path = tmp_path / "w.json"
    path.write_text(json.dumps(to_document(read)))
    again = load_workflow(path)
    assert to_document(again) == to_document(read)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[]", "not a workflow"),
        ('{"workflow": {}}', "not a workflow"),
        (json.dumps({"format": FORMAT, "steps": []}), "there are no steps"),
        (json.dumps({"format": FORMAT, "steps": [{"name": "a", "seconds": -1}]}), "'a': seconds"),
        (json.dumps({"format": FORMAT, "steps": [{"name": "a", "seconds": "x"}]}), "no number"),
        (json.dumps({"format": FORMAT, "steps": [{"name": "a", "needs": "b"}]}), "no list"),
        (json.dumps({"format": FORMAT, "steps": [{"seconds": 1}]}), "step 1 has no name"),
        (json.dumps({"format": FORMAT, "steps": [{"name": "a"}, {"name": "a"}]}), "two steps"),
        (json.dumps({"format": "bn.workflow.9", "steps": []}), "is not known"),
        (json.dumps({"format": FORMAT, "steps": [{"name": "a", "needs": ["a"]}]}), "circle"),
    ],
)
def test_what_is_no_workflow_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "w.json"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        load_workflow(path)


def test_what_is_needed_and_is_no_step_is_noted() -> None:
    document = {"format": FORMAT, "steps": [{"name": "a", "needs": ["gone"]}]}
    read = parse_workflow(document, "w")
    assert list(read.work.needs) == [[]]
    assert read.notes == ("needed, but no steps, so there from the start: 1 (gone)",)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_workflow(tmp_path / "none.json")


def test_hardware_is_read(tmp_path: Path) -> None:
    path = tmp_path / "nodes.toml"
    path.write_text(
        '[network]\nbandwidth = "1MB"\n'
        '[[nodes]]\nname = "a"\ncount = 2\ncpus = 4\nmemory = "1GB"\nspeed = 2.0\n'
        '[[nodes]]\nname = "b"\nonly = ["lib"]\nheat = { full = 90.0 }\n'
    )
    hardware = load_hardware(path)
    assert hardware.wire.bandwidth == 10**6
    assert [node.name for node, _ in hardware.named()] == ["a-0", "a-1", "b"]
    assert hardware.named()[0][0].memory == 10**9
    assert hardware.named()[2][0].only == ("lib",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no nodes"),
        ('[[nodes]]\nname = "a"\nspeed = 0.0\n', "speed"),
        ('[[nodes]]\nname = "a"\npreference = "best"\n', "preference"),
        ('[[nodes]]\nname = "a"\nmemory = "much"\n', "memory"),
        ('[[nodes]]\nname = "a"\nfailures = 1.0\n', "failures"),
        ('[[nodes]]\nname = "a"\n[[nodes]]\nname = "a"\n', "two nodes"),
        ('[[nodes]]\nname = "a"\ncolour = "red"\n', "colour"),
        ('[network]\nbandwidth = "fast"\n[[nodes]]\nname = "a"\n', "bandwidth"),
    ],
)
def test_wrong_hardware_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "nodes.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        load_hardware(path)


def test_charts_show_every_node_and_run() -> None:
    work = make_work({"a<b": 2.0, "c": 1.0}, {"c": ["a<b"]})
    done = simulate(work, machines([1.0, 1.0]), Settings(explain=True))
    first, second, axis = text_chart(done, 30)
    assert first == f"n000 │{'█' * 30}│"
    assert second == f"n001 │{' ' * 30}│"
    assert axis.split() == ["0", "s", "3.0", "s"]
    root = ET.fromstring(svg_chart(done, "a & b"))
    titles = [one.text or "" for one in root.iter("{http://www.w3.org/2000/svg}title")]
    assert sorted(text.partition(":")[0] for text in titles) == ["a<b", "c"]
    assert all("plan" in text for text in titles)


def test_runs_of_a_node_get_processors_of_their_own() -> None:
    work = make_work(dict.fromkeys("abc", 1.0), {})
    done = simulate(work, machines([1.0], cpus=2))
    assert sorted((run.start, lane) for run, lane in lanes(done.runs)) == [(0, 0), (0, 1), (1, 0)]
