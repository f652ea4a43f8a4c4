"""`[resources]` and `[benchmark]` in the configuration: their form, and what they come to.

::

    [resources]
    strategy = "reserved"        # all, fixed, percentage or reserved
    cpus = 2                     # fixed: so many threads; reserved: so many are left to others
    memory = "4GB"               # likewise
    percent = 50                 # percentage: of threads and of memory
    pin = "threads"              # actions are pinned to: none, share, kinds or threads

    [[resources.nodes]]          # see node_settings.py
    name = "fast"
    cpus = "0-3"

    [resources.affinity]         # by kind of action: a kind of core, or threads
    build = "performance"
    test = "2-3"

    [benchmark]
    automatic = false            # `bn watch` measures nothing by itself
    cpu_days = 30
    memory_days = 30
    storage_days = 7
    network_days = 1             # 0 is never
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from attrs import asdict, frozen

from engine.resources.node_settings import THREADS, NodeSpec, NodeTable, node_specs
from engine.resources.node_settings import faults as node_faults
from engine.spec.faults import Fault, nearest
from engine.spec.model import documented
from engine.units import parse_size
from store.records import field as member
from store.records import frozen as record

if TYPE_CHECKING:
    from engine.config_form import ConfigFile
    from engine.placement.settings import Placing
    from engine.resources.allocation import Share
    from engine.resources.benchmark.due import Schedule


PINS: Final = ("none", "share", "kinds", "threads")
"""What actions may be pinned to: nothing, all threads of the share, those of one kind of core
(which are nodes of their own then), or as many threads of their own as they have processors."""

ACTIONS: Final = ("build", "test")
"""Kinds of actions."""

CORES: Final = ("performance", "efficiency")
"""Kinds of cores."""


@record(kw_only=True)
class Resources:
    """What `[resources]` says: the share, what actions are pinned to, and, by kind of action, the
    kind of core or the threads (as `0-3,8`) that it is for; what it says of nodes."""

    share: Share
    pin: str
    affinity: Mapping[str, str] = member(factory=dict)
    nodes: tuple[NodeSpec, ...] = ()


@frozen(kw_only=True)
class ResourcesTable:
    """`[resources]`: what of this machine bn may use."""

    strategy: str | None = documented("all, fixed, percentage or reserved (all)", default=None)
    cpus: int | None = documented("threads used (fixed) or left to others (reserved)", default=None)
    memory: str | None = documented("memory used or left to others, as 4GB", default=None)
    percent: float | None = documented("share of threads and memory (percentage)", default=None)
    pin: str | None = documented(
        "what actions are pinned to: none, share, kinds or threads",
        default=None,
    )
    affinity: Mapping[str, str] = documented(
        "kind of core or threads by kind of action (build, test)", factory=dict
    )
    nodes: tuple[NodeTable, ...] = documented("parts of this machine, and their use", default=())


@frozen(kw_only=True)
class BenchmarkTable:
    """`[benchmark]`: when this machine is measured again."""

    automatic: bool | None = documented("bn watch measures what is due (true)", default=None)
    cpu_days: float | None = documented("days between; 0 is never (30)", default=None)
    memory_days: float | None = documented("days between; 0 is never (30)", default=None)
    storage_days: float | None = documented("days between; 0 is never (7)", default=None)
    network_days: float | None = documented("days between; 0 is never (1)", default=None)


def faults(path: Path, resources: ResourcesTable, benchmark: BenchmarkTable) -> Iterator[Fault]:
    """Yield what is wrong with the tables of the file at `path`."""
    strategy = resources.strategy
    if strategy is not None:
        from engine.resources.allocation import STRATEGIES  # builds read no such thing

        if strategy not in STRATEGIES:
            message = f"unknown strategy {strategy!r}"
            yield Fault(path, ("resources", "strategy"), message, nearest(strategy, STRATEGIES))
    if resources.cpus is not None and resources.cpus < (1 if strategy == "fixed" else 0):
        yield Fault(path, ("resources", "cpus"), "too few")
    if resources.percent is not None and not 0 < resources.percent <= 100:
        yield Fault(path, ("resources", "percent"), "between 0 and 100")
    if strategy == "percentage" and resources.percent is None:
        yield Fault(path, ("resources", "strategy"), "percentage needs `percent`")
    yield from _pin_faults(path, resources)
    yield from node_faults(path, resources.nodes)
    if resources.affinity and any(node.cpus for node in resources.nodes):
        hint = "give the targets of these actions to a node: only = [targets]"
        yield Fault(path, ("resources", "affinity"), "there are nodes with threads already", hint)
    if resources.memory is not None:
        try:
            parse_size(resources.memory)
        except ValueError as error:
            yield Fault(path, ("resources", "memory"), str(error))
    for name, value in asdict(benchmark).items():
        if name != "automatic" and value is not None and value < 0:
            yield Fault(path, ("benchmark", name), "less than 0 days")


def _pin_faults(path: Path, resources: ResourcesTable) -> Iterator[Fault]:
    if resources.pin is not None and resources.pin not in PINS:
        message = f"no pin of that name: {resources.pin!r}"
        yield Fault(path, ("resources", "pin"), message, nearest(resources.pin, PINS))
    for kind, where in resources.affinity.items():
        at = ("resources", "affinity", kind)
        if kind not in ACTIONS:
            yield Fault(path, at, f"no kind of action: {kind!r}", nearest(kind, ACTIONS))
        if where not in CORES and not re.fullmatch(THREADS, where):
            hint = "a kind of core (performance, efficiency) or threads, as 0-3,8"
            yield Fault(path, at, f"cannot read {where!r}", hint)


def share(start: Path | None = None) -> Share:
    """Return what of this machine the configuration leaves to bn; raises InputError."""
    return resources(start).share


def resources(start: Path | None = None) -> Resources:
    """Return what `[resources]` of the configuration says; raises InputError.

    Where it does not say what actions are pinned to, that is the share as soon as there is one.
    """
    from engine.resources.allocation import ALL, Share

    told: dict[str, Any] = {}
    affinity: dict[str, str] = {}
    nodes: list[tuple[Path, Sequence[NodeTable]]] = []
    for path, file in _files(start):
        given = asdict(file.resources, recurse=False)
        affinity |= given.pop("affinity")
        nodes.append((path, given.pop("nodes")))
        told |= {key: value for key, value in given.items() if value is not None}
    if "memory" in told:
        told["memory"] = parse_size(told["memory"])
    pin = told.pop("pin", None)
    if pin is None:
        own = affinity or any(node.cpus for _, some in nodes for node in some)
        pin = "share" if own or told.get("strategy", ALL) != ALL else "none"
    return Resources(share=Share(**told), pin=pin, affinity=affinity, nodes=node_specs(nodes))


def placement(
    start: Path | None = None, strategy: str | None = None, mode: str | None = None
) -> Placing:
    """Return what `[placement]` and the command line say; raises InputError."""
    from engine.placement.settings import placing

    return placing([file.placement for _, file in _files(start)], strategy, mode)


def schedule(start: Path | None = None) -> Schedule:
    """Return what `[benchmark]` of the configuration says; raises InputError."""
    from engine.resources.benchmark.due import Schedule

    tables = [file.benchmark for _, file in _files(start)]
    told = {
        key: value for table in tables for key, value in asdict(table).items() if value is not None
    }
    return Schedule(**told)


def _files(start: Path | None) -> Iterator[tuple[Path, ConfigFile]]:
    from engine.config import project_file, user_file
    from engine.config_form import read_file

    for path in (user_file(), project_file(start or Path.cwd())):
        if path is not None and path.exists():
            yield path, read_file(path)
