"""`[[resources.nodes]]` in the configuration: nodes by name, what they are, and for whom.

::

    [[resources.nodes]]          # an own node: these threads, to which its actions are pinned
    name = "fast"
    cpus = "0-3"
    speed = 2.0                  # BPU of one processor; else as `bn benchmark --cpu` found
    memory = "8GB"               # most that its actions hold together
    limit = 80                   # °C
    sensor = "coretemp/Package id 0"

    [[resources.nodes]]          # one that there is anyway, as `pin = "kinds"` makes them
    name = "local.efficiency"
    preference = "avoid"         # preferred, avoid or disabled
    only = ["docs"]              # targets that it is for
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from attrs import asdict, frozen

from engine.policies import PREFERENCES
from engine.resources.discover.files import cpu_list
from engine.spec.faults import Fault, nearest
from engine.spec.model import documented
from engine.units import parse_size
from store.records import frozen as record

THREADS: Final = r"\d+(-\d+)?(,\d+(-\d+)?)*"
"""Threads as `0-3,8`."""


@frozen(kw_only=True)
class NodeTable:
    """One of `[[resources.nodes]]`: a part of this machine, and what it is for."""

    name: str = documented("name of the node, as bn explain shows it")
    cpus: str | None = documented("its threads, as 0-3,8", default=None)
    speed: float | None = documented("BPU of one processor; else as measured", default=None)
    memory: str | None = documented("most that its actions hold together, as 8GB", default=None)
    preference: str | None = documented("preferred, avoid or disabled", default=None)
    only: tuple[str, ...] | None = documented("targets that it is for; else all", default=None)
    limit: float | None = documented("degrees Celsius that it is not to reach (85)", default=None)
    sensor: str | None = documented("sensor of it: chip, or chip/label", default=None)
    price: float | None = documented("cost of a second there, in any unit (0)", default=None)


@record(kw_only=True)
class NodeSpec:
    """What is said of a node: None and empty is nothing. Threads by number, memory in bytes, the
    limit in °C; `where` is the file that says it last."""

    name: str
    cpus: tuple[int, ...] = ()
    speed: float | None = None
    memory: int | None = None
    preference: str = ""
    only: tuple[str, ...] = ()
    limit: float | None = None
    sensor: str = ""
    price: float = 0.0
    where: str = ""


def faults(path: Path, nodes: Sequence[NodeTable]) -> Iterator[Fault]:
    """Yield what is wrong with the nodes in the file at `path`."""
    from engine.placement.settings import limit_fault

    owner: dict[int, str] = {}
    names: set[str] = set()
    for number, node in enumerate(nodes):
        at = ("resources", "nodes", number)
        if not node.name or re.search(r"[\s\0]", node.name):
            yield Fault(path, (*at, "name"), f"{node.name!r} is no name of a node")
        if node.name in names:
            yield Fault(path, (*at, "name"), f"two nodes are called {node.name!r}")
        names.add(node.name)
        if node.cpus is not None:
            yield from _cpu_faults(path, (*at, "cpus"), node, owner)
        if node.speed is not None and not 0 < node.speed < 1e6:
            yield Fault(path, (*at, "speed"), "a speed is more than 0", "in BPU: about 1 to 4")
        if node.price is not None and not 0 <= node.price < 1e12:
            yield Fault(path, (*at, "price"), "a price is 0 or more")
        if node.preference is not None and node.preference not in PREFERENCES:
            hint = nearest(node.preference, PREFERENCES)
            yield Fault(path, (*at, "preference"), f"unknown preference {node.preference!r}", hint)
        if node.only is not None and not node.only:
            hint = 'leave `only` out: it is for all then; preference = "disabled" is for none'
            yield Fault(path, (*at, "only"), "for no target at all", hint)
        if node.memory is not None:
            try:
                parse_size(node.memory)
            except ValueError as error:
                yield Fault(path, (*at, "memory"), str(error))
        yield from limit_fault(path, (*at, "limit"), node.limit)


def _cpu_faults(
    path: Path, at: tuple[str | int, ...], node: NodeTable, owner: dict[int, str]
) -> Iterator[Fault]:
    if not re.fullmatch(THREADS, node.cpus or ""):
        yield Fault(path, at, f"cannot read {node.cpus!r}", "threads, as 0-3,8")
        return
    for cpu in cpu_list(node.cpus) or ():
        if cpu in owner:
            yield Fault(path, at, f"processor {cpu} is {owner[cpu]!r}'s already")
            return
        owner[cpu] = node.name


def node_specs(files: Sequence[tuple[Path, Sequence[NodeTable]]]) -> tuple[NodeSpec, ...]:
    """Return what files (those that count more come later) say of nodes, by name."""
    told: dict[str, dict[str, Any]] = {}
    for path, nodes in files:
        for node in nodes:
            given = {key: value for key, value in asdict(node).items() if value is not None}
            told.setdefault(node.name, {}).update(given, where=str(path))
    return tuple(_spec(one) for one in told.values())


def _spec(told: Mapping[str, Any]) -> NodeSpec:
    made = dict(told)
    if "cpus" in made:
        made["cpus"] = cpu_list(made["cpus"])
    if "memory" in made:
        made["memory"] = parse_size(made["memory"])
    return NodeSpec(**made)
