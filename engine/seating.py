"""The seats of a build: on one node, or where placement decides; who may sit where."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from engine.job import Job
from engine.pins import Pins
from engine.placement.model import Policy, Weights
from engine.ready import MANY, Heap, Line, Ranked
from engine.recording import TOGETHER, Recording
from engine.seats import Needs, OneNode, Seats
from engine.timeline.events import Event, PolicyChosen, WorkKnown
from store.errors import InputError
from store.records import evolve, field_names

if TYPE_CHECKING:
    from engine.placement import Node
    from engine.placement.work import Work
    from engine.places import Places
    from engine.waits import Waits


def seats_for(
    job: Job, peaks: Mapping[str, int], pending: Mapping[str, Iterable[str]], waits: Waits
) -> Seats:
    """Return the seats for a job. `peaks` are bytes of memory that steps took last, as they become
    known; `pending` is what may have to run, needed ones first, with what each needs, and `waits`
    has their ranks. Raises InputError where a step is for no node."""
    places = job.places
    needs = Needs(job.graph.resources_of, lambda label: peaks.get(label, 0))
    if len(places.nodes) == 1 and not places.asked:
        ahead = begins_ahead(job)
        line = _line(places.nodes[0], waits)
        one = OneNode(places.nodes[0], needs, Pins.of(places), line, ahead=ahead)
        return Recording(one, needs, job.emit, (evolve(_policy(places), ahead=ahead),))
    from engine.placement.work import make_work
    from engine.several import SeveralNodes

    neutral = places.neutral
    work = make_work(
        {label: job.history.seconds(label, neutral=neutral) for label in pending}, pending
    )
    classes, nodes = _classes(job, places, work)
    is_there: Callable[[str], bool] | None = getattr(job.executor, "is_there", None)

    def there(name: str) -> bool:
        return is_there is None or recording.saw(name, is_there(name))

    divided = evolve(places, nodes=nodes)
    asked = None if is_there is None else there
    seats = SeveralNodes(divided, work, needs, classes, is_there=asked)
    recording = Recording(seats, needs, job.emit, _opening(divided, work, classes))
    return recording


def begins_ahead(job: Job) -> bool:
    """Say whether a step of a job may be begun before there is a processor for it."""
    alone = len(job.places.nodes) == 1 and not job.places.asked
    return alone and getattr(job.executor, "begins_ahead", False)


def _line(node: Node, waits: Waits) -> Line:
    """Return where the steps of a build on one node wait."""
    if len(waits.labels) < MANY:
        return Heap()
    speed = node.speed or 1.0
    return Ranked(waits.labels, waits.numbers, array("d", (rank / speed for rank in waits.ranks)))


def _policy(places: Places) -> PolicyChosen:
    """Return how it is decided in `places`, as the timeline tells it, where a policy has no say."""
    threads = places.threads.items()
    pins = {name: tuple((one.cpu, one.core, one.numa) for one in some) for name, some in threads}
    return PolicyChosen(memory=places.memory, pins=pins, own=places.own)


def _opening(places: Places, work: Work, classes: Mapping[str, str]) -> Iterator[Event]:
    """Yield what the timeline tells of decisions before the first one."""
    policy = places.policy
    members = {name: getattr(policy, name) for name in field_names(Policy)}
    members["weights"] = {name: getattr(policy.weights, name) for name in field_names(Weights)}
    members["max_wait"] = None if policy.max_wait == math.inf else policy.max_wait
    yield evolve(
        _policy(places),
        policy=members,
        only={node.name: node.only for node in places.nodes if node.only},
        isolated=places.isolated,
        no_heat=places.no_heat,
    )
    for first in range(0, len(work), TOGETHER):
        some = slice(first, first + TOGETHER)
        labels = tuple(work.labels[some])
        yield WorkKnown(
            labels=labels,
            seconds=tuple(work.seconds[some]),
            needs=tuple(map(tuple, work.needs[some])),
            classes=tuple(classes[label] for label in labels) if classes else (),
        )


def _classes(job: Job, places: Places, work: Work) -> tuple[Mapping[str, str], tuple[Node, ...]]:
    """Return the class of each step where nodes are for certain ones, and the nodes, each with the
    classes that it is for: steps of one class may run on the same nodes."""
    nodes = _divided(job, places, work)
    named = {target for node in nodes for target in node.only}
    if not named and not places.kinds:
        return {}, nodes
    of_target = _steps_of(job, [one for one in sorted(named) if _is_target(job, one)])
    allowed: dict[str, tuple[Node, ...]] = {}
    classes: dict[str, str] = {}
    for label in work.labels:
        kind = "test" if job.graph.recipes[label].test else "build"
        mine = [target for target in of_target if label in of_target[target]]
        name = classes[label] = " ".join([kind, *mine])
        if name not in allowed:
            allowed[name] = tuple(
                node
                for node in nodes
                if (not node.only or any(target in node.only for target in mine))
                and kind in places.kinds.get(node.name, (kind,))
            )
            if all(node.preference == "disabled" for node in allowed[name]):
                reserved = ", ".join(node.name for node in nodes if node.preference != "disabled")
                message = f"{label}: no node is for it: {reserved} only for others"
                raise InputError(message, "`only` of [[resources.nodes]] in bn.toml")
    free = tuple(allowed)
    return classes, tuple(
        evolve(node, only=() if len(mine) == len(free) else mine)
        for node in nodes
        for mine in [tuple(name for name in free if node in allowed[name])]
    )


def _is_target(job: Job, name: str) -> bool:
    return bool(job.graph.artifacts.get(name)) or name in job.graph.recipes


def _steps_of(job: Job, targets: Iterable[str]) -> dict[str, set[str]]:
    """Return by target the steps that it takes."""
    graph = job.graph
    return {target: set(graph.order(graph.labels_of(target))) for target in targets}


def _divided(job: Job, places: Places, work: Work) -> tuple[Node, ...]:
    """Return the nodes, divided among the targets by their work where that is asked for."""
    if not places.isolated or len(places.nodes) < 2:
        return places.nodes
    from engine.placement.modes import isolated

    names = {label: name for name, labels in job.graph.artifacts.items() for label in labels}
    targets = dict.fromkeys(names.get(label, label) for label in job.plan.targets)
    if len(targets) > len(places.nodes):
        return places.nodes
    seconds = dict(zip(work.labels, work.seconds, strict=True))
    shares: dict[str, float] = {}
    taken: set[str] = set()
    for target, labels in _steps_of(job, targets).items():
        mine = (labels & seconds.keys()) - taken
        if mine:
            shares[target] = sum(seconds[label] for label in mine)
            taken |= mine
    return tuple(isolated(places.nodes, shares))
