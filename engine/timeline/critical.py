"""The critical path of a build as it was, and what making steps faster would gain.

The path is found backwards from what ended last: what its beginning waited for is the step before
it, be it one whose outputs it takes, or one that held the processor. What a faster step gains is
found by running the build through again on paper (`engine.timeline.rehearsal`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from attrs import asdict, frozen

from engine.timeline.course import Course, Step
from engine.timeline.rehearsal import Rehearsal, rehearsal

NEED: Final = "its outputs"
ROOM: Final = "its processor"
BEGIN: Final = "the build's begin"

OTHERS: Final = 8
"""Steps beside the path of which is told what they would gain: the longest ones."""

EFFORT: Final = 200_000
"""Steps that are run through on paper: this divided by those of the build is of how many the gain
is found, at least `LEAST`."""
LEAST: Final = 3


@frozen(kw_only=True)
class Link:
    """A step of the path: when it began and how long it took (seconds), the share of the whole, for
    what of which step it had waited, and how long after that it began."""

    label: str
    status: str
    node: str
    began: float
    seconds: float
    share: float
    after: str
    waited_for: str
    gap: float


@frozen(kw_only=True)
class Gain:
    """What a step would gain for the whole, in seconds, if it took half the time, or none."""

    label: str
    seconds: float
    on_path: bool
    half: float
    zero: float


@frozen(kw_only=True)
class Critical:
    """The critical path of a build: `makespan` is how long it took until the last action ended,
    `rehearsed` the same on paper, `longest` the longest chain of needs: what it takes with any
    number of processors; `bound` and `ratio` as `engine.makespan` has them. In seconds."""

    build: str
    spec: str
    status: str
    makespan: float
    rehearsed: float
    longest: float
    bound: float | None
    ratio: float | None
    processors: int
    steps: int
    chain: tuple[Link, ...]
    gains: tuple[Gain, ...]

    @property
    def on_path(self) -> float:
        """The seconds that steps of the path took."""
        return sum(link.seconds for link in self.chain)

    def document(self) -> dict[str, Any]:
        """Return its JSON form: seconds, shares from 0 to 1."""
        return {
            "build": self.build,
            "spec": self.spec,
            "status": self.status,
            "makespan": round(self.makespan, 4),
            "rehearsed": round(self.rehearsed, 4),
            "longest_chain": round(self.longest, 4),
            "bound": self.bound,
            "ratio": self.ratio,
            "processors": self.processors,
            "steps": self.steps,
            "chain": [_rounded(asdict(link)) for link in self.chain],
            "gains": [_rounded(asdict(gain)) for gain in self.gains],
        }


def critical(course: Course) -> Critical:
    """Return the critical path of a build; an empty one where nothing ran."""
    ran = course.ran()
    makespan = max((step.ended or 0.0 for step in ran), default=0.0)
    chain = tuple(_chain(course, ran, makespan))
    paper = rehearsal(course)
    base = paper.makespan()
    known = course.makespan
    return Critical(
        build=course.build,
        spec=course.spec,
        status=course.status,
        makespan=makespan,
        rehearsed=base,
        longest=paper.longest(),
        bound=known.get("bound"),
        ratio=known.get("ratio"),
        processors=sum(paper.cpus.values()),
        steps=len(ran),
        chain=chain,
        gains=tuple(_gains(paper, base, {link.label for link in chain})),
    )


def _chain(course: Course, ran: Sequence[Step], makespan: float) -> list[Link]:
    by_label = {step.label: step for step in ran}
    found: list[Link] = []
    seen: set[str] = set()
    step = max(ran, key=lambda one: (one.ended or 0.0, one.label), default=None)
    while step is not None and step.label not in seen:
        seen.add(step.label)
        before, why = _before(step, by_label)
        began = step.began or 0.0
        seconds = max(0.0, (step.ended or 0.0) - began)
        found.append(
            Link(
                label=step.label,
                status=step.status,
                node=step.node,
                began=began,
                seconds=seconds,
                share=seconds / makespan if makespan else 0.0,
                after=before.label if before is not None else "",
                waited_for=why,
                gap=max(0.0, began - ((before.ended or 0.0) if before is not None else 0.0)),
            )
        )
        step = before
    return found[::-1]


def _before(step: Step, ran: dict[str, Step]) -> tuple[Step | None, str]:
    """Return the step that a step's beginning waited for, and for what of it."""
    began = step.began or 0.0
    holder = ran.get(str(step.placement.get("until", "")))
    if holder is not None and (holder.ended or 0.0) <= began and holder is not step:
        return holder, NEED if holder.label in step.needs else ROOM
    needs = [ran[need] for need in step.needs if need in ran and need != step.label]
    last = max(needs, key=lambda one: (one.ended or 0.0, one.label), default=None)
    return last, NEED if last is not None else BEGIN


def _gains(paper: Rehearsal, base: float, path: set[str]) -> list[Gain]:
    """Return what steps would gain, the most first."""
    count = max(LEAST, EFFORT // max(1, len(paper.labels)))
    longest = sorted(range(len(paper.labels)), key=lambda one: (-paper.seconds[one], one))
    on_path = [one for one in longest if paper.labels[one] in path]
    others = [one for one in longest if paper.labels[one] not in path]
    found: list[Gain] = []
    for number in [*on_path, *others[:OTHERS]][:count]:
        seconds = paper.seconds[number]
        half = _clamped(base - paper.makespan({number: seconds / 2}), seconds / 2)
        zero = _clamped(base - paper.makespan({number: 0.0}), seconds)
        found.append(
            Gain(
                label=paper.labels[number],
                seconds=seconds,
                on_path=paper.labels[number] in path,
                half=half,
                zero=max(half, zero),
            )
        )
    return sorted(found, key=lambda one: (-one.zero, -one.half, one.label))


def _clamped(gain: float, most: float) -> float:
    """Return a gain as it can be relied on: a faster step can let others come in a worse order, or
    by luck in a better one."""
    return min(most, max(0.0, gain))


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {key: round(v, 4) if isinstance(v, float) else v for key, v in values.items()}
