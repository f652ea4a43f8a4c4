"""Past steps of a spec, found by the name that a user gives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attrs import evolve, frozen

from engine.cli.options import split_spec
from engine.history import History, Past
from engine.spec.faults import nearest, shown
from engine.timeline.log import builds, read_timeline
from store.digest import Digest
from store.errors import InputError
from store.objects import Action
from store.store import Store


@frozen
class PastStep:
    """A step that was looked at in some build of a spec, and its history (the newest first)."""

    spec: Path
    label: str
    history: tuple[Past, ...]


def past_steps(store: Store, names: Sequence[str], what: str) -> list[PastStep]:
    """Return the past steps that `[SPEC] ARTIFACT` names: one, or all those of a foreach.

    Raises InputError where no build of that spec knows such a step.
    """
    spec, targets = split_spec(names)
    path = spec.absolute()
    if len(targets) != 1:
        raise InputError(f"name one artifact: bn {what} [SPEC] ARTIFACT")
    history = History(store, path)
    labels = known_labels(store, path)
    wanted = targets[0]
    found = [name for name in labels if name == wanted or name.startswith(f"{wanted}[")]
    steps = [PastStep(path, name, _pasts(history.of(name), *labels[name])) for name in found]
    steps = [step for step in steps if step.history]
    if not steps:
        message = f"{shown(path)}: no build of {wanted!r} is known"
        if found:
            raise InputError(message, "what it needs was never built: bn build says why")
        artifacts = {label.partition("[")[0] for label in labels} | set(labels)
        hint = nearest(wanted, artifacts, "built artifacts") if artifacts else ""
        raise InputError(message, hint or ("bn build first" if path.exists() else "no such file"))
    return steps


def known_labels(store: Store, spec: Path) -> dict[str, tuple[str, str | None]]:
    """Return the labels of all steps in the recorded builds of a spec, each with the last of these
    builds and, if it was found cached there, its action."""
    labels: dict[str, tuple[str, str | None]] = {}
    for build in builds(store.root):
        events = read_timeline(store.root, build)
        started = next(events, None)
        if started is None or started.get("spec") != str(spec):
            continue
        for event in events:
            label = event.get("label")
            if label is not None and labels.get(label, (build,))[0] == build:
                cached = event["event"] == "StepCached"
                labels[label] = (build, event["action"] if cached else None)
    return labels


def fetched_in(store: Store, spec: Path, label: str) -> str | None:
    """Return the last recorded build of a spec that fetched a step's result from a remote cache."""
    for build in builds(store.root):
        events = read_timeline(store.root, build)
        started = next(events, None)
        if started is not None and started.get("spec") == str(spec):
            for event in events:
                if event.get("event") == "RemoteFound" and label in event["labels"]:
                    return build
    return None


def _pasts(noted: Sequence[Past], build: str, cached: str | None) -> tuple[Past, ...]:
    """Return the noted pasts, with the last build in front where it found the step cached: that is
    only in its timeline."""
    if cached is None:
        return tuple(noted)
    known = next(
        (past for past in noted if past.action == cached), Past(action=Digest(cached), build=build)
    )
    others = (past for past in noted if past.action != cached)
    return (evolve(known, build=build, ran=False, failed=False), *others)


def last_failed(store: Store, spec: Path) -> tuple[str, Action]:
    """Return the label and the action of the step that failed last in a build of `spec`.

    Raises InputError where none did.
    """
    for build in builds(store.root):
        events = list(read_timeline(store.root, build))
        if not events or events[0].get("spec") != str(spec):
            continue
        for event in reversed(events):
            if event["event"] == "StepFinished" and event["outputs"] is None:
                data = store.cas.get_bytes(Digest(event["action"]))
                return event["label"], Action.decode(data)
    raise InputError(f"{shown(spec)}: no build of it is known to have failed", "name an artifact")
