"""Limits of control groups of both versions: a container's share counts, not the host's."""

from __future__ import annotations

import pytest

from engine.resources.discover import discover_compute
from engine.resources.discover.limits import read
from engine.resources.nodes import local_nodes
from tests.engine.resources.conftest import Tree

V2 = {
    "proc/self/cgroup": "0::/app/web",
    "proc/self/mountinfo": "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate",
    "proc/self/status": "Cpus_allowed_list:\t0-7",
}


def test_version_2_takes_the_least_on_the_way_up(tree: Tree) -> None:
    limits, _ = read(
        tree(
            more={
                **V2,
                "sys/fs/cgroup/app/web/cpu.max": "max 100000",
                "sys/fs/cgroup/app/web/memory.max": "max",
                "sys/fs/cgroup/app/web/cpuset.cpus.effective": "2-5",
                "sys/fs/cgroup/app/cpu.max": "150000 100000",
                "sys/fs/cgroup/app/memory.max": "1073741824",
                "sys/fs/cgroup/app/memory.current": "1000",
                "sys/fs/cgroup/app/pids.max": "512",
                "sys/fs/cgroup/cpuset.cpus.effective": "0-15",
            }
        )
    )
    assert (limits.hierarchy, limits.quota, limits.memory) == ("v2", 1.5, 2**30)
    assert (limits.cpus, limits.affinity) == ((2, 3, 4, 5), tuple(range(8)))
    assert (limits.memory_used, limits.processes) == (1000, 512)


def test_version_1_in_a_container_whose_group_is_mounted_as_the_root(tree: Tree) -> None:
    mounted = "/docker/abc /sys/fs/cgroup"
    limits, _ = read(
        tree(
            more={
                "proc/self/cgroup": "4:memory:/docker/abc\n3:cpuset:/docker/abc\n"
                "2:cpu,cpuacct:/docker/abc",
                "proc/self/mountinfo": f"1 0 0:1 {mounted}/cpu ro - cgroup cgroup rw,cpu,cpuacct\n"
                f"2 0 0:2 {mounted}/memory ro - cgroup cgroup rw,memory\n"
                f"3 0 0:3 {mounted}/cpuset ro - cgroup cgroup rw,cpuset",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "250000",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "536870912",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "77",
                "sys/fs/cgroup/cpuset/cpuset.cpus": "0,4",
            }
        )
    )
    assert (limits.hierarchy, limits.quota, limits.memory) == ("v1", 2.5, 2**29)
    assert (limits.cpus, limits.memory_used) == ((0, 4), 77)


def test_share_of_a_container_counts_on_a_large_machine(tree: Tree) -> None:
    machine = discover_compute(
        tree(
            "epyc",
            {
                "proc/self/cgroup": "0::/",
                "proc/self/mountinfo": "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
                "sys/fs/cgroup/cpu.max": "400000 100000",
                "sys/fs/cgroup/memory.max": "8589934592",
                "proc/meminfo": "MemTotal: 268435456 kB",
            },
        )
    )
    (node,) = local_nodes(machine)
    assert machine.share == node.capacity == node.slots == 4
    assert len(node.cpus) == 96
    assert node.memory == machine.usable_memory == 8 * 2**30
    assert any("quota" in note for note in node.notes)


def test_affinity_and_cpuset_are_cut(tree: Tree) -> None:
    machine = discover_compute(
        tree(
            "laptop",
            {
                **V2,
                "proc/self/status": "Cpus_allowed_list:\t2-9,14",
                "sys/fs/cgroup/app/web/cpuset.cpus.effective": "0-3,12-19",
            },
        )
    )
    assert machine.usable_cpus == (2, 3, 14)
    assert [(node.name, node.cpus) for node in local_nodes(machine)] == [
        ("local.performance", (2, 3)),
        ("local.efficiency", (14,)),
    ]


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("400000 100000", [("local.performance", 4)]),
        ("1400000 100000", [("local.performance", 12), ("local.efficiency", 2)]),
        ("50000 100000", [("local.performance", 1)]),
    ],
)
def test_quota_is_filled_with_the_better_cores(
    tree: Tree, quota: str, expected: list[tuple[str, int]]
) -> None:
    more = {**V2, "sys/fs/cgroup/cpu.max": quota, "proc/self/status": ""}
    nodes = local_nodes(discover_compute(tree("laptop", more)))
    assert [(node.name, node.slots) for node in nodes] == expected


def test_memory_of_a_machine_is_told_once(tree: Tree) -> None:
    machine = discover_compute(tree("laptop"))
    nodes = local_nodes(machine, {"performance": 1.5})
    total = machine.memory.total
    assert total
    assert sum(node.memory or 0 for node in nodes) <= total
    assert {node.machine_memory for node in nodes} == {total}
    assert [node.speed for node in nodes] == [1.5, None]
    assert not any("speed" in note for note in nodes[0].notes)
    assert any("speed not measured" in note for note in nodes[1].notes)
