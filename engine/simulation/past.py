"""Work from the past: a spec's steps as long as they took last, a build as it was."""

from __future__ import annotations

from typing import Any

from engine.history import History
from engine.request import Request, evaluated, labels_of, targets_of
from engine.simulation.workflows import Workflow, workflow_of
from engine.timeline.course import course
from engine.timeline.log import read_timeline
from store.errors import InputError
from store.store import Store


def workflow_of_spec(store: Store, request: Request) -> Workflow:
    """Return all steps of a spec's targets with the seconds and memory of when they ran last; one
    that never ran counts for a second."""
    graph = evaluated(store, request).graph
    targets = targets_of(graph, request)
    history = History(store, graph.about.spec)
    owner: dict[str, str] = {}
    for target in targets:
        for label in graph.order(labels_of(graph, (target,))):
            owner.setdefault(label, target)
    rows: list[dict[str, Any]] = []
    unknown = 0
    for label, target in owner.items():
        ran = next((past for past in history.of(label) if past.seconds), None)
        unknown += ran is None
        resources = graph.recipes[label].resources
        rows.append(
            {
                "name": label,
                "seconds": 1.0 if ran is None else ran.seconds * (ran.speed or 1.0),
                "needs": graph.needs_of(label),
                "cpus": resources.cpus,
                "memory": resources.memory or (0 if ran is None else ran.peak_memory),
                "target": target,
            }
        )
    note = f"{unknown} of {len(rows)} steps never ran: they count for 1 s each"
    return _made(request.spec.name, rows, (note,) if unknown else ())


def workflow_of_build(store: Store, build: str) -> Workflow:
    """Return the steps that ran in a recorded build, as long as they took there, at speed 1; its
    timeline alone is read. Raises InputError."""
    past = course(build, read_timeline(store.root, build))
    ran = {step.label: step for step in past.ran() if step.seconds}
    if not ran:
        raise InputError(f"build {build}: nothing ran in it", "bn timeline list")
    rows = [
        {
            "name": label,
            "seconds": step.seconds * float(step.placement.get("speed", 1.0)),
            "needs": [need for need in step.needs if need in ran],
            "cpus": step.processors,
            "memory": step.peak_memory,
            "target": step.artifact,
        }
        for label, step in ran.items()
    ]
    alone = sum(step.began is not None and not step.recipe for step in ran.values())
    note = "an earlier version of bn recorded it: what needs what is not known, so nothing does"
    return _made(f"build {build}", rows, (note,) if alone else ())


def _made(name: str, rows: list[dict[str, Any]], notes: tuple[str, ...]) -> Workflow:
    try:
        return workflow_of(name, rows, notes)
    except ValueError as error:
        raise InputError(f"{name}: {error}") from None
