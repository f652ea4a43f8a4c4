"""Why steps ran where and when they did: a fold over a build's timeline, and its words."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.placement.model import Explanation, Factor
from engine.timeline.log import builds, read_timeline
from engine.units import show_duration, show_size
from store.records import frozen


@frozen(kw_only=True)
class Placed:
    """What became of a step in a build: `status` is running, skipped, cached, or how its action
    ended. `reason` is why it ran, or because of which step it did not; `began` is in seconds since
    the build began; `placement` is what the event of its start says."""

    build: str
    status: str
    reason: str = ""
    began: float | None = None
    seconds: float | None = None
    placement: Mapping[str, Any] | None = None

    @property
    def ran(self) -> bool:
        """Whether it was started."""
        return self.placement is not None


def placed(root: Path, build: str, labels: Collection[str]) -> dict[str, Placed]:
    """Return what became of some steps in a build recorded in the store at `root`."""
    found: dict[str, Placed] = {}
    start = 0.0
    for event in read_timeline(root, build):
        label = str(event.get("label"))
        match event:
            case {"event": "BuildStarted", "time": time}:
                start = time
            case {"event": "StepStarted", "time": time, "reason": reason, "placement": why} if (
                label in labels
            ):
                found[label] = Placed(
                    build=build,
                    status="running",
                    reason=reason,
                    began=round(time - start, 3),
                    placement=why if isinstance(why, dict) else {"reason": why},
                )
            case {"event": "StepFinished", "status": status, "seconds": seconds} if label in found:
                one = found[label]
                found[label] = Placed(
                    build=build,
                    status=status,
                    reason=one.reason,
                    began=one.began,
                    seconds=round(seconds, 3),
                    placement=one.placement,
                )
            case {"event": "StepCached"} if label in labels:
                found.setdefault(label, Placed(build=build, status="cached"))
            case {"event": "StepSkipped", "because": because} if label in labels:
                found.setdefault(label, Placed(build=build, status="skipped", reason=because))
    return found


def last_placed(
    root: Path, spec: Path, labels: Collection[str]
) -> dict[str, tuple[Placed, Placed | None]]:
    """Return of each step what became of it in the last build that looked at it, and in the last
    one that ran it, as far as that is recorded."""
    last: dict[str, Placed] = {}
    ran: dict[str, Placed] = {}
    for build in builds(root):
        if len(ran) == len(labels):
            break
        first = next(read_timeline(root, build), {})
        if first.get("spec") != str(spec):
            continue
        for label, one in placed(root, build, labels).items():
            last.setdefault(label, one)
            if one.ran:
                ran.setdefault(label, one)
    return {label: (one, ran.get(label)) for label, one in last.items()}


def in_words(why: Mapping[str, Any]) -> Iterator[str]:
    """Yield a placement in parts: the node and the reason, what it waited for, what it holds, and
    where there was a choice, what counted."""
    node = why.get("node")
    reason = why.get("reason", "")
    yield f"on {node}: {reason}" if node else reason
    until = f", until {why['until']} ended" if why.get("until") else ""
    if "waited" in why:
        text = f"waited {show_duration(why['waited'])} for {why.get('for', 'its turn')}"
        yield until.join(_apart(why.get("wait", text)))
    if "processors" in why:
        yield f"holds {why['processors']} processors"
    if "memory" in why:
        learned = ", as it took when it ran last" if why.get("learned") else ""
        yield f"holds {show_size(why['memory'])} of memory{learned}"
    if "cpus" in why:
        yield f"pinned to {_listed(why['cpus'])}"
    if "heat" in why:
        yield str(why["heat"])
    yield from why.get("hot", ())
    if "failures" in why:
        yield f"recent failures there: {why['failures']:g}"
    if "strategy" in why:
        yield _chosen(why)


def _apart(text: str) -> tuple[str, str]:
    """Return what was waited for, and why, with the comma that stands between."""
    what, because, reason = text.partition(" because ")
    return what, f",{because}{reason}" if because else ""


def _chosen(why: Mapping[str, Any]) -> str:
    factors = tuple(
        Factor(name=name, value=value, weight=weight, note=note[0] if note else "")
        for name, value, weight, *note in why.get("factors", ())
    )
    explanation = Explanation(
        reason=f"by {why['strategy']}" + ("" if factors else f": {why.get('score', 0.0):.3f}"),
        score=why.get("score", 0.0),
        factors=factors,
        runners_up=tuple((name, score) for name, score in why.get("then", ())),
    )
    return str(explanation)


def _listed(cpus: Collection[int]) -> str:
    """Return processors as Linux lists them, as `0-3,8`."""
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and runs[-1][1] == cpu - 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    text = ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
    return f"processor{'s' if len(cpus) > 1 else ''} {text}"
