"""What a build's timeline says that can be run again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from engine.spec.faults import nearest
from engine.timeline.course import CACHED, course
from store.digest import Digest, digest_bytes
from store.errors import InputError
from store.records import frozen


@frozen(kw_only=True)
class Recorded:
    """A step of a build as it ended there: its action, its outputs (None: it failed), its log where
    it ran, seconds, and when it ended in seconds since 1970 (None: in an earlier build)."""

    label: str
    action: Digest
    outputs: Digest | None
    status: str
    exit_code: int = 0
    log: Digest | None = None
    seconds: float = 0.0
    ended: float | None = None
    ran: bool = True


def recorded(build: str, events: Iterable[Mapping[str, Any]]) -> list[Recorded]:
    """Return the steps of a build of which the end is known, in the order in which they were told
    of."""
    past = course(build, events)
    found = []
    for step in past.steps.values():
        ran = step.ended is not None
        if step.action and (ran or step.status == CACHED):
            found.append(
                Recorded(
                    label=step.label,
                    action=Digest(step.action),
                    outputs=Digest(step.outputs) if step.outputs else None,
                    status=step.status,
                    exit_code=step.exit_code,
                    log=Digest(step.log) if step.log else None,
                    seconds=step.seconds,
                    ended=past.began + step.ended if step.ended is not None else None,
                    ran=ran,
                )
            )
    return found


def chosen(
    build: str,
    steps: Iterable[Recorded],
    wanted: Collection[str] = (),
    ran: bool = False,
    sample: int | None = None,
) -> list[Recorded]:
    """Return the steps to replay: those of the artifacts that are `wanted` (all), with `ran` only
    those that ran in the build, and of these a `sample` that the build's name alone decides.

    Steps with the same action count once. Raises InputError where an artifact is not in the build.
    """
    every = list(steps)
    for name in wanted:
        if not any(_is_of(one.label, name) for one in every):
            known = {one.label.partition("[")[0] for one in every} | {one.label for one in every}
            raise InputError(f"build {build}: no step of {name!r}", nearest(name, known, "steps"))
    found = [one for one in every if not wanted or any(_is_of(one.label, name) for name in wanted)]
    if ran:
        found = [one for one in found if one.ran]
    found = list({one.action: one for one in reversed(found)}.values())[::-1]
    if sample is not None and sample < len(found):
        drawn = sorted(found, key=lambda one: digest_bytes(f"{build}\0{one.label}".encode()))
        kept = {one.label for one in drawn[:sample]}
        found = [one for one in found if one.label in kept]
    return found


def _is_of(label: str, name: str) -> bool:
    return label == name or label.startswith(f"{name}[")
