"""Limits on this process: control groups of both versions, and affinity.

A limit counts wherever it stands on the way from the process's group up to the root, so the least
of all is taken. In a container the path that /proc tells may lie above what is mounted; then the
part that the mount's own root covers is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from engine.resources.discover.files import cpu_list, fields, number, text, whole
from engine.resources.machine import Absent, Limits
from store.records import frozen

NO_LIMIT: Final = 2**60
"""Bytes from which on a limit of version 1 means none (it says 2**63 less a page)."""

Reader = Callable[[Path], "int | float | None"]


@frozen
class _Hierarchy:
    """A mounted hierarchy, with the part of the tree of groups that it shows."""

    point: Path
    shown: str


def read(root: Path = Path("/")) -> tuple[Limits, Absent]:
    """Return the limits on this process, and why some are not known."""
    groups = _groups(root)
    mounts = _mounts(root)
    quota, memory, used, processes, cpus = None, None, None, None, None
    kinds = set()
    for place in _levels(groups, mounts, ""):
        kinds.add("v2")
        quota = _least(quota, _quota_2(place))
        limit = number(place / "memory.max")
        if limit is not None and (memory is None or limit < memory):
            memory, used = limit, number(place / "memory.current")
        processes = _least(processes, number(place / "pids.max"))
        cpus = cpus or cpu_list(text(place / "cpuset.cpus.effective"))
    for place in _levels(groups, mounts, "cpu"):
        kinds.add("v1")
        quota = _least(quota, _quota_1(place))
    for place in _levels(groups, mounts, "memory"):
        kinds.add("v1")
        limit = number(place / "memory.limit_in_bytes")
        if limit is not None and limit < NO_LIMIT and (memory is None or limit < memory):
            memory, used = limit, number(place / "memory.usage_in_bytes")
    for place in _levels(groups, mounts, "cpuset"):
        kinds.add("v1")
        told = text(place / "cpuset.effective_cpus") or text(place / "cpuset.cpus")
        cpus = cpus or cpu_list(told)
    for place in _levels(groups, mounts, "pids"):
        processes = _least(processes, number(place / "pids.max"))
    affinity = cpu_list(fields(root / "proc/self/status").get("Cpus_allowed_list"))
    limits = Limits(
        hierarchy="v1" if "v1" in kinds else "v2" if kinds else "none",
        quota=quota,
        cpus=cpus,
        affinity=affinity,
        memory=None if memory is None else int(memory),
        memory_used=used,
        processes=None if processes is None else int(processes),
    )
    return limits, _absent(limits)


def _absent(limits: Limits) -> Absent:
    absent = {}
    if limits.hierarchy == "none":
        absent["limits"] = "no control groups: /proc/self/cgroup or the mounts do not tell of them"
    else:
        known = {"quota": limits.quota, "cpus": limits.cpus, "memory": limits.memory}
        for name, value in known.items():
            if value is None:
                absent[f"limits.{name}"] = "the control group sets none"
    if limits.affinity is None:
        absent["limits.affinity"] = "/proc/self/status does not tell it"
    return absent


def _groups(root: Path) -> dict[str, str]:
    """Return the group of this process by controller; that of version 2 has no name."""
    found = {}
    for line in (text(root / "proc/self/cgroup") or "").splitlines():
        number_, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for name in controllers.split(",") if controllers else [""] * (number_ == "0"):
            found[name] = path
    return found


def _mounts(root: Path) -> dict[str, _Hierarchy]:
    """Return where each controller is mounted; version 2 has no name."""
    found: dict[str, _Hierarchy] = {}
    for line in (text(root / "proc/self/mountinfo") or "").splitlines():
        left, dash, right = line.partition(" - ")
        words, kind = left.split(" "), right.split(" ")
        if not dash or len(words) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        place = _Hierarchy(root / words[4].lstrip("/"), words[3])
        for name in kind[2].split(",") if kind[0] == "cgroup" else [""]:
            found.setdefault(name, place)
    if not found and (root / "sys/fs/cgroup/cgroup.controllers").exists():
        found[""] = _Hierarchy(root / "sys/fs/cgroup", "/")
    return found


def _levels(
    groups: dict[str, str], mounts: dict[str, _Hierarchy], controller: str
) -> Iterator[Path]:
    """Yield the directories of a controller's groups, from this process's up to the mount."""
    if controller not in groups or controller not in mounts:
        return
    mount, path = mounts[controller], groups[controller]
    if mount.shown != "/" and (path + "/").startswith(mount.shown + "/"):
        path = path[len(mount.shown) :]
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for depth in range(len(parts), -1, -1):
        place = mount.point.joinpath(*parts[:depth])
        if place.is_dir():
            yield place


def _quota_2(place: Path) -> float | None:
    limit, _, period = (text(place / "cpu.max") or "").partition(" ")
    return _share(whole(limit), whole(period) or 100_000)


def _quota_1(place: Path) -> float | None:
    return _share(number(place / "cpu.cfs_quota_us"), number(place / "cpu.cfs_period_us"))


def _share(limit: int | None, period: int | None) -> float | None:
    return limit / period if limit and limit > 0 and period else None


def _least(one: float | None, other: float | None) -> float | None:
    least = min(math.inf if one is None else one, math.inf if other is None else other)
    return None if least == math.inf else least
