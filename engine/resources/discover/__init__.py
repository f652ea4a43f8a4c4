"""Discovery: the readers of /proc and /sys, each from the root directory that it is given."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from engine.resources.discover import cpu, limits, memory, pressure, sensors
from engine.resources.discover.files import text
from engine.resources.machine import Absent, Machine
from store.records import evolve

if TYPE_CHECKING:
    from store.detect import Latency


def discover(root: Path = Path("/"), latency: Latency | None = None) -> Machine:
    """Return the machine whose /proc and /sys are below `root`, as it is now.

    Never fails on what is not there. `latency` helps to tell types of storage, see `store.detect`.
    """
    from engine.resources.discover import gpu, network, storage

    machine = discover_compute(root)
    gpus, no_gpus = gpu.read(root)
    interfaces, no_interfaces = network.read(root)
    stores, no_stores = storage.read(root, latency)
    return evolve(
        machine,
        gpus=gpus,
        storage=stores,
        interfaces=interfaces,
        absent={**machine.absent, **no_gpus, **no_stores, **no_interfaces},
    )


def discover_compute(root: Path = Path("/")) -> Machine:
    """Return only what placement looks at: processors, memory, limits, pressure and sensors."""
    processors, no_cpu = cpu.read(root)
    main, no_memory = memory.read(root)
    nodes, no_nodes = memory.read_nodes(root)
    limited, no_limits = limits.read(root)
    stalls, no_stalls = pressure.read(root)
    load, no_load = pressure.read_load(root)
    heat, no_heat = sensors.read(root)
    absent: Absent = {
        **no_cpu, **no_memory, **no_nodes, **no_limits, **no_stalls, **no_load, **no_heat
    }  # fmt: skip
    return Machine(
        name=text(root / "proc/sys/kernel/hostname") or _host(root),
        kernel=text(root / "proc/sys/kernel/osrelease"),
        cpu=processors,
        nodes=nodes,
        memory=main,
        limits=limited,
        pressure=stalls,
        load=load,
        sensors=heat,
        absent=absent,
    )


def _host(root: Path) -> str:
    return os.uname().nodename if root == Path("/") else "unknown"
