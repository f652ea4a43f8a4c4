"""Allocation: which threads of a machine bn uses, and which each slot is pinned to. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from engine.resources.machine import Core, Machine
from store.records import frozen

ALL: Final = "all"
FIXED: Final = "fixed"
PERCENTAGE: Final = "percentage"
RESERVED: Final = "reserved"
STRATEGIES: Final = (ALL, FIXED, PERCENTAGE, RESERVED)


@frozen(kw_only=True)
class Share:
    """What of a machine bn may use.

    `all` of it; a `fixed` number of threads and bytes; a `percentage` of both; or all but what is
    `reserved` for others. What a strategy needs and is not given counts as all, or as nothing
    reserved.
    """

    strategy: str = ALL
    cpus: int | None = None
    memory: int | None = None
    percent: float | None = None


@frozen(kw_only=True)
class Slot:
    """Threads that one action at a time is pinned to, and their NUMA node, None if several."""

    cpus: tuple[int, ...]
    node: int | None


@frozen(kw_only=True)
class Allocation:
    """The threads in order of preference, the slots made of them, and the bytes of memory.

    `spare` are chosen threads that are left over where slots of several threads do not come out
    even. `why` tells how it was chosen, for people.
    """

    cpus: tuple[int, ...]
    slots: tuple[Slot, ...]
    memory: int | None
    spare: tuple[int, ...] = ()
    why: tuple[str, ...] = ()


def allocate(machine: Machine, share: Share | None = None, width: int = 1) -> Allocation:
    """Return which threads are used, and slots of `width` threads.

    Physical cores come before second threads of the same core, better cores before others. Where
    one NUMA node has cores enough all come from it, else from as few and as near ones as do. Slots
    do not cross nodes unless they are wider than one. Only what this process may use is looked at
    (affinity, cpuset, quota). Raises ValueError for a strategy that is not known.
    """
    share = share or Share()
    usable = machine.usable_cpus
    allowed = max(1, math.floor(machine.share + 1e-9)) if usable else 0
    count = _count(share, allowed)
    cores = _usable_cores(machine, set(usable))
    chosen, why = _choose(machine, cores, count)
    slots, spare = _slots(cores, chosen, width)
    reasons = [f"{count} of {len(usable)} usable threads ({_said(share)})", *why]
    if allowed < len(usable):
        reasons.append(f"the control group's quota allows {machine.share:g} processors")
    return Allocation(
        cpus=tuple(chosen),
        slots=tuple(slots),
        memory=_memory(share, machine.usable_memory),
        spare=tuple(spare),
        why=tuple(reasons),
    )


def _count(share: Share, allowed: int) -> int:
    """Return how many threads are used: at least one where there is one."""
    match share.strategy:
        case "all":
            count = allowed
        case "fixed":
            count = allowed if share.cpus is None else share.cpus
        case "percentage":
            count = math.floor(allowed * (100 if share.percent is None else share.percent) / 100)
        case "reserved":
            count = allowed - (share.cpus or 0)
        case other:
            raise ValueError(f"{other!r} is no strategy: one of {', '.join(STRATEGIES)}")
    return min(allowed, max(1, count))


def _memory(share: Share, usable: int | None) -> int | None:
    if usable is None:
        return share.memory if share.strategy == FIXED else None
    match share.strategy:
        case "fixed":
            return usable if share.memory is None else min(usable, share.memory)
        case "percentage":
            return int(usable * (100 if share.percent is None else min(100, share.percent)) / 100)
        case "reserved":
            return max(0, usable - (share.memory or 0))
        case _:
            return usable


def _said(share: Share) -> str:
    match share.strategy:
        case "fixed" if share.cpus is not None:
            return f"fixed: {share.cpus}"
        case "percentage" if share.percent is not None:
            return f"{share.percent:g} %"
        case "reserved" if share.cpus:
            return f"all but {share.cpus} reserved"
        case strategy:
            return strategy


def _usable_cores(machine: Machine, usable: set[int]) -> list[Core]:
    """Return the cores with threads that may be used, better kinds first."""
    rank = {core: at for at, kind in enumerate(machine.cpu.classes) for core in kind.cores}
    cores = [core for core in machine.cpu.cores if usable & set(core.cpus)]
    return sorted(cores, key=lambda core: (rank.get(core.id, 0), core.id))


def _choose(machine: Machine, cores: Sequence[Core], count: int) -> tuple[list[int], list[str]]:
    """Return the threads, first threads of cores before second ones, and how they were found."""
    usable = set(machine.usable_cpus)
    by_node: dict[int | None, list[Core]] = {}
    for core in cores:
        by_node.setdefault(core.node, []).append(core)
    nodes = _few_nodes(machine, by_node, count)
    mine = [core for core in cores if core.node in nodes]
    threads = [[cpu for cpu in core.cpus if cpu in usable] for core in mine]
    depth = max(map(len, threads), default=0)
    order = [cpus[at] for at in range(depth) for cpus in threads if at < len(cpus)]
    chosen = order[:count]
    why = []
    if count > len(mine):
        why.append(f"{len(mine)} physical cores first, then {count - len(mine)} second threads")
    elif depth > 1:
        why.append("physical cores only")
    if len(by_node) > 1:
        names = ", ".join(str(node) for node in nodes)
        why.append(f"NUMA node{'s' if len(nodes) > 1 else ''} {names} of {len(by_node)}")
    return chosen, why


def _few_nodes(
    machine: Machine, by_node: Mapping[int | None, Sequence[Core]], count: int
) -> list[int | None]:
    """Return as few nodes as have `count` physical cores, near ones together; all if too few."""
    names = sorted(by_node, key=lambda node: (-len(by_node[node]), -1 if node is None else node))
    if not names:
        return []
    distances = {node.id: node.distances for node in machine.nodes}
    first = names[0]

    def far(node: int | None) -> tuple[int, int]:
        told = distances.get(-1 if first is None else first, ())
        at = -1 if node is None else node
        return (told[at] if 0 <= at < len(told) else 0, at)

    taken: list[int | None] = [first]
    for node in sorted(names[1:], key=far):
        if sum(len(by_node[one]) for one in taken) >= count:
            break
        taken.append(node)
    return taken


def _slots(
    cores: Sequence[Core], chosen: Iterable[int], width: int
) -> tuple[list[Slot], list[int]]:
    """Return slots of `width` threads, and the threads left over."""
    chosen = list(chosen)
    if width <= 1:
        home = {cpu: core.node for core in cores for cpu in core.cpus}
        return [Slot(cpus=(cpu,), node=home[cpu]) for cpu in chosen], []
    slots, spare = [], []
    taken = set(chosen)
    for node in dict.fromkeys(core.node for core in cores):
        # threads of one core lie together, so that a slot has whole cores where it can
        mine = [cpu for core in cores if core.node == node for cpu in core.cpus if cpu in taken]
        full = len(mine) - len(mine) % width
        slots += [
            Slot(cpus=tuple(mine[at : at + width]), node=node) for at in range(0, full, width)
        ]
        spare += mine[full:]
    if not slots and chosen:
        nodes = {core.node for core in cores if taken & set(core.cpus)}
        alone = next(iter(nodes)) if len(nodes) == 1 else None
        return [Slot(cpus=tuple(chosen[:width]), node=alone)], chosen[width:]
    return slots, spare
