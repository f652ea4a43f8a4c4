"""The course of a build: its timeline folded into what became of each step."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from attrs import define, field, frozen

CACHED: Final = "cached"
SUCCEEDED: Final = "succeeded"
SKIPPED: Final = "skipped"
RUNNING: Final = "running"
"""Of what was begun and has no end: bn was killed, or is at it."""
REFUSED: Final = "refused"
"""Of what failed before it began: what it takes of other steps' outputs was not there."""

GOOD: Final = (CACHED, SUCCEEDED)


@frozen(kw_only=True)
class Attempt:
    """One run of a step: on which node, when it began and ended (seconds since the build began),
    and how that went."""

    node: str
    began: float
    ended: float | None = None
    status: str = RUNNING
    reason: str = ""


@define(kw_only=True)
class Step:
    """What became of a step in a build.

    `status` is cached, skipped, running, refused, or how its last run ended. `needs` are the steps
    whose outputs it takes, as far as the timeline says (it does of steps that ran or were skipped).
    `why` is the reason for which it ran; `reason` what went wrong, or because of which step it was
    not tried. `began` and `ended` are in seconds since the build began.
    """

    label: str
    status: str = RUNNING
    action: str = ""
    recipe: str = ""
    outputs: str | None = None
    log: str | None = None
    needs: tuple[str, ...] = ()
    why: str = ""
    reason: str = ""
    exit_code: int = 0
    kept: str | None = None
    began: float | None = None
    ended: float | None = None
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory: int = 0
    node: str = ""
    placement: Mapping[str, Any] = field(factory=dict)
    attempts: list[Attempt] = field(factory=list)

    @property
    def processors(self) -> int:
        """How many processors it held, as far as its placement says."""
        held = self.placement.get("processors")
        return held if isinstance(held, int) and held > 0 else 1

    @property
    def failed(self) -> bool:
        """Whether it was tried, or looked at, in vain."""
        return self.status not in (*GOOD, SKIPPED, RUNNING)

    @property
    def artifact(self) -> str:
        """The artifact that it is a part of: its label without what tells the parts apart."""
        return self.label.partition("[")[0]


@define(kw_only=True)
class Course:
    """A build: what was asked for, the nodes' processors, and the steps in the order in which they
    were told of. `status` is empty where no end is known."""

    build: str
    spec: str = ""
    targets: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    sets: dict[str, str] = field(factory=dict)
    profile: str | None = None
    executor: str = ""
    spec_digest: str = ""
    began: float = 0.0
    status: str = ""
    seconds: float = 0.0
    makespan: Mapping[str, Any] = field(factory=dict)
    nodes: dict[str, int] = field(factory=dict)
    steps: dict[str, Step] = field(factory=dict)

    def failures(self) -> list[Step]:
        """Return the steps that failed, in the order in which they did."""
        return [step for step in self.steps.values() if step.failed]

    def ran(self) -> list[Step]:
        """Return the steps that ran to an end, good or bad, in the order of their beginning."""
        found = [s for s in self.steps.values() if s.began is not None and s.ended is not None]
        return sorted(found, key=lambda step: (step.began, step.label))

    def after(self, *labels: str) -> list[str]:
        """Return the steps that need one of these, also by way of others, in the order told."""
        found = set(labels)
        pending = list(labels)
        users = self.users()
        while pending:
            for other in users.get(pending.pop(), ()):
                if other not in found:
                    found.add(other)
                    pending.append(other)
        found.difference_update(labels)
        return [name for name in self.steps if name in found]

    def users(self) -> dict[str, list[str]]:
        """Return for each step those that need it."""
        found: dict[str, list[str]] = {}
        for step in self.steps.values():
            for need in step.needs:
                found.setdefault(need, []).append(step.label)
        return found


def course(build: str, events: Iterable[Mapping[str, Any]]) -> Course:
    """Return what the events of a build come to."""
    found = Course(build=build)
    for event in events:
        _take(found, event)
    for label in _refused(found):
        reason = "what it takes of other steps' outputs was not there"
        found.steps[label] = Step(label=label, status=REFUSED, reason=reason)
    return found


def _take(found: Course, event: Mapping[str, Any]) -> None:
    at = max(0.0, float(event.get("time", 0.0)) - found.began)
    match event:
        case {"event": "BuildStarted"}:
            _begin(found, event)
        case {"event": "NodeJoined", "node": str(node)}:
            found.nodes[node] = int(event.get("cpus") or 1)
        case {"event": "StepCached", "label": str(label)}:
            _cached(found, label, event.get("action"), event.get("outputs"), event.get("recipe"))
        case {"event": "StepsCached", "labels": list() | tuple() as labels}:
            columns = (event.get(name) or () for name in ("actions", "outputs", "recipes"))
            for label, *values in itertools.zip_longest(labels, *columns):
                _cached(found, label, *values)
        case {"event": "StepStarted", "label": str(label)}:
            _started(found, label, event, at)
        case {"event": "StepFinished", "label": str(label)}:
            _finished(found, label, event, at)
        case {"event": "StepRefused", "label": str(label)}:
            found.steps[label] = Step(
                label=label,
                status=REFUSED,
                recipe=str(event.get("recipe") or ""),
                needs=tuple(event.get("needs") or ()),
                reason=str(event.get("reason") or ""),
            )
        case {"event": "StepSkipped", "label": str(label)}:
            step = found.steps.setdefault(label, Step(label=label))
            step.status = SKIPPED
            step.reason = str(event.get("because") or "")
            step.needs = step.needs or tuple(event.get("needs") or ())
        case {"event": "BuildFinished"}:
            found.status = str(event.get("status") or "")
            found.seconds = float(event.get("seconds") or 0.0)
            found.makespan = event.get("makespan") or {}


def _cached(found: Course, label: str, *values: Any) -> None:
    action, outputs, recipe = values
    found.steps[label] = Step(
        label=label,
        status=CACHED,
        action=str(action or ""),
        recipe=str(recipe or ""),
        outputs=outputs,
    )


def _begin(found: Course, event: Mapping[str, Any]) -> None:
    found.began = float(event.get("time", 0.0))
    found.spec = str(event.get("spec") or "")
    found.targets = tuple(event.get("targets") or ())
    found.command = tuple(event.get("command") or ())
    found.sets = dict(event.get("sets") or {})
    found.profile = event.get("profile")
    found.executor = str(event.get("executor") or "")
    found.spec_digest = str(event.get("spec_digest") or "")


def _started(found: Course, label: str, event: Mapping[str, Any], at: float) -> None:
    placement = event.get("placement")
    placement = placement if isinstance(placement, dict) else {}
    step = found.steps.setdefault(label, Step(label=label))
    step.status = RUNNING
    step.action = str(event.get("action") or "")
    step.recipe = str(event.get("recipe") or "")
    step.needs = tuple(event.get("needs") or ())
    step.why = str(event.get("reason") or "")
    step.began, step.ended = at, None
    step.placement = placement
    step.node = str(placement.get("node") or "")
    step.attempts.append(Attempt(node=step.node, began=at))


def _finished(found: Course, label: str, event: Mapping[str, Any], at: float) -> None:
    step = found.steps.setdefault(label, Step(label=label))
    step.status = str(event.get("status") or "failed")
    step.action = str(event.get("action") or "")
    step.outputs, step.log = event.get("outputs"), event.get("log")
    step.reason = str(event.get("reason") or "")
    step.exit_code = int(event.get("exit_code") or 0)
    step.kept = event.get("kept")
    step.seconds = float(event.get("seconds") or 0.0)
    step.cpu_seconds = float(event.get("cpu_seconds") or 0.0)
    step.peak_memory = int(event.get("peak_memory") or 0)
    began = step.began if step.began is not None else max(0.0, at - step.seconds)
    step.began, step.ended = began, at
    step.attempts[-1:] = [
        Attempt(node=step.node, began=began, ended=at, status=step.status, reason=step.reason)
    ]


def _refused(found: Course) -> Iterator[str]:
    """Yield the steps because of which others that need them were skipped, and of which nothing
    else is told: timelines of earlier versions do not."""
    skipped = [step for step in found.steps.values() if step.status == SKIPPED]
    blamed = dict.fromkeys(step.reason for step in skipped if step.reason in step.needs)
    yield from (name for name in blamed if name not in found.steps)
