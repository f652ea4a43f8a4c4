"""Hardware to simulate: nodes of any speed, heat and reliability, and the network between them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from attrs import Factory, field, frozen

from engine.placement.cluster import PREFERENCES
from engine.placement.model import LIMIT, Node
from engine.spec.faults import Fault, nearest, shown, spec_error
from engine.spec.load import read
from engine.units import parse_size
from executors.physics import Heat, Nature, Wire
from store.errors import InputError

MEMORY: Final = 2**40
"""Bytes of memory that a node has where none are named."""


@frozen(kw_only=True)
class Machine:
    """One node, or `count` equal ones.

    `failures` is the share of actions that fail there for no reason of their own and are run again;
    `vanish` how often an hour the node drops out, with all that runs on it, and `back` after how
    many seconds it returns (0: never).
    """

    name: str
    count: int = 1
    cpus: int = 1
    memory: str = ""
    speed: float = 1.0
    limit: float = LIMIT
    preference: str = ""
    only: tuple[str, ...] = ()
    price: float = 0.0
    failures: float = 0.0
    vanish: float = 0.0
    back: float = 0.0
    heat: Heat | None = None

    def names(self) -> list[str]:
        """Return the name of each single node."""
        if self.count <= 1:
            return [self.name]
        digits = len(str(self.count - 1))
        return [f"{self.name}-{number:0{digits}}" for number in range(self.count)]

    def node(self, name: str) -> Node:
        """Return the node as placement sees it, with nothing on it."""
        memory = parse_size(self.memory) if self.memory else MEMORY
        return Node(
            name=name,
            cpus=self.cpus,
            memory=memory,
            free_cpus=self.cpus,
            free_memory=memory,
            speed=self.speed,
            limit=self.limit,
            preference=self.preference,
            only=self.only,
            price=self.price,
        )

    @property
    def nature(self) -> Nature:
        """What the node is in truth."""
        return Nature(
            cpus=self.cpus,
            speed=self.speed,
            failures=self.failures,
            vanish=self.vanish,
            back=self.back,
            heat=self.heat,
        )


@frozen(kw_only=True)
class Network:
    """What it takes to move a step's inputs to a node that does not have them."""

    bandwidth: str = ""
    """Bytes a second, as `125MB`; without limit where it is empty."""
    latency: float = 0.0


@frozen(kw_only=True)
class Hardware:
    """All that a build is simulated on."""

    nodes: tuple[Machine, ...] = field(factory=tuple)
    network: Network = Factory(Network)

    def named(self) -> list[tuple[Node, Machine]]:
        """Return every single node."""
        found: list[tuple[Node, Machine]] = []
        for machine in self.nodes:
            found += [(machine.node(name), machine) for name in machine.names()]
        return found

    @property
    def wire(self) -> Wire:
        """The network in bytes a second."""
        named = self.network.bandwidth
        bandwidth = float(parse_size(named)) if named else float("inf")
        return Wire(bandwidth=bandwidth, latency=self.network.latency)


def load_hardware(path: Path) -> Hardware:
    """Read a `nodes.toml`. Raises InputError that names all that is wrong, with its place."""
    if not path.is_file():
        hint = "--nodes takes a TOML file with a [[nodes]] for each kind of node"
        raise InputError(f"{shown(path)}: no such file", hint)
    hardware = read(path, Hardware)
    faults = list(_faults(path, hardware))
    if faults:
        raise spec_error(faults)
    return hardware


def _faults(path: Path, hardware: Hardware) -> Iterator[Fault]:
    if not hardware.nodes:
        yield Fault(path, (), "there are no nodes", 'write one as [[nodes]] with name = "…"')
    for number, one in enumerate(hardware.nodes):
        for name, message, hint in _wrong(one):
            text = f"node {one.name!r}: {name}: {message}"
            yield Fault(path, ("nodes", number, *name.split(".")), text, hint)
    seen: set[str] = set()
    for number, one in enumerate(hardware.nodes):
        doubled = next((name for name in one.names() if name in seen), None)
        if doubled is not None:
            hint = "count = 2 makes two equal nodes of one table"
            yield Fault(path, ("nodes", number, "name"), f"two nodes are named {doubled!r}", hint)
        seen.update(one.names())
    network = hardware.network
    if _is_no_size(network.bandwidth):
        message = f"bandwidth: {network.bandwidth!r} is no size"
        yield Fault(path, ("network", "bandwidth"), message, 'bytes a second, as "125MB"')
    if not 0 <= network.latency < math.inf:
        message = f"latency: {network.latency:g} s: it cannot be negative"
        yield Fault(path, ("network", "latency"), message, "seconds, as 0.002")


def _is_no_size(text: str) -> bool:
    """Say whether a text that is not empty names no size above 0."""
    try:
        return bool(text) and parse_size(text) <= 0
    except ValueError:
        return True


def _wrong(one: Machine) -> Iterator[tuple[str, str, str]]:
    """Yield what is wrong with a node: the field, a message, a hint."""
    if _is_no_size(one.memory):
        yield "memory", f"{one.memory!r} is no size", 'as "16GB"'
    if one.preference not in PREFERENCES:
        known = [name for name in PREFERENCES if name]
        yield "preference", f"{one.preference!r} is none", nearest(one.preference, known)
    for name, number in (("count", one.count), ("cpus", one.cpus)):
        if number < 1:
            yield name, f"{number} is less than 1", ""
    if not 0 < one.speed < math.inf:
        yield "speed", f"{one.speed:g}: it has to be more than 0", "1.0 is what durations are at"
    if not 0 <= one.failures < 1:
        yield "failures", f"{one.failures:g} is no share", "from 0 to below 1, as 0.01"
    for name, value, hint in (
        ("vanish", one.vanish, "times an hour"),
        ("back", one.back, "seconds, 0 for never"),
        ("price", one.price, ""),
    ):
        if not 0 <= value < math.inf:
            yield name, f"{value:g}: it cannot be negative", hint
    yield from _wrong_heat(one.heat) if one.heat is not None else ()


def _wrong_heat(heat: Heat) -> Iterator[tuple[str, str, str]]:
    for name, value in (("seconds", heat.seconds), ("every", heat.every)):
        if not 0 < value < math.inf:
            yield f"heat.{name}", f"{value:g}: it has to be more than 0", ""
    if not 0 < heat.throttled <= 1:
        hint = "the share of its speed that is left, above 0 and up to 1"
        yield "heat.throttled", f"{heat.throttled:g} is no share", hint


def machines(speeds: Iterable[float], **more: float) -> Hardware:
    """Return nodes of one processor with these speeds: for tests and benchmarks."""
    return Hardware(
        nodes=tuple(
            Machine(name=f"n{number:03}", speed=speed, **more)  # type: ignore[arg-type]
            for number, speed in enumerate(speeds)
        )
    )
