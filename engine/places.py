"""Where a build runs: this machine as nodes, and the processors that actions are pinned to.

Nothing configured and no limit from a control group: one node, without looking any further.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from engine.picking import local_node
from engine.placement import Node, Policy
from store.errors import InputError
from store.records import evolve, field, frozen

if TYPE_CHECKING:
    from engine.placement.settings import Placing
    from engine.resources.heat import Thermometer
    from engine.resources.machine import Machine
    from engine.resources.node_settings import NodeSpec
    from engine.resources.settings import Resources

NO_SENSOR: Final = "no sensor: heat counts as neutral"

NOT_LOOKED: Final = "sensors are not looked at: heat counts as neutral"

GROUPS: Final = "/sys/fs/cgroup"

_LIMITS: Final = {
    "": ("cpu.max", "memory.max"),
    "cpu": ("cpu.cfs_quota_us",),
    "memory": ("memory.limit_in_bytes",),
}
"""Files of a control group that limit what matters here, by controller; "" is version 2."""

_NONE: Final = (b"max", b"-1")
_HUGE: Final = 18
"""Digits from which on a limit in bytes is none."""


@frozen
class Thread:
    """A processor, as Linux calls it: its number, its core, its NUMA node."""

    cpu: int
    core: int
    numa: int | None


@frozen(kw_only=True)
class Places:
    """The nodes of a build, how to choose among them, and their processors by node (the preferred
    ones first) where actions are pinned: to all of their node's, or to their `own`.

    All nodes are of one machine, whose `memory` (bytes) they share. With `isolated` they are
    divided among the targets of the build. `kinds` are the kinds of actions that a node is for,
    where it is not for all. Where placement is `asked` for, its policy decides also on one node.
    """

    nodes: tuple[Node, ...]
    memory: int
    policy: Policy = Policy(strategy="portfolio")
    threads: Mapping[str, tuple[Thread, ...]] = field(factory=dict)
    own: bool = False
    isolated: bool = False
    kinds: Mapping[str, tuple[str, ...]] = field(factory=dict)
    asked: bool = False
    thermometer: Thermometer | None = None
    """What tells how warm the nodes are; None where nobody looks or nothing can be told."""
    no_heat: str = ""
    """Why nothing tells how warm they are, where placement is asked for."""

    @property
    def cpus(self) -> int:
        """How many processors there are."""
        return sum(node.cpus for node in self.nodes)

    @property
    def neutral(self) -> float:
        """The speed that counts where none was measured: the mean of the others."""
        known = [node.speed for node in self.nodes if node.speed]
        return sum(known) / len(known) if known else 1.0

    def speed_of(self, name: str) -> float:
        """Return the speed of a node, 0 where it was not measured."""
        return next((node.speed or 0.0 for node in self.nodes if node.name == name), 0.0)


def places(
    store: Path, jobs: int | None, strategy: str | None = None, mode: str | None = None
) -> Places:
    """Return where a build runs: as the configuration says of who stands here, with at most `jobs`
    processors (by default all that it may have; without a configured share more may be asked for).

    `store` is the directory that keeps how fast this machine was measured; `strategy` and `mode`
    count instead of the configured ones. Raises InputError.
    """
    configured = _is_configured()
    asked = strategy is not None or mode is not None
    if not configured and not asked and not is_limited():
        node = local_node(jobs)
        return Places(nodes=(node,), memory=node.memory)
    from engine.placement.settings import placing
    from engine.resources.allocation import Share
    from engine.resources.benchmark.kept import speeds
    from engine.resources.discover import discover_compute
    from engine.resources.settings import Resources, placement, resources

    wanted = resources() if configured else Resources(share=Share(), pin="none")
    how = placement(None, strategy, mode) if configured else placing((), strategy, mode)
    return places_of(discover_compute(), wanted, speeds(store), jobs, how)


def places_of(
    machine: Machine,
    wanted: Resources,
    speeds: Mapping[str, float],
    jobs: int | None,
    how: Placing | None = None,
    root: Path = Path("/"),
) -> Places:
    """Return the places of a machine; `speeds` in BPU by kind of core. Where placement has a say,
    sensors are looked for below `root`. Raises InputError."""
    from engine.placement.settings import Placing
    from engine.resources.allocation import allocate

    how = how or Placing()
    allocation = allocate(machine, wanted.share)
    memory = allocation.memory or local_node(jobs).memory
    chosen = allocation.cpus or tuple(sorted(os.sched_getaffinity(0)))
    kinds = {name: frozenset(cpus) for name, cpus in _kinds(machine).items()}
    specs = {spec.name: spec for spec in wanted.nodes}
    parts, count = _parts(machine, wanted, chosen, jobs)
    nodes = []
    for name, (_, cpus) in parts.items():
        node = Node(
            name=name,
            cpus=count if count is not None else len(cpus),
            memory=memory,
            free_cpus=count if count is not None else len(cpus),
            free_memory=memory,
            speed=_speed(cpus, kinds, speeds),
            limit=how.limit,
        )
        nodes.append(_as_told(node, specs[name]) if name in specs else node)
    _check(nodes, specs, parts)
    pinned = wanted.pin != "none"
    asked = how.asked or len(nodes) > 1 or any(name in parts for name in specs)
    heat = _thermometer(parts, specs, how, root) if asked and how.every else None
    return Places(
        nodes=tuple(nodes),
        memory=memory,
        policy=how.policy,
        threads=_threads(machine, parts) if pinned else {},
        own=wanted.pin == "threads",
        isolated=how.isolated,
        kinds={name: only for name, (only, _) in parts.items() if only},
        asked=asked,
        thermometer=heat,
        no_heat="" if heat or not asked else NO_SENSOR if how.every else NOT_LOOKED,
    )


Parts: TypeAlias = dict[str, tuple[tuple[str, ...], tuple[int, ...]]]
"""By name of node the kinds of actions that it is for (none: all) and its processors."""


def _parts(
    machine: Machine, wanted: Resources, chosen: Sequence[int], jobs: int | None
) -> tuple[Parts, int | None]:
    """Return the parts of the machine that are nodes, and for one that is only a number of slots,
    how many."""
    from engine.resources.allocation import Share

    own = {spec.name: spec.cpus for spec in wanted.nodes if spec.cpus}
    if own:
        here = frozenset(chosen)
        found = {name: tuple(c for c in cpus if c in here) for name, cpus in own.items()}
        left = len(chosen) if jobs is None else jobs
        parts: Parts = {}
        for name, cpus in found.items():
            if cpus[:left]:
                parts[name] = ((), cpus[:left])
            left = max(0, left - len(cpus))
        return parts, None
    if wanted.pin != "none":
        return _groups(machine, wanted, chosen[:jobs]), None
    count = len(chosen)
    if jobs is not None:
        count = jobs if wanted.share == Share() else min(jobs, count)
    return {"local": ((), tuple(chosen))}, count


def _as_told(node: Node, spec: NodeSpec) -> Node:
    """Return a node as the configuration has it."""
    memory = min(node.memory, spec.memory or node.memory)
    return evolve(
        node,
        speed=spec.speed or node.speed,
        memory=memory,
        free_memory=memory,
        preference=spec.preference,
        only=spec.only,
        limit=spec.limit or node.limit,
        price=spec.price,
    )


def _check(nodes: Sequence[Node], specs: Mapping[str, NodeSpec], parts: Parts) -> None:
    """Raise InputError where the configuration leaves no node, or speaks of one that cannot be."""
    for name, spec in specs.items():
        if name in parts or spec.cpus or name.split(".")[0] == "local":
            continue
        known = ", ".join(parts) or "none"
        message = f"{spec.where}: [[resources.nodes]] {name!r}: there is no such node: {known}"
        raise InputError(message, 'give it its threads: cpus = "0-3"')
    if not nodes:
        named = ", ".join(f"{spec.name}: {_listed(spec.cpus)}" for spec in specs.values())
        message = f"no node has a processor that may be used here ({named})"
        raise InputError(message, "`bn cpu info` shows those that there are")
    if all(node.preference == "disabled" for node in nodes):
        names = ", ".join(node.name for node in nodes)
        raise InputError(f"all nodes are disabled: {names}", "[[resources.nodes]] in bn.toml")


def _listed(cpus: Sequence[int]) -> str:
    return ",".join(map(str, cpus)) or "-"


def _thermometer(
    parts: Parts, specs: Mapping[str, NodeSpec], how: Placing, root: Path
) -> Thermometer | None:
    from engine.resources.heat import thermometer

    wanted = {name: specs[name].sensor if name in specs else "" for name in parts}
    return thermometer(wanted, how.every, root)


def _threads(machine: Machine, parts: Parts) -> dict[str, tuple[Thread, ...]]:
    about = {
        cpu: Thread(cpu, core.id, core.node) for core in machine.cpu.cores for cpu in core.cpus
    }
    return {
        name: tuple(about.get(cpu, Thread(cpu, cpu, None)) for cpu in cpus)
        for name, (_, cpus) in parts.items()
    }


def _kinds(machine: Machine) -> dict[str, tuple[int, ...]]:
    """Return the processors of each kind of core, none where there is only one kind."""
    classes = machine.cpu.classes
    return {one.name: one.cpus for one in classes} if len(classes) > 1 else {}


def _speed(
    cpus: Sequence[int], kinds: Mapping[str, frozenset[int]], speeds: Mapping[str, float]
) -> float | None:
    """Return the mean speed of some processors, None where it was not measured for all."""
    if not kinds:
        return speeds.get("")
    found = [
        speeds.get(next((name for name, held in kinds.items() if cpu in held), "")) for cpu in cpus
    ]
    known = [one for one in found if one is not None]
    if not known or len(known) < len(found):
        return None
    return known[0] if len(set(known)) == 1 else sum(known) / len(known)


def _groups(machine: Machine, wanted: Resources, chosen: Sequence[int]) -> Parts:
    """Return by name of node the kinds of actions that it is for (none: all) and its processors:
    those that are of one kind of core, where that counts, and for the same actions."""
    from engine.resources.settings import ACTIONS

    kinds = _kinds(machine)
    allowed = {kind: _allowed(wanted.affinity.get(kind), kinds, chosen) for kind in ACTIONS}
    found: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for cpu in chosen:
        kind = ""
        if wanted.pin in ("kinds", "threads"):
            kind = next((name for name, cpus in kinds.items() if cpu in cpus), "")
        actions = tuple(action for action in ACTIONS if cpu in allowed[action])
        if actions:
            found.setdefault((kind, actions), []).append(cpu)
    named: Parts = {}
    several = len({actions for _, actions in found}) > 1
    for (kind, actions), cpus in found.items():
        parts = ["local", kind, "-".join(actions) if several else ""]
        only = () if len(actions) == len(ACTIONS) else actions
        named[".".join(filter(None, parts))] = (only, tuple(cpus))
    return named


def _allowed(
    where: str | None, kinds: Mapping[str, Sequence[int]], chosen: Sequence[int]
) -> frozenset[int]:
    """Return the processors for a kind of action: all of them where what is asked for is not
    here."""
    from engine.resources.discover.files import cpu_list

    if where is None:
        return frozenset(chosen)
    cpus = kinds.get(where, ()) if where[:1].isalpha() else cpu_list(where) or ()
    return frozenset(cpus).intersection(chosen) or frozenset(chosen)


def _is_configured() -> bool:
    """Say whether a file of the configuration mentions `resources` or `placement`."""
    from engine.config import project_file, user_file

    for path in (user_file(), project_file(Path.cwd())):
        with contextlib.suppress(OSError):
            if path is not None and _says(path.read_bytes()):
                return True
    return False


def _says(data: bytes) -> bool:
    return b"resources" in data or b"placement" in data


def is_limited(groups: str = GROUPS, own: str = "/proc/self/cgroup") -> bool:
    """Say whether a control group that this process is in limits its processors or memory; where
    that is so, `engine.resources` tells by how much."""
    return any(limit not in _NONE and len(limit) < _HUGE for limit in _limits(groups, own))


def _limits(groups: str, own: str) -> Iterator[bytes]:
    for line in _read(own).splitlines():
        _, _, rest = line.partition(b":")
        controllers, _, path = rest.decode(errors="surrogateescape").partition(":")
        for controller in controllers.split(",") if controllers else [""]:
            names = _LIMITS.get(controller, ())
            places = (f"/{controllers}", f"/{controller}") if controllers else ("", "/unified")
            mount = next((at for at in places if names and os.path.isdir(groups + at)), None)
            if mount is not None:
                yield from _upwards(groups + mount, path, names)


def _upwards(mount: str, path: str, names: Iterable[str]) -> Iterator[bytes]:
    """Yield the limits in a group and all above it, as far as they are mounted here."""
    path = path.rstrip("/")
    while True:
        for name in names:
            limit = _read(f"{mount}{path}/{name}").split()
            if limit:
                yield limit[0]
        if not path:
            return
        path = path.rpartition("/")[0]


def _read(path: str) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(handle, 1 << 16)
    except OSError:
        return b""
    finally:
        os.close(handle)
