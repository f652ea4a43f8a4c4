"""Events in words, one line each, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.timeline.deciding import deciding
from engine.units import show_duration, show_size


def in_words(event: Mapping[str, Any]) -> str:
    """Return what an event says; of one that this version does not know, its values."""
    match event:
        case {"event": "BuildStarted"}:
            command = " ".join(event.get("command") or ())
            asked = f" (bn {command})" if command else ""
            return (
                f"build of {event['spec']}: {event['steps']} steps, {event['cached']} cached{asked}"
            )
        case {"event": "NodeJoined", "node": node}:
            speed = event.get("speed")
            measured = f"{speed:.2f} BPU" if speed else "not measured"
            memory = show_size(event["memory"])
            return f"node {node}: {event['cpus']} processors ({measured}), {memory}"
        case {"event": "StepCached", "label": label, "outputs": outputs}:
            return f"cached {label} → {outputs}"
        case {"event": "StepStarted", "label": label, "reason": reason}:
            why = event.get("placement")
            node = why.get("node") if isinstance(why, dict) else None
            return f"start  {label}{f' on {node}' if node else ''}: {reason}"
        case {"event": "StepFinished", "label": label}:
            return _finished(label, event)
        case {"event": "StepRefused", "label": label, "reason": reason}:
            return f"failed {label} before it began: {reason}"
        case {"event": "StepSkipped", "label": label, "because": because}:
            return f"skip   {label}: {because}"
        case {"event": "BuildFinished", "status": status, "seconds": seconds}:
            counts = ", ".join(f"{n} {name}" for name, n in event["counts"].items() if n)
            return f"{status} after {show_duration(seconds)}: {counts}"
    told = deciding(event)
    if told is not None:
        return told
    known = ("event", "time")
    values = ", ".join(f"{key} {value}" for key, value in event.items() if key not in known)
    return f"{event.get('event')}: {values}"


def _finished(label: str, event: Mapping[str, Any]) -> str:
    took = show_duration(event["seconds"])
    used = f"{show_duration(event['cpu_seconds'])} of a processor"
    used += f", {show_size(event['peak_memory'])}"
    if event["outputs"] is None:
        return f"failed {label} after {took}: {event['reason']} ({used})"
    return f"built  {label} in {took} ({used}) → {event['outputs']}"
