"""Work from the past: a spec's steps as long as they took last, a build as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.history import History
from engine.session import Request, evaluated, labels_of, targets_of
from engine.simulation.workflows import Workflow, workflow_of
from engine.timeline.log import builds, read_timeline
from store.errors import BnError, InputError
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
    """Return the steps that ran in a recorded build, as long as they took there, at speed 1. What
    needs what is read from the spec as it is now. Raises InputError."""
    events = list(read_timeline(store.root, build))
    if not events:
        known = builds(store.root)
        hint = f"the last one is {known[0]}" if known else "none is recorded yet"
        raise InputError(f"build {build}: not recorded", hint)
    begun = next((one for one in events if one.get("event") == "BuildStarted"), {})
    seconds = {
        one["label"]: one for one in events if one.get("event") == "StepFinished" and one["seconds"]
    }
    speeds = {one["label"]: _speed(one) for one in events if one.get("event") == "StepStarted"}
    if not seconds:
        raise InputError(f"build {build}: nothing ran in it")
    spec, targets = Path(str(begun.get("spec", ""))), tuple(begun.get("targets", ()))
    try:
        graph = evaluated(store, Request(spec=spec)).graph
    except BnError as error:
        raise InputError(
            f"build {build}: what needs what is not known: {error}",
            f"the spec was {spec}",
        ) from error
    known_labels = set(graph.recipes)
    gone = [label for label in seconds if label not in known_labels]
    owner: dict[str, str] = {}
    for target in targets:
        if target in graph.artifacts or target in known_labels:
            for label in graph.order(labels_of(graph, (target,))):
                owner.setdefault(label, target)
    rows = [
        {
            "name": label,
            "seconds": float(one["seconds"]) * speeds.get(label, 1.0),
            "needs": _through(graph, label, seconds) if label in known_labels else (),
            "cpus": graph.recipes[label].resources.cpus if label in known_labels else 1,
            "memory": int(one.get("peak_memory") or 0),
            "target": owner.get(label, ""),
        }
        for label, one in seconds.items()
    ]
    note = f"{len(gone)} steps are no longer in the spec: they count as needing nothing"
    return _made(f"build {build}", rows, (note,) if gone else ())


def _speed(started: dict[str, Any]) -> float:
    """Return the speed of the node where a step ran, 1 where it was not measured."""
    placement = started.get("placement")
    return float(placement.get("speed", 1.0)) if isinstance(placement, dict) else 1.0


def _through(graph: Any, label: str, kept: dict[str, Any]) -> list[str]:
    """Return the kept steps that a step needs, also by way of others that were cached."""
    found: dict[str, None] = {}
    pending, seen = list(graph.needs_of(label)), set()
    while pending:
        need = pending.pop()
        if need in seen:
            continue
        seen.add(need)
        if need in kept:
            found[need] = None
        else:
            pending.extend(graph.needs_of(need))
    return list(found)


def _made(name: str, rows: list[dict[str, Any]], notes: tuple[str, ...]) -> Workflow:
    try:
        return workflow_of(name, rows, notes)
    except ValueError as error:
        raise InputError(f"{name}: {error}") from None
