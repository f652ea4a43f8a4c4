"""How busy the machine is: stalls, load, and time that a hypervisor took."""

from __future__ import annotations

import re
from pathlib import Path

from engine.resources.discover.files import text
from engine.resources.machine import Absent, Load, Pressure, Stall

RESOURCES = ("cpu", "memory", "io")


def read(root: Path = Path("/")) -> tuple[tuple[Pressure, ...], Absent]:
    """Return the stall information (PSI) of processors, memory and disks."""
    found = []
    for resource in RESOURCES:
        told = text(root / "proc/pressure" / resource)
        if told is not None:
            some, full = (_stall(told, kind) for kind in ("some", "full"))
            found.append(Pressure(resource=resource, some=some, full=full))
    why = "no /proc/pressure: the kernel was built or started without stall information"
    return tuple(found), {} if found else {"pressure": why}


def _stall(told: str, kind: str) -> Stall | None:
    line = re.search(rf"^{kind} avg10=([\d.]+) avg60=([\d.]+) avg300=([\d.]+)", told, re.MULTILINE)
    if line is None:
        return None
    return Stall(avg10=float(line[1]), avg60=float(line[2]), avg300=float(line[3]))


def read_load(root: Path = Path("/")) -> tuple[Load, Absent]:
    """Return the load, and the share of processor time stolen since the start."""
    words = (text(root / "proc/loadavg") or "").split()[:3]
    one, five, fifteen = [float(word) for word in words] if len(words) == 3 else (None, None, None)
    total = re.search(r"^cpu +([\d ]+)$", text(root / "proc/stat") or "", re.MULTILINE)
    ticks: list[int] = [int(word) for word in total[1].split()] if total else []
    spent = sum(ticks[:8])
    stolen = ticks[7] / spent if len(ticks) >= 8 and spent else None
    absent = {}
    if one is None:
        absent["load"] = "/proc/loadavg cannot be read"
    if stolen is None:
        absent["load.stolen"] = "/proc/stat does not tell it"
    return Load(one=one, five=five, fifteen=fifteen, stolen=stolen), absent
