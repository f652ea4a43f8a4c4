"""Main memory and NUMA nodes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from engine.resources.discover.files import cpus_of, fields, numbered, text, whole
from engine.resources.machine import Absent, Memory, Node


def read(root: Path = Path("/")) -> tuple[Memory, Absent]:
    """Return how much memory there is; the file counts in KiB."""
    told = fields(root / "proc/meminfo")

    def size(name: str) -> int | None:
        count = whole(told.get(name, "").partition(" ")[0])
        return None if count is None else count * 1024

    absent = {} if told else {"memory": "/proc/meminfo cannot be read"}
    available = size("MemAvailable")
    if told and available is None:
        absent["memory.available"] = "/proc/meminfo does not tell it (kernels before 3.14)"
    memory = Memory(
        total=size("MemTotal"),
        available=available,
        swap=size("SwapTotal"),
        swap_free=size("SwapFree"),
    )
    return memory, absent


def read_nodes(root: Path = Path("/")) -> tuple[tuple[Node, ...], Absent]:
    """Return the NUMA nodes; none where the kernel knows of no such thing."""
    nodes = []
    for number, path in numbered(root / "sys/devices/system/node", "node"):
        told = dict(_sizes(text(path / "meminfo")))
        nodes.append(
            Node(
                id=number,
                cpus=cpus_of(path, "cpulist", "cpumap") or (),
                memory=told.get("MemTotal"),
                free=told.get("MemFree"),
                distances=tuple(int(word) for word in (text(path / "distance") or "").split()),
            )
        )
    if sum(len(node.cpus) for node in nodes) > len({cpu for node in nodes for cpu in node.cpus}):
        return (_merged(nodes),), {"nodes.emulated": f"{len(nodes)} of the same processors: one"}
    return tuple(nodes), {} if nodes else {"nodes": "no /sys/devices/system/node: one memory"}


def _merged(nodes: list[Node]) -> Node:
    """Return nodes that the kernel made up (numa=fake, as on a Raspberry Pi 5) as the one that
    they are parts of."""

    def altogether(sizes: Iterable[int | None]) -> int | None:
        return sum(size for size in sizes if size) or None

    return Node(
        id=nodes[0].id,
        cpus=tuple(sorted({cpu for node in nodes for cpu in node.cpus})),
        memory=altogether(node.memory for node in nodes),
        free=altogether(node.free for node in nodes),
        distances=nodes[0].distances[:1],
    )


def _sizes(told: str | None) -> list[tuple[str, int]]:
    """Return names and bytes of lines as `Node 0 MemTotal: 1024 kB`."""
    sizes = []
    for line in (told or "").splitlines():
        words = line.replace(":", " ").split()
        if len(words) >= 4 and words[3].isdigit():
            sizes.append((words[2], int(words[3]) * 1024))
    return sizes
