"""Hardware to simulate: nodes of any speed, heat and reliability, and the network between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from attrs import Factory, field, frozen

from engine.placement.cluster import PREFERENCES
from engine.placement.model import LIMIT, Node
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
    speed: float | None = 1.0
    limit: float = LIMIT
    preference: str = ""
    only: tuple[str, ...] = ()
    price: float = 0.0
    failures: float = 0.0
    vanish: float = 0.0
    back: float = 0.0
    heat: Heat | None = None

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
            speed=self.speed or 1.0,
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
            many = machine.count > 1
            digits = len(str(machine.count - 1))
            for number in range(machine.count):
                name = f"{machine.name}-{number:0{digits}}" if many else machine.name
                found.append((machine.node(name), machine))
        return found

    @property
    def wire(self) -> Wire:
        """The network in bytes a second."""
        named = self.network.bandwidth
        bandwidth = float(parse_size(named)) if named else float("inf")
        return Wire(bandwidth=bandwidth, latency=self.network.latency)


def load_hardware(path: Path) -> Hardware:
    """Read a `nodes.toml`. Raises InputError."""
    hardware = read(path, Hardware)
    if not hardware.nodes:
        raise InputError(f"{path}: there are no nodes", "write one as [[nodes]] with a name")
    for one in hardware.nodes:
        _check(path, one)
    names = [node.name for node, _ in hardware.named()]
    if len(set(names)) < len(names):
        doubled = next(name for name, count in Counter(names).items() if count > 1)
        raise InputError(f"{path}: two nodes are named {doubled!r}")
    try:
        parse_size(hardware.network.bandwidth or "0")
    except ValueError as error:
        raise InputError(f"{path}: network: bandwidth: {error}") from None
    return hardware


def _check(path: Path, one: Machine) -> None:
    where = f"{path}: node {one.name!r}"
    try:
        parse_size(one.memory or "0")
    except ValueError as error:
        raise InputError(f"{where}: memory: {error}") from None
    if one.preference not in PREFERENCES:
        known = ", ".join(name for name in PREFERENCES if name)
        raise InputError(f"{where}: preference {one.preference!r} is none of {known}")
    if one.count < 1 or one.cpus < 1:
        raise InputError(f"{where}: count and cpus are at least 1")
    if one.speed is not None and not one.speed > 0:
        raise InputError(f"{where}: speed has to be more than 0")
    if not 0 <= one.failures < 1 or one.vanish < 0 or one.back < 0:
        raise InputError(f"{where}: failures is a share below 1, vanish and back are not negative")
    heat = one.heat
    if heat and (heat.seconds <= 0 or heat.every <= 0 or not 0 < heat.throttled <= 1):
        raise InputError(f"{where}: heat: seconds and every are more than 0, throttled 0 to 1")


def machines(speeds: Iterable[float], **more: float) -> Hardware:
    """Return nodes of one processor with these speeds: for tests and benchmarks."""
    return Hardware(
        nodes=tuple(
            Machine(name=f"n{number:03}", speed=speed, **more)  # type: ignore[arg-type]
            for number, speed in enumerate(speeds)
        )
    )
