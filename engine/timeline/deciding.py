"""Events of decisions in words: what they went by, and what came of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from engine.units import show_duration, show_size

SHOWN: Final = 3
"""Steps that one line names."""


def deciding(event: Mapping[str, Any]) -> str | None:
    """Return what an event says of how decisions were made, None where it is not about that."""
    match event:
        case {"event": "NodeLeft", "node": node}:
            return f"node {node} dropped out"
        case {"event": "NodeReturned", "node": node}:
            return f"node {node} is back"
        case {"event": "NodesWarm", "celsius": {**celsius}}:
            known = [f"{node} {one:.0f} °C" for node, one in celsius.items() if one is not None]
            return f"warmth {', '.join(known) or 'is not known'}"
        case {"event": "PolicyChosen"}:
            return _policy(event)
        case {"event": "WorkKnown", "labels": labels, "seconds": seconds}:
            return f"work   {_some(labels)}: {show_duration(sum(seconds))} at speed 1"
        case {"event": "TurnsTaken", "told": told}:
            return _turns(told)
        case {"event": "TurnMoved", "label": label, "node": node}:
            return f"moved  {label} to {node}, by hand"
        case {"event": "Interrupted", "signal": signal}:
            return f"interrupted by {signal}"
        case {"event": "BlobsMoved", "target": target, "why": why, "blobs": blobs}:
            if event.get("source"):
                size = show_size(event["bytes"])
                return f"{blobs} blobs ({size}) from {event['source']} to {target}: {why}"
            return f"{blobs} blobs copied to {target}: {why}"
    return None


def _policy(event: Mapping[str, Any]) -> str:
    policy = event.get("policy")
    if not policy:
        return "policy: one node, the longest chain first"
    parts = [f"strategy {policy['strategy']}"]
    if policy["strategy"] == "smart":
        parts.append(", ".join(f"{name} {one:g}" for name, one in policy["weights"].items()))
    if policy.get("max_wait") is not None:
        parts.append(f"waits for {show_duration(policy['max_wait'])} at most")
    if policy.get("heat", 1.0) != 1.0:
        parts.append(f"heat counts to the power of {policy['heat']:g}")
    if event.get("isolated"):
        parts.append("nodes divided among targets")
    return f"policy: {'; '.join(parts)}"


_TOLD: Final = {
    "wait": "waiting now",
    "end": "ended",
    "drop": "need not run",
    "lost": "lost with their node",
    "gone": "never need a turn",
}


def _turns(told: Sequence[Sequence[Any]]) -> str:
    """Return in words what decisions went by, and what they were."""
    found: dict[str, list[str]] = {}
    blamed: list[str] = []
    taken: list[str] = []
    for kind, *row in map(tuple, told):
        if kind == "take":
            taken += [f"{label} on {node}" for label, node, *_ in (row[1] if row[1:] else ())]
            continue
        label = row[0] if kind == "gone" else row[1]
        found.setdefault(_TOLD.get(kind, kind), []).append(label)
        if kind == "end" and row[2:] and row[2]:
            blamed.append(f"{label} counts as {row[2]:g} of a failure of its node")
    parts = [f"{what}: {_some(labels)}" for what, labels in found.items()]
    return f"turns  {'; '.join([*parts, *blamed])} → {_some(taken) if taken else 'none'}"


def _some(names: Sequence[str]) -> str:
    few = ", ".join(names[:SHOWN])
    return few if len(names) <= SHOWN else f"{few} and {len(names) - SHOWN} more"
