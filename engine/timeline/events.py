"""Events of a build, in the order in which they happen; all that is shown is a fold of them."""

from __future__ import annotations

from typing import Any, TypeAlias

from store.records import field_names, frozen


@frozen(kw_only=True)
class BuildStarted:
    """A build began: `steps` are planned, `cached` of them need nothing."""

    build: str
    spec: str
    targets: tuple[str, ...]
    steps: int
    cached: int


@frozen(kw_only=True)
class StepCached:
    """A step's outputs were there already."""

    label: str
    action: str
    outputs: str


@frozen(kw_only=True)
class StepStarted:
    """A step runs now; `placement` says where and why there."""

    label: str
    action: str
    reason: str
    placement: str


@frozen(kw_only=True)
class StepFinished:
    """A step ran; `status` is succeeded, failed, killed or bad outputs."""

    label: str
    action: str
    status: str
    exit_code: int
    reason: str
    log: str
    outputs: str | None
    kept: str | None
    seconds: float
    cpu_seconds: float
    peak_memory: int


@frozen(kw_only=True)
class StepSkipped:
    """A step was not tried, or not to its end, because `because` (another step) did not succeed or
    the build was interrupted."""

    label: str
    because: str


@frozen(kw_only=True)
class TierDropped:
    """A tier of the store can no longer be used as before; the build goes on with the others."""

    tier: str
    state: str
    reason: str


@frozen(kw_only=True)
class BlobsPromoted:
    """Blobs that a step needs soon were brought from slower tiers to the fastest one."""

    label: str
    blobs: int
    bytes: int


@frozen(kw_only=True)
class BuildFinished:
    """A build ended; counts of steps by how they ended, and its duration in seconds."""

    build: str
    status: str
    counts: dict[str, int]
    seconds: float


Event: TypeAlias = (
    BuildStarted
    | StepCached
    | StepStarted
    | StepFinished
    | StepSkipped
    | TierDropped
    | BlobsPromoted
    | BuildFinished
)


def to_document(event: Event, time: float) -> dict[str, Any]:
    """Return the JSON form of an event that happened at `time` (seconds since 1970)."""
    members = {name: getattr(event, name) for name in field_names(type(event))}
    return {"event": type(event).__name__, "time": round(time, 6), **members}
