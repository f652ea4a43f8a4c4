"""Two builds compared: what was asked for, what ran in one and not in the other, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from attrs import field, frozen

from engine.explain import Change, differences
from store.cas import Cas
from store.digest import Digest
from store.errors import BnError
from store.objects import Action

ASKED: Final = ("bn", "command", "spec", "spec_digest", "sets", "profile", "executor", "targets")
"""What of a build's begin is compared."""


@frozen(kw_only=True)
class Step:
    """What became of a step in a build: `ended` is cached, skipped, or how its action ended."""

    ended: str
    action: str = ""
    outputs: str | None = None
    seconds: float = 0.0
    node: str = ""


@frozen(kw_only=True)
class Differing:
    """A step that is not in both builds what it is in one; `changes` are of its action, None where
    one of the two is no longer in the store."""

    label: str
    before: Step | None
    after: Step | None
    changes: tuple[Change, ...] | None = ()

    @property
    def other_action(self) -> bool:
        """Whether it was another action."""
        pair = self.before, self.after
        return None not in pair and len({one.action for one in pair if one and one.action}) == 2


@frozen(kw_only=True)
class Compared:
    """Two builds: what differs of what was asked for (name, before, after), of the nodes, and of
    the steps; how many steps are the same in both; seconds."""

    asked: tuple[tuple[str, Any, Any], ...]
    nodes: tuple[tuple[str, Any, Any], ...]
    steps: tuple[Differing, ...]
    same: int
    seconds: tuple[float, float]


@frozen
class _Build:
    asked: dict[str, Any] = field(factory=dict)
    nodes: dict[str, Any] = field(factory=dict)
    steps: dict[str, Step] = field(factory=dict)
    seconds: list[float] = field(factory=list)


def compare(
    cas: Cas, before: Iterable[Mapping[str, Any]], after: Iterable[Mapping[str, Any]]
) -> Compared:
    """Compare the timelines of two builds."""
    a, b = _folded(before), _folded(after)
    labels = list(dict.fromkeys([*a.steps, *b.steps]))
    different = [label for label in labels if not _same(a.steps.get(label), b.steps.get(label))]
    return Compared(
        asked=tuple(_shifts(a.asked, b.asked)),
        nodes=tuple(_shifts(a.nodes, b.nodes)),
        steps=tuple(_differing(cas, name, a, b) for name in different),
        same=len(labels) - len(different),
        seconds=(sum(a.seconds), sum(b.seconds)),
    )


def _folded(events: Iterable[Mapping[str, Any]]) -> _Build:
    found = _Build()
    nodes: dict[str, str] = {}
    for event in events:
        match event:
            case {"event": "BuildStarted"}:
                found.asked.update({name: event.get(name) for name in ASKED})
            case {"event": "NodeJoined", "node": node}:
                kept = {key: v for key, v in event.items() if key not in ("event", "time", "node")}
                found.nodes[node] = kept
            case {"event": "StepCached", "label": label}:
                found.steps[label] = Step(
                    ended="cached", action=event["action"], outputs=event["outputs"]
                )
            case {"event": "StepRefused", "label": label}:
                found.steps[label] = Step(ended="failed")
            case {"event": "StepSkipped", "label": label}:
                found.steps[label] = Step(ended="skipped")
            case {"event": "StepStarted", "label": label, "placement": {"node": node}}:
                nodes[label] = node
            case {"event": "StepFinished", "label": label}:
                found.steps[label] = Step(
                    ended=event["status"],
                    action=event["action"],
                    outputs=event["outputs"],
                    seconds=event["seconds"],
                    node=nodes.get(label, ""),
                )
            case {"event": "BuildFinished", "seconds": seconds}:
                found.seconds.append(seconds)
    return found


def _same(before: Step | None, after: Step | None) -> bool:
    if before is None or after is None:
        return before is after
    return (before.action, before.outputs) == (after.action, after.outputs)


def _differing(cas: Cas, label: str, a: _Build, b: _Build) -> Differing:
    one = Differing(label=label, before=a.steps.get(label), after=b.steps.get(label))
    if not one.other_action:
        return one
    assert one.before is not None
    assert one.after is not None
    try:
        old, new = (_action(cas, step.action) for step in (one.before, one.after))
        changes: tuple[Change, ...] | None = tuple(differences(cas, old, new))
    except BnError:
        changes = None
    return Differing(label=label, before=one.before, after=one.after, changes=changes)


def _action(cas: Cas, digest: str) -> Action:
    return Action.decode(cas.get_bytes(Digest(digest)))


def _shifts(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in dict.fromkeys([*before, *after]):
        if before.get(name) != after.get(name):
            yield name, before.get(name), after.get(name)
