"""The autopsy of a build: why steps failed, how likely each cause is, and what that stopped.

A fold over the build's timeline, those of earlier builds of the spec, and the logs and actions that
they name.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from attrs import asdict, frozen

from engine.explain import Change
from engine.timeline.causes import DIVERGED, Cause, Causes, documents, roots
from engine.timeline.course import REFUSED, SKIPPED, Attempt, Course, Step
from engine.timeline.decisive import Line, decisive
from engine.timeline.likeness import Candidate, shared, weighed
from engine.timeline.recorded import Recorded, Was
from engine.units import show_duration

MOST: Final = 20
"""Failed steps that are looked into; the others are counted."""

COMPARED: Final = 40
"""Steps that passed, of which is asked whether they have the same changes."""


LOST: Final = "lost"
"""The status of what its node took along, each time that it was tried."""

TIME_OUT: Final = r"longer than|timed out"


@frozen(kw_only=True)
class Evidence:
    """What an autopsy asks of the store and the disk, beside timelines.

    `causes` tells what changed in steps from one build (its second argument) to another, `log`
    gives the text behind a digest, `inputs` the paths of an action's inputs, `lies_at` where on
    disk something lies that an action misses, `tool` whether one of its tools has a program or
    library of that name.
    """

    recorded: Recorded
    causes: Callable[[str, str], Causes]
    log: Callable[[str], str]
    inputs: Callable[[str], frozenset[str]]
    lies_at: Callable[[str], tuple[str, ...]]
    has_tool: Callable[[str, str], bool]


@frozen(kw_only=True)
class Failure:
    """A step that failed: how, with what it used (seconds, bytes), what was tried where, what its
    log says, what changed since it passed last (None: not known), the candidates for the root cause
    (the likeliest first), hints, and the steps that need it and were not tried for that."""

    label: str
    status: str
    reason: str
    exit_code: int
    why: str
    action: str
    log: str | None
    kept: str | None
    seconds: float
    cpu_seconds: float
    peak_memory: int
    attempts: tuple[Attempt, ...]
    lines: tuple[Line, ...]
    passed: Was | None
    causes: tuple[Cause, ...] | None
    candidates: tuple[Candidate, ...]
    hints: tuple[str, ...]
    stopped: tuple[str, ...]
    reproduce: str

    def document(self) -> dict[str, Any]:
        """Return it as plain values."""
        plain = {
            name: getattr(self, name)
            for name in (
                *("label", "status", "reason", "exit_code", "why", "action", "log", "kept"),
                *("seconds", "cpu_seconds", "peak_memory", "reproduce"),
            )
        }
        return {
            **plain,
            "attempts": [asdict(one) for one in self.attempts],
            "decisive": [asdict(line) for line in self.lines],
            "passed_in": self.passed.build if self.passed is not None else None,
            "changes": None if self.causes is None else documents(self.causes),
            "candidates": [_document(one) for one in self.candidates],
            "hints": list(self.hints),
            "stopped": list(self.stopped),
        }


@frozen(kw_only=True)
class Root:
    """A change that may be behind failures: its likeness, as the mean over all that were looked
    into, and the steps that it may have made fail."""

    change: Change
    likeness: float
    failed: tuple[str, ...]


@frozen(kw_only=True)
class Autopsy:
    """What is found: how the build ended, its failures (`others` were not looked into), the changes
    behind them, targets that were not reached, steps that were not tried though nothing that they
    need failed, and those that were running when it ended."""

    build: str
    spec: str
    status: str
    seconds: float
    command: tuple[str, ...]
    failures: tuple[Failure, ...]
    others: tuple[str, ...]
    roots: tuple[Root, ...]
    unreached: tuple[str, ...]
    untried: tuple[str, ...]
    running: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Return its JSON form."""
        return {
            "build": self.build,
            "spec": self.spec,
            "status": self.status,
            "seconds": round(self.seconds, 4),
            "command": list(self.command),
            "roots": [
                {
                    "change": asdict(root.change),
                    "likeness": root.likeness,
                    "failed": list(root.failed),
                }
                for root in self.roots
            ],
            "failures": [failure.document() for failure in self.failures],
            "others": list(self.others),
            "unreached": list(self.unreached),
            "untried": list(self.untried),
            "running": list(self.running),
        }


def autopsy(course: Course, evidence: Evidence, most: int = MOST) -> Autopsy:
    """Return what can be found out about why a build failed."""
    failed = course.failures()
    failures = tuple(_failure(course, step, evidence) for step in failed[:most])
    reached = set(course.after(*(step.label for step in failed)))
    skipped = [step.label for step in course.steps.values() if step.status == SKIPPED]
    good = {label for label, step in course.steps.items() if step.outputs is not None}
    running = tuple(
        step.label
        for step in course.steps.values()
        if step.began is not None and step.ended is None
    )
    return Autopsy(
        build=course.build,
        spec=course.spec,
        status=course.status or "no end is known",
        seconds=course.seconds,
        command=course.command,
        failures=failures,
        others=tuple(step.label for step in failed[most:]),
        roots=tuple(_roots(failures)),
        unreached=tuple(one for one in course.targets if one not in good),
        untried=tuple(one for one in skipped if one not in reached and one not in running),
        running=running,
    )


def _failure(course: Course, step: Step, evidence: Evidence) -> Failure:
    text = evidence.log(step.log) if step.log else ""
    lines = tuple(decisive(text))
    passed = evidence.recorded.passed_before(step.label, course.build)
    causes: tuple[Cause, ...] | None = None
    tracer: Causes | None = None
    if passed is not None and step.action:
        tracer = evidence.causes(course.build, passed.build)
        causes = tracer.of(step.label) if passed.action != step.action else ()
    hints: list[str] = []
    candidates = [
        *_by_status(step, evidence.recorded, passed),
        *_by_changes(course, step, causes or (), lines, tracer),
        *_by_log(step, passed, lines, evidence, hints),
    ]
    return Failure(
        label=step.label,
        status=step.status,
        reason=step.reason,
        exit_code=step.exit_code,
        why=step.why,
        action=step.action,
        log=step.log,
        kept=step.kept,
        seconds=round(step.seconds, 4),
        cpu_seconds=round(step.cpu_seconds, 4),
        peak_memory=step.peak_memory,
        attempts=tuple(step.attempts),
        lines=lines,
        passed=passed,
        causes=causes,
        candidates=shared(candidates),
        hints=tuple(hints),
        stopped=tuple(
            label for label in course.after(step.label) if course.steps[label].status == SKIPPED
        ),
        reproduce="" if not step.action else _reproduce(course, step),
    )


def _reproduce(course: Course, step: Step) -> str:
    return shlex.join(["bn", "shell", "--build", course.build, step.label, "--run"])


def _by_status(step: Step, recorded: Recorded, passed: Was | None) -> Iterator[Candidate]:
    """Yield what the way in which a step ended says."""
    before = _seconds_when(recorded, passed)
    if step.status == LOST:
        yield _plain("node", step.node, f"was lost: {step.reason}", 3.0)
    elif step.status == "killed" and re.search(TIME_OUT, step.reason):
        took = f"; it took {show_duration(before)} when it passed last" if before else ""
        yield _plain("time limit", "", f"reached: it {step.reason}{took}", 2.5)
    elif "memory" in step.reason and step.status == "killed":
        yield _plain("memory limit", "", f"reached: it {step.reason}", 2.5)
    elif step.status == "bad outputs":
        yield _plain("outputs", "", f"are not as declared: {step.reason}", 2.0)
    elif step.status == REFUSED:
        yield _plain("inputs", "", f"cannot be taken: {step.reason}", 2.0)
    if passed is not None and passed.action == step.action:
        text = f"the same action passed in build {passed.build}: time, load or chance decided"
        yield _plain("chance", "", text, 3.0)


def _seconds_when(recorded: Recorded, passed: Was | None) -> float:
    """Return how long a step took when it last ran and passed, 0 where that is not recorded."""
    if passed is None:
        return 0.0
    for build in recorded.until(passed.build):
        step = recorded.course(build).steps.get(passed.label)
        if step is not None and step.seconds and step.outputs is not None:
            return step.seconds
    return 0.0


def _by_changes(
    course: Course,
    step: Step,
    causes: Iterable[Cause],
    lines: Iterable[Line],
    tracer: Causes | None,
) -> Iterator[Candidate]:
    """Yield the roots of what changed since a step passed."""
    found = roots(causes)
    passing = _passing(course, step, tracer) if tracer is not None and found else {}
    grouped: dict[tuple[object, ...], list[tuple[tuple[str, ...], Change]]] = {}
    for between, change in found:
        key = ("tool",) if change.kind == "tool" else (change,)
        grouped.setdefault(key, []).append((between, change))
    for group in grouped.values():
        between, change = min(group, key=lambda one: (len(one[0]), str(one[1])))
        if change.kind == "tool" and len(group) > 1:
            change = Change("tool", change.name, f"{change.detail} and {len(group) - 1} more")
        if change == DIVERGED and between:
            change = Change(DIVERGED.kind, between[-1], DIVERGED.detail)
        others = passing.get(change, set()) - {*between}
        yield weighed(change, between, lines, len(others))


def _passing(course: Course, failed: Step, tracer: Causes) -> dict[Change, set[str]]:
    """Return the steps of the same build that passed in spite of the same change."""
    found: dict[Change, set[str]] = {}
    ran = [step for step in course.ran() if step.outputs is not None and step is not failed]
    for step in ran[:COMPARED]:
        for _, change in roots(tracer.of(step.label) or ()):
            found.setdefault(change, set()).add(step.label)
    return found


def _by_log(
    step: Step,
    passed: Was | None,
    lines: Iterable[Line],
    evidence: Evidence,
    hints: list[str],
) -> Iterator[Candidate]:
    """Yield what only the log says: what is not there, and for a step that never passed the files
    that are named."""
    inputs = evidence.inputs(step.action) if step.action else frozenset()
    weight, named = 2.0, 0
    for line in lines:
        if line.missing is not None and not _is_input(line.missing, inputs):
            yield from _missing(step, line, inputs, evidence, hints)
        path = next((one for one in inputs if line.file and _ends(one, line.file)), None)
        if passed is None and path is not None:
            at = f" at line {line.line}" if line.line else ""
            yield _plain("file", path, f"is what the log points to{at}; it never passed", weight)
            weight, named = weight / 1.5, named + 1
    if passed is None and not named and step.status != REFUSED:
        weight = 1.0 if lines and step.status == "failed" else 0.3
        yield _plain("action", step.label, "never passed before, as far as is recorded", weight)


def _missing(
    step: Step, line: Line, inputs: frozenset[str], evidence: Evidence, hints: list[str]
) -> Iterator[Candidate]:
    name = line.missing or ""
    places = evidence.lies_at(name)
    if places and not name.startswith("-l"):
        where = places[0]
        detail = f"is not in the sandbox, though it lies at {where}: it is no input"
        hints.append(f"add {where} to the inputs of {step.artifact}")
        yield _plain("missing", name, detail, 6.0)
    elif not evidence.has_tool(step.action, name):
        what = "library" if name.startswith("-l") else "file or program"
        detail = f"is neither an input nor in a tool: {what} not found"
        yield _plain("missing", name, detail, 3.0)
        if line.kind in ("shell", "linker", "python", "node"):
            hints.append(f"give {step.artifact} a toolchain that has {name}")


def _is_input(name: str, inputs: frozenset[str]) -> bool:
    return name.removeprefix("/build/").removeprefix("./") in inputs


def _ends(path: str, said: str) -> bool:
    said = said.removeprefix("/build/").removeprefix("./")
    return path == said or path.endswith(f"/{said}")


def _plain(kind: str, name: str, detail: str, weight: float) -> Candidate:
    return Candidate(change=Change(kind, name, detail), weight=weight)


def _roots(failures: Iterable[Failure]) -> list[Root]:
    """Return the changes behind failures, the likeliest over all first."""
    found: dict[Change, tuple[float, tuple[str, ...]]] = {}
    count = 0
    for failure in failures:
        count += 1
        for one in failure.candidates:
            likeness, labels = found.get(one.change, (0.0, ()))
            found[one.change] = likeness + one.likeness, (*labels, failure.label)
    made = [
        Root(change=change, likeness=round(likeness / count, 3), failed=labels)
        for change, (likeness, labels) in found.items()
    ]
    return sorted(made, key=lambda root: (-root.likeness, str(root.change)))


def _document(one: Candidate) -> dict[str, Any]:
    return {
        "change": asdict(one.change),
        "between": list(one.between),
        "likeness": one.likeness,
        "because": list(one.because),
    }
