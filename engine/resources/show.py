"""A machine as people read it: an overview, and the tree of its processors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from engine.resources.machine import Cache, Core, Cpu, Gpu, Interface, Machine, Pressure, Sensor
from engine.resources.nodes import LocalNode
from engine.units import show_size
from store.records import frozen

if TYPE_CHECKING:
    from engine.places import Places

WIDTH: Final = 10
"""Columns of the names on the left."""


def overview(machine: Machine, nodes: Iterable[LocalNode]) -> list[str]:
    """Return the lines of `bn node show`; what is not known says why."""
    why = machine.absent
    rows: list[tuple[str, list[str]]] = [
        ("machine", [" · ".join(filter(None, (machine.name, machine.kernel)))]),
        ("cpu", [*processor(machine.cpu), *_missing(why, "cpu.clock", "cpu.model", "cpu.caches")]),
        ("usable", _usable(machine)),
        ("memory", [_memory(machine)]),
        ("numa", _numa(machine)),
        ("load", _load(machine)),
        ("sensors", [_sensor(one) for one in machine.sensors] or _missing(why, "sensors")),
        ("gpu", [_gpu(one) for one in machine.gpus] or _missing(why, "gpus")),
        ("storage", _storage(machine)),
        ("network", [_interface(one) for one in machine.interfaces] or _missing(why, "interfaces")),
        ("nodes", [line for node in nodes for line in _node(node)]),
    ]
    return [line for name, texts in rows for line in _block(name, texts)]


@frozen(kw_only=True)
class InBuilds:
    """The nodes that a build would have here, for people and for machines."""

    lines: list[str]
    document: list[dict[str, Any]]


def in_builds(where: Places) -> InBuilds:
    """Return what builds make of this machine: their nodes, as the configuration has them."""
    warm = where.thermometer.read() if where.thermometer else {}
    lines, rows = [], []
    for node in where.nodes:
        cpus = [one.cpu for one in where.threads.get(node.name, ())]
        celsius = warm.get(node.name)
        rows.append(
            {
                "name": node.name,
                "slots": node.cpus,
                "pinned": cpus,
                "memory": node.memory,
                "speed": node.speed,
                "preference": node.preference,
                "only": list(node.only),
                "kinds": list(where.kinds.get(node.name, ())),
                "limit": node.limit,
                "celsius": celsius,
                "policy": where.policy.strategy,
            }
        )
        parts = [
            _count(node.cpus, "slot"),
            f"pinned to {spans(cpus)}" if cpus else "not pinned",
            show_size(node.memory),
            f"{node.speed:.2f} BPU" if node.speed else "",
            node.preference,
            f"only {', '.join(node.only)}" if node.only else "",
            f"only {', '.join(where.kinds[node.name])} actions" if node.name in where.kinds else "",
            f"{celsius:.0f} of {node.limit:.0f} °C" if celsius is not None else where.no_heat,
        ]
        lines.append(f"{node.name}: {', '.join(filter(None, parts))}")
    if where.asked:
        lines.append(f"chosen by {where.policy.strategy}")
    return InBuilds(lines=list(_block("in builds", lines)), document=rows)


def _block(name: str, texts: Sequence[str]) -> Iterator[str]:
    for at, line in enumerate(texts):
        yield f"{'' if at else name:<{WIDTH}}{line}".rstrip()


def _missing(why: object, *names: str) -> list[str]:
    assert hasattr(why, "get")
    return [f"not known: {why.get(name)}" for name in names if why.get(name)]


def processor(cpu: Cpu) -> list[str]:
    """Return what a machine has of processors, in a few lines."""
    counts = (
        _count(len(cpu.packages), "package"),
        _count(len(cpu.cores), "core"),
        _count(len(cpu.cpus), "thread"),
    )
    lines = [f"{cpu.model or 'unknown'}{' (virtual)' if cpu.virtual else ''}", ", ".join(counts)]
    for kind in cpu.classes:
        if kind.name:
            cores = [core for core in cpu.cores if core.id in kind.cores]
            lines.append(
                f"{kind.name}: {_count(len(cores), 'core')}, threads {spans(kind.cpus)}"
                f"{_clocks(cores)} (told by {kind.told_by})"
            )
    if len(cpu.classes) == 1 and _clocks(cpu.cores):
        lines.append(_clocks(cpu.cores).removeprefix(", "))
    if cpu.caches:
        lines.append("caches " + ", ".join(_caches(cpu.caches)))
    if cpu.offline:
        lines.append(f"offline: {spans(cpu.offline)}")
    if cpu.throttled:
        lines.append(f"slowed by heat {_count(cpu.throttled, 'time')} since the start")
    return lines


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _clocks(cores: Iterable[Core]) -> str:
    cores = list(cores)
    told = (
        ("up to", [core.max_hz for core in cores]),
        ("base", [core.base_hz for core in cores]),
        ("now", [core.now_hz for core in cores]),
    )
    return "".join(f", {name} {_hertz(clocks)} GHz" for name, clocks in told if any(clocks))


def _hertz(clocks: Iterable[int | None]) -> str:
    known = [f"{clock / 1e9:.2f}" for clock in sorted(filter(None, clocks))]
    return known[0] if known[0] == known[-1] else f"{known[0]}–{known[-1]}"


def _caches(caches: Iterable[Cache]) -> Iterator[str]:
    def same(cache: Cache) -> tuple[int, str, int]:
        return (cache.level, cache.kind, cache.size)

    for (level, kind, size), some in groupby(sorted(caches, key=same), same):
        count = len(list(some))
        letter = "" if kind == "unified" else kind[0]
        yield f"L{level}{letter} {count} × {_binary(size)}"


def _binary(size: int) -> str:
    return f"{size / 2**20:g} MiB" if size >= 2**20 else f"{size / 2**10:g} KiB"


def spans(numbers: Iterable[int]) -> str:
    """Return numbers as people write them: `0-3,8`."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and parts[-1][-1] == number - 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)


def _usable(machine: Machine) -> list[str]:
    limits = machine.limits
    threads = machine.usable_cpus
    noun = "thread" if len(threads) == 1 else "threads"
    lines = [f"{noun} {spans(threads) or 'none'} ({len(threads)} of {len(machine.cpu.cpus)})"]
    if limits.quota is not None:
        lines.append(
            f"quota of the control group ({limits.hierarchy}): {limits.quota:g} processors"
        )
    if limits.memory is not None:
        used = "" if limits.memory_used is None else f", {show_size(limits.memory_used)} in use"
        lines.append(f"memory limit of the control group: {show_size(limits.memory)}{used}")
    if limits.processes is not None:
        lines.append(f"at most {limits.processes:,} processes")
    return lines


def _memory(machine: Machine) -> str:
    memory = machine.memory
    if memory.total is None:
        return f"not known: {machine.absent.get('memory', '?')}"
    available = "?" if memory.available is None else show_size(memory.available)
    swap = f"{show_size(memory.swap)} swap" if memory.swap else "no swap"
    return f"{show_size(memory.total)}, {available} available, {swap}"


def _numa(machine: Machine) -> list[str]:
    if not machine.nodes:
        return _missing(machine.absent, "nodes")
    if len(machine.nodes) == 1:
        return ["1 node"]
    return [
        f"node {node.id}: threads {spans(node.cpus)}"
        + (f", {show_size(node.memory)}" if node.memory else "")
        + (f", distances {' '.join(map(str, node.distances))}" if node.distances else "")
        for node in machine.nodes
    ]


def _load(machine: Machine) -> list[str]:
    load = machine.load
    lines = []
    if load.one is not None:
        stolen = f", {load.stolen:.1%} stolen since the start" if load.stolen else ""
        lines.append(f"{load.one:.2f} {load.five:.2f} {load.fifteen:.2f}{stolen}")
    told = [_pressure(one) for one in machine.pressure]
    lines += [f"waiting, last minute: {', '.join(told)}"] if told else []
    return lines + _missing(machine.absent, "load", "pressure")


def _pressure(pressure: Pressure) -> str:
    some = pressure.some.avg60 if pressure.some else 0.0
    return f"{pressure.resource} {some:.0f} %"


def _sensor(sensor: Sensor) -> str:
    limits = [
        f"{name} {value:.0f}"
        for name, value in (("high", sensor.high), ("critical", sensor.critical))
        if value is not None
    ]
    more = f" ({', '.join(limits)})" if limits else ""
    return f"{sensor.chip} {sensor.label}: {sensor.celsius:.1f} °C{more}"


def _gpu(gpu: Gpu) -> str:
    named = gpu.name.startswith(gpu.vendor)
    parts = [gpu.name if named else f"{gpu.vendor} {gpu.name}".strip()]
    if gpu.memory is not None:
        used = "" if gpu.memory_used is None else f", {show_size(gpu.memory_used)} in use"
        parts.append(f"{show_size(gpu.memory)}{used}")
    if gpu.celsius is not None:
        parts.append(f"{gpu.celsius:.0f} °C")
    return ", ".join(parts)


def _storage(machine: Machine) -> list[str]:
    lines = []
    for one in machine.storage:
        room = ""
        if one.size is not None and one.free is not None:
            room = f", {show_size(one.free)} of {show_size(one.size)} free"
        lines.append(f"{one.point}: {one.type}, {one.filesystem} on {one.device}{room}")
    return lines or _missing(machine.absent, "storage")


def _interface(one: Interface) -> str:
    speed = "" if one.speed is None else f", {show_bits(one.speed)}"
    return f"{one.name}: {one.kind}, {one.state}{speed}"


def show_bits(speed: float) -> str:
    """Return bits a second for people, as `1 Gb/s`."""
    return f"{speed / 1e9:g} Gb/s" if speed >= 1e9 else f"{speed / 1e6:g} Mb/s"


def _node(node: LocalNode) -> list[str]:
    noun = "thread" if len(node.cpus) == 1 else "threads"
    parts = [f"{node.name}: {_count(node.slots, 'slot')} on {noun} {spans(node.cpus)}"]
    if node.memory is not None:
        parts.append(show_size(node.memory))
    if node.speed is not None:
        parts.append(f"{node.speed:.2f} BPU a core")
    if node.celsius is not None:
        parts.append(f"{node.celsius:.0f} of {node.limit:.0f} °C")
    return [", ".join(parts), *(f"  {note}" for note in node.notes)]


def topology(machine: Machine) -> list[str]:
    """Return the tree package → NUMA node → last-level cache → core → threads."""
    lines = []
    for package in machine.cpu.packages:
        lines.append(f"package {package}")
        inside = [core for core in machine.cpu.cores if core.package == package]
        numbers = sorted({core.node for core in inside}, key=lambda node: (node is None, node))
        for number in numbers:
            mine = [core for core in inside if core.node == number]
            if number is not None:
                memory = next((one.memory for one in machine.nodes if one.id == number), None)
                lines.append(f"  NUMA node {number}" + (f", {show_size(memory)}" if memory else ""))
            lines += [f"    {line}" for line in _grouped(machine.cpu, mine)]
    return lines


def _grouped(cpu: Cpu, cores: Sequence[Core]) -> Iterator[str]:
    kinds = {core: kind.name for kind in cpu.classes for core in kind.cores}
    caches: list[tuple[Cache | None, list[Core]]] = []
    for core in cores:
        cache = cpu.last_level(core.id)
        if caches and caches[-1][0] == cache:
            caches[-1][1].append(core)
        else:
            caches.append((cache, [core]))
    for cache, some in caches:
        if cache is not None:
            yield f"L{cache.level} {_binary(cache.size)}"
        for core in some:
            clock = f", up to {core.max_hz / 1e9:.2f} GHz" if core.max_hz else ""
            kind = f", {kinds[core.id]}" if kinds.get(core.id) else ""
            noun = "thread" if len(core.cpus) == 1 else "threads"
            yield f"  core {core.id}: {noun} {spans(core.cpus)}{kind}{clock}"
