"""Places: nodes and pins of machines that are told of, and limits of control groups."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from engine.pins import Pins, choose
from engine.places import Thread, is_limited, places_of
from engine.resources.allocation import Share
from engine.resources.discover import discover_compute
from engine.resources.machine import Core, CoreClass, Machine
from engine.resources.settings import Resources

MEMORY = 16 << 30


def machine(performance: int, efficiency: int = 0, numa: int = 1) -> Machine:
    """Return a machine with so many cores of each kind, one thread each."""
    here = discover_compute()
    count = performance + efficiency
    cores = tuple(Core(id=n, cpus=(n,), package=0, node=n * numa // count) for n in range(count))
    fast, slow = tuple(range(performance)), tuple(range(performance, count))
    classes = (
        (
            CoreClass(name="performance", cores=fast, cpus=fast, told_by="test"),
            CoreClass(name="efficiency", cores=slow, cpus=slow, told_by="test"),
        )
        if efficiency
        else (CoreClass(name="", cores=fast, cpus=fast, told_by="test"),)
    )
    cpu = evolve(here.cpu, cores=cores, classes=classes)
    limits = evolve(
        here.limits, quota=None, cpus=tuple(range(count)), affinity=tuple(range(count)), memory=None
    )
    memory = evolve(here.memory, total=MEMORY)
    return evolve(here, cpu=cpu, limits=limits, memory=memory)


def wanted(
    pin: str = "none", affinity: Mapping[str, str] | None = None, **share: object
) -> Resources:
    return Resources(share=Share(**share), pin=pin, affinity=affinity or {})  # type: ignore[arg-type]


def test_kinds_of_cores_are_nodes_where_actions_are_pinned() -> None:
    found = places_of(machine(2, 4), wanted("kinds"), {"performance": 2.0, "efficiency": 1.0}, None)
    assert [(node.name, node.cpus, node.speed) for node in found.nodes] == [
        ("local.performance", 2, 2.0),
        ("local.efficiency", 4, 1.0),
    ]
    assert {node.memory for node in found.nodes} == {MEMORY}
    assert not found.own
    (node,) = places_of(machine(2, 4), wanted(), {}, None).nodes
    assert (node.name, node.cpus) == ("local", 6)


@pytest.mark.parametrize(
    ("share", "cpus", "memory"),
    [
        ({}, 8, MEMORY),
        ({"strategy": "fixed", "cpus": 3, "memory": 1 << 30}, 3, 1 << 30),
        ({"strategy": "percentage", "percent": 50}, 4, MEMORY // 2),
        ({"strategy": "reserved", "cpus": 2, "memory": 4 << 30}, 6, MEMORY - (4 << 30)),
    ],
)
def test_shares(share: dict[str, Any], cpus: int, memory: int) -> None:
    for pin in ("none", "share", "threads"):
        found = places_of(machine(8), wanted(pin, **share), {}, None)
        (node,) = found.nodes
        assert (node.cpus, node.memory, found.memory, found.cpus) == (cpus, memory, memory, cpus)


def test_a_quota_counts() -> None:
    limited = machine(8)
    limited = evolve(limited, limits=evolve(limited.limits, quota=2.5, memory=1 << 30))
    (node,) = places_of(limited, wanted(), {}, None).nodes
    assert (node.cpus, node.memory) == (2, 1 << 30)


def test_jobs_bound_a_share_and_do_not_exceed_it() -> None:
    share = wanted("threads", strategy="fixed", cpus=4)
    assert places_of(machine(8), share, {}, 2).cpus == 2
    assert places_of(machine(8), share, {}, 6).cpus == 4
    assert places_of(machine(8), wanted(), {}, 12).cpus == 12


def test_affinity_parts_the_processors() -> None:
    found = places_of(machine(2, 2), wanted("share", {"test": "efficiency"}), {}, None)
    assert [node.name for node in found.nodes] == ["local.build", "local.build-test"]
    assert found.kinds == {"local.build": ("build",)}
    assert [one.cpu for one in found.threads["local.build-test"]] == [2, 3]
    elsewhere = places_of(machine(2), wanted("share", {"test": "9"}), {}, None)
    assert elsewhere.kinds == {}


def test_no_thread_is_given_to_two() -> None:
    found = places_of(machine(4), wanted("threads"), {}, None)
    pins = Pins.of(found)
    assert pins is not None
    first, second = pins.take("local", 2), pins.take("local", 2)
    assert set(first) | set(second) == {0, 1, 2, 3}
    pins.give(first)
    assert set(pins.take("local", 1)) <= set(first)


def test_several_threads_come_from_one_numa_node_and_whole_cores() -> None:
    free = [Thread(0, 0, 0), Thread(1, 1, 0), Thread(4, 4, 1), Thread(5, 5, 1), Thread(6, 4, 1)]
    assert [one.cpu for one in choose(free, 2)] == [0, 1]
    assert [one.cpu for one in choose(free[1:], 2)] == [4, 6]
    assert [one.cpu for one in choose(free, 4)] == [4, 6, 0, 1]
    assert [one.cpu for one in choose(free, 1)] == [0]


def group(root: Path, files: Mapping[str, str]) -> None:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


@pytest.mark.parametrize(
    ("own", "files", "limited"),
    [
        ("0::/\n", {"cgroup.procs": ""}, False),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/memory.max": "max\n"}, False),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "50000 100000\n"}, True),
        ("0::/a\n", {"a/memory.max": "1073741824\n"}, True),
        ("0::/../../elsewhere\n", {"memory.max": "1073741824\n"}, True),
        ("2:cpu,cpuacct:/a\n", {"cpu,cpuacct/a/cpu.cfs_quota_us": "-1\n"}, False),
        ("2:cpu,cpuacct:/a\n", {"cpu,cpuacct/a/cpu.cfs_quota_us": "200000\n"}, True),
        ("1:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, False),
        ("1:memory:/\n", {"memory/memory.limit_in_bytes": "536870912\n"}, True),
        ("", {}, False),
    ],
)
def test_limits_are_seen(tmp_path: Path, own: str, files: Mapping[str, str], limited: bool) -> None:
    (tmp_path / "own").write_text(own)
    group(tmp_path / "groups", files)
    assert is_limited(str(tmp_path / "groups"), str(tmp_path / "own")) is limited
