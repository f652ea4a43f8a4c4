"""Processors: packages, cores, threads, caches, clocks, and kinds of cores."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from engine.resources.discover import models
from engine.resources.discover.files import cpu_list, cpus_of, number, numbered, text
from engine.resources.machine import (
    EFFICIENCY,
    PERFORMANCE,
    Absent,
    Cache,
    Core,
    CoreClass,
    Cpu,
)

GAP: Final = 1.15
"""Cores that are so much better than the next ones are of another kind."""

_UNITS: Final = {"K": 2**10, "M": 2**20, "G": 2**30}


def read(root: Path = Path("/")) -> tuple[Cpu, Absent]:
    """Return the processors, and what is not known of them."""
    system = root / "sys/devices/system/cpu"
    info = _info(root / "proc/cpuinfo")
    absent: Absent = {}
    present = [cpu for cpu, _ in numbered(system, "cpu")] or sorted(info)
    online = cpu_list(text(system / "online")) or _online(system, present)
    cores = _cores(system, info, [cpu for cpu in present if cpu in set(online)])
    if not cores:
        absent["cpu"] = "neither /sys/devices/system/cpu nor /proc/cpuinfo lists a processor"
    if not any(core.max_hz for core in cores):
        absent["cpu.clock"] = "no cpufreq: the kernel does not set the clock (usual in VMs)"
    caches = _caches(system, cores)
    if not caches:
        absent["cpu.caches"] = "no cache directories in /sys/devices/system/cpu"
    throttled = _throttled(system)
    if throttled is None:
        absent["cpu.throttled"] = "no thermal_throttle counters (x86 with sensors has them)"
    model = models.model(root, info)
    if model is None:
        absent["cpu.model"] = "/proc/cpuinfo names none"
    first = next(iter(info.values()), {})
    return (
        Cpu(
            model=model,
            architecture=models.architecture(root, first),
            virtual=models.is_virtual(root, first),
            cores=cores,
            classes=_classes(root, cores),
            caches=caches,
            offline=tuple(cpu for cpu in present if cpu not in set(online)),
            throttled=throttled,
        ),
        absent,
    )


def _online(system: Path, present: list[int]) -> tuple[int, ...]:
    """Return the processors that do not say that they are off, as old kernels have it; the first
    one often says nothing."""
    return tuple(cpu for cpu in present if number(system / f"cpu{cpu}/online") != 0)


def _info(path: Path) -> dict[int, dict[str, str]]:
    """Return /proc/cpuinfo by processor; what stands outside of these is told of each
    (of processor 0 where none is listed)."""
    found: dict[int, dict[str, str]] = {}
    common: dict[str, str] = {}
    block: dict[str, str] | None = None
    for line in (text(path) or "").splitlines():
        name, _, value = (part.strip() for part in line.partition(":"))
        if name == "processor" and value.isdigit():
            block = found.setdefault(int(value), {})
        elif not name:
            block = None
        elif block is None:
            common[name] = value
        else:
            block.setdefault(name, value)
    if common and not found:  # as s390 and SPARC have it: once for all
        return {0: common}
    return {cpu: common | block for cpu, block in found.items()}


def _cores(
    system: Path, info: Mapping[int, Mapping[str, str]], cpus: list[int]
) -> tuple[Core, ...]:
    nodes = _nodes_of(system.parent / "node")
    cores, seen = [], set[int]()
    for cpu in cpus:
        if cpu in seen:
            continue
        topology = system / f"cpu{cpu}/topology"
        told = cpus_of(topology, "core_cpus_list", "core_cpus")
        told = told or cpus_of(topology, "thread_siblings_list", "thread_siblings") or (cpu,)
        threads = tuple(one for one in told if one in cpus) or (cpu,)
        seen.update(threads)
        package = number(topology / "physical_package_id")
        if package is None:
            package = int(info.get(cpu, {}).get("physical id", 0))
        clock = system / f"cpu{cpu}/cpufreq"
        if not clock.exists():
            clock = system / f"cpufreq/policy{cpu}"
        cores.append(
            Core(
                id=threads[0],
                cpus=threads,
                package=max(0, package),
                node=nodes.get(cpu),
                max_hz=_hertz(number(clock / "cpuinfo_max_freq")),
                base_hz=_hertz(number(clock / "base_frequency")),
                now_hz=_hertz(number(clock / "scaling_cur_freq")) or _told(info.get(cpu, {})),
                capacity=number(system / f"cpu{cpu}/cpu_capacity"),
            )
        )
    return tuple(cores)


def _hertz(kilohertz: int | None) -> int | None:
    return kilohertz * 1000 if kilohertz else None


def _told(info: Mapping[str, str]) -> int | None:
    megahertz = info.get("cpu MHz") or info.get("clock", "").removesuffix("MHz")
    return round(float(megahertz) * 1e6) if re.fullmatch(r"\d+(\.\d+)?", megahertz) else None


def _nodes_of(directory: Path) -> dict[int, int]:
    """Return the NUMA node of each processor."""
    found: dict[int, int] = {}
    for node, path in numbered(directory, "node"):
        for cpu in cpus_of(path, "cpulist", "cpumap") or ():
            found.setdefault(cpu, node)
    return found


def _caches(system: Path, cores: tuple[Core, ...]) -> tuple[Cache, ...]:
    """Return each cache once, whoever of those that share it told of it."""
    found: dict[tuple[int, str, tuple[int, ...]], Cache] = {}
    for core in cores:
        for _, path in numbered(system / f"cpu{core.id}/cache", "index"):
            level, kind = number(path / "level"), (text(path / "type") or "").lower()
            size = re.fullmatch(r"(\d+)([KMG]?)", text(path / "size") or "")
            cpus = cpus_of(path, "shared_cpu_list", "shared_cpu_map") or core.cpus
            if level and kind and size:
                count = int(size[1]) * _UNITS.get(size[2], 1)
                found[level, kind, cpus] = Cache(level=level, kind=kind, size=count, cpus=cpus)
    return tuple(found[key] for key in sorted(found))


def _throttled(system: Path) -> int | None:
    """Return how often cores were slowed by heat since the start, None where nothing counts."""
    counts = [
        number(path / "thermal_throttle/core_throttle_count") for _, path in numbered(system, "cpu")
    ]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _classes(root: Path, cores: tuple[Core, ...]) -> tuple[CoreClass, ...]:
    """Return the kinds of cores: as the kernel names them, or by capacity, or by clock."""
    named = cpu_list(text(root / "sys/devices/cpu_atom/cpus"))
    if named:
        better = [core for core in cores if core.cpus[0] not in set(named)]
        return _two(cores, better, "/sys/devices/cpu_atom")
    for told_by, values in (
        ("cpu_capacity", {core.id: core.capacity for core in cores}),
        ("highest clock", {core.id: core.max_hz for core in cores}),
    ):
        bar = _split([value for value in values.values() if value])
        if bar and all(values.values()):
            better = [core for core in cores if (values[core.id] or 0) >= bar]
            return _two(cores, better, told_by)
    return _two(cores, list(cores), "all cores are alike")


def _split(values: list[int]) -> int | None:
    """Return the least value above the widest gap, None where no gap is wide enough."""
    ordered = sorted(set(values))
    gaps = [(high / low, high) for low, high in itertools.pairwise(ordered)]
    widest = max(gaps, default=(1.0, 0))
    return widest[1] if widest[0] >= GAP else None


def _two(cores: tuple[Core, ...], better: list[Core], told_by: str) -> tuple[CoreClass, ...]:
    others = [core for core in cores if core not in better]
    if not better or not others:
        return (_class("", list(cores), told_by),)
    return (_class(PERFORMANCE, better, told_by), _class(EFFICIENCY, others, told_by))


def _class(name: str, cores: list[Core], told_by: str) -> CoreClass:
    return CoreClass(
        name=name,
        cores=tuple(core.id for core in cores),
        cpus=tuple(sorted(cpu for core in cores for cpu in core.cpus)),
        told_by=told_by,
    )
