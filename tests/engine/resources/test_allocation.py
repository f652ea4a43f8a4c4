"""Allocation: which threads, in which order, in which slots."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.resources.allocation import STRATEGIES, Share, allocate
from engine.resources.discover import discover_compute
from engine.resources.discover.cpu import read as read_cpu
from engine.resources.machine import Core, CoreClass, Cpu, Limits, Load, Machine, Memory, Node
from tests.engine.resources.conftest import Tree


def made(nodes: int, cores: int, threads: int, quota: float | None = None) -> Machine:
    """Return a machine with threads numbered as Linux does: first threads, then second ones."""
    total = nodes * cores
    all_cores = tuple(
        Core(
            id=core,
            cpus=tuple(core + total * thread for thread in range(threads)),
            package=core // cores,
            node=core // cores,
        )
        for core in range(total)
    )
    everything = tuple(range(total * threads))
    return Machine(
        name="made",
        kernel=None,
        cpu=Cpu(
            model=None,
            architecture=None,
            virtual=False,
            cores=all_cores,
            classes=(
                CoreClass(name="", cores=tuple(range(total)), cpus=everything, told_by="test"),
            ),
            caches=(),
        ),
        nodes=tuple(
            Node(
                id=node,
                cpus=tuple(cpu for core in all_cores if core.node == node for cpu in core.cpus),
                memory=2**30,
                free=2**29,
                distances=tuple(10 + 10 * abs(node - other) for other in range(nodes)),
            )
            for node in range(nodes)
        ),
        memory=Memory(total=nodes * 2**30, available=None, swap=None, swap_free=None),
        limits=Limits(
            hierarchy="v2",
            quota=quota,
            cpus=None,
            affinity=None,
            memory=None,
            memory_used=None,
            processes=None,
        ),
        pressure=(),
        load=Load(one=None, five=None, fifteen=None, stolen=None),
    )


def test_all_are_taken_physical_cores_first() -> None:
    given_ = allocate(made(1, 4, 2))
    assert given_.cpus == (0, 1, 2, 3, 4, 5, 6, 7)
    assert [slot.cpus for slot in given_.slots] == [(cpu,) for cpu in range(8)]
    assert given_.memory == 2**30


@pytest.mark.parametrize(
    ("share", "count"),
    [
        (Share(), 16),
        (Share(strategy="fixed", cpus=3), 3),
        (Share(strategy="fixed", cpus=99), 16),
        (Share(strategy="percentage", percent=50), 8),
        (Share(strategy="percentage", percent=1), 1),
        (Share(strategy="reserved", cpus=4), 12),
        (Share(strategy="reserved", cpus=99), 1),
    ],
)
def test_strategies(share: Share, count: int) -> None:
    assert len(allocate(made(2, 4, 2), share).cpus) == count


def test_memory_of_strategies() -> None:
    machine = made(2, 4, 2)
    assert allocate(machine, Share(strategy="fixed", memory=2**28)).memory == 2**28
    assert allocate(machine, Share(strategy="percentage", percent=25)).memory == 2**29
    assert allocate(machine, Share(strategy="reserved", memory=2**30)).memory == 2**30


def test_what_fits_one_numa_node_comes_from_one() -> None:
    given_ = allocate(made(4, 4, 2), Share(strategy="fixed", cpus=4))
    assert {slot.node for slot in given_.slots} == {0}
    assert given_.cpus == (0, 1, 2, 3)
    assert "NUMA node 0 of 4" in given_.why


def test_more_than_one_node_has_takes_the_nearest() -> None:
    given_ = allocate(made(4, 4, 2), Share(strategy="fixed", cpus=6))
    assert {slot.node for slot in given_.slots} == {0, 1}
    assert len({cpu % 16 for cpu in given_.cpus}) == 6, "no second threads while cores are free"


def test_better_cores_come_first(tree: Tree) -> None:
    machine = discover_compute(tree("laptop"))
    assert allocate(machine, Share(strategy="fixed", cpus=6)).cpus == (0, 2, 4, 6, 8, 10)
    all_cores = allocate(machine, Share(strategy="fixed", cpus=14)).cpus
    assert all_cores == (0, 2, 4, 6, 8, 10, *range(12, 20))
    assert allocate(machine).cpus[14:] == (1, 3, 5, 7, 9, 11)


def test_slots_of_several_threads_have_whole_cores() -> None:
    given_ = allocate(made(2, 4, 2), width=2)
    assert all(len({cpu % 8 for cpu in slot.cpus}) == 1 for slot in given_.slots)
    assert len(given_.slots) == 8


def test_slots_do_not_cross_nodes() -> None:
    given_ = allocate(made(2, 3, 1), width=2)
    assert [slot.cpus for slot in given_.slots] == [(0, 1), (3, 4)]
    assert given_.spare == (2, 5)


def test_slot_wider_than_a_node() -> None:
    given_ = allocate(made(2, 2, 1), width=3)
    assert [(slot.cpus, slot.node) for slot in given_.slots] == [((0, 1, 2), None)]
    assert given_.spare == (3,)


def test_quota_counts() -> None:
    given_ = allocate(made(2, 8, 2, quota=3.5))
    assert len(given_.slots) == 3
    assert any("quota" in why for why in given_.why)


def test_unknown_strategy() -> None:
    with pytest.raises(ValueError, match="percentage"):
        allocate(made(1, 1, 1), Share(strategy="half"))


@given(
    nodes=st.integers(1, 4),
    cores=st.integers(1, 6),
    threads=st.integers(1, 2),
    width=st.integers(1, 5),
    strategy=st.sampled_from(STRATEGIES),
    cpus=st.integers(0, 30),
    percent=st.floats(0, 150),
)
def test_no_thread_is_given_twice(
    nodes: int, cores: int, threads: int, width: int, strategy: str, cpus: int, percent: float
) -> None:
    machine = made(nodes, cores, threads)
    share = Share(strategy=strategy, cpus=cpus, percent=percent)
    given_ = allocate(machine, share, width)
    in_slots = list(itertools.chain.from_iterable(slot.cpus for slot in given_.slots))
    assert len(set(given_.cpus)) == len(given_.cpus) >= 1
    assert sorted([*in_slots, *given_.spare]) == sorted(given_.cpus)
    assert set(given_.cpus) <= set(machine.usable_cpus)
    assert given_.slots
    if len(given_.cpus) <= nodes * cores:
        assert len({cpu % (nodes * cores) for cpu in given_.cpus}) == len(given_.cpus)
    assert allocate(machine, share, width) == given_


def test_a_machine_without_processors_gives_nothing(tree: Tree) -> None:
    root = tree()
    assert read_cpu(root)[0].cores == ()
    assert allocate(discover_compute(root)).slots == ()
