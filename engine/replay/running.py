"""Recorded actions run again in fresh sandboxes, and what comes out compared.

::

    Recorded ──▶ as usual ──the same──▶ in other surroundings ──the same──▶ … N times ──▶ same
                    │                        │
                    └── other outputs ◀──────┴──▶ which of the surroundings alone does it?
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final

from engine.abreast import abreast
from engine.execution import DEFAULT_TIMEOUT
from engine.replay.differing import Difference, differences
from engine.replay.kinds import UNKNOWN
from engine.replay.steps import Recorded
from engine.replay.surroundings import DAYS, NAMES, load, surroundings
from executors.base import HERMETIC, HOST_NAME, ExecutionRequest, Executor, Limits, Outcome
from executors.perturbed import Perturbed
from executors.sandbox import PlainSandbox
from store.cas import MissingBlob
from store.digest import Digest
from store.errors import BnError, HostError
from store.objects import Action
from store.records import evolve, frozen
from store.store import Store

PATIENCE: Final = 10
"""How many times longer than recorded an action may take; see `Limits.wall_seconds`."""


@frozen(kw_only=True)
class Other:
    """What came out otherwise: in which surroundings (kinds; none: as usual), the outputs (None: it
    failed, for this `reason`), where they differ, and which kinds alone do it."""

    perturbed: tuple[str, ...]
    outputs: Digest | None
    exit_code: int
    reason: str
    differences: tuple[Difference, ...]
    because: tuple[str, ...] = ()


@frozen(kw_only=True)
class Replayed:
    """A recorded action run again `runs` times. `other` says what came out otherwise, `gone` why it
    could not be run at all; neither: the same came out, byte for byte."""

    recorded: Recorded
    runs: int
    seconds: float
    other: Other | None = None
    gone: str = ""

    @property
    def same(self) -> bool:
        """Whether the same came out."""
        return self.other is None and not self.gone


@frozen(kw_only=True)
class How:
    """How to replay: how many times, how many at a time, and in which other surroundings."""

    times: int = 1
    jobs: int = 1
    perturb: tuple[str, ...] = ()


def replay(
    store: Store,
    steps: Sequence[Recorded],
    how: How,
    tell: Callable[[Replayed], None] = lambda _: None,
) -> list[Replayed]:
    """Run recorded actions again and return what came of each, in the order given.

    Nothing but the store is looked at. Raises HostError where this machine cannot run actions.
    """
    found: dict[int, Replayed] = {}
    doubtful: list[int] = []
    pending = dict(enumerate(steps))
    seconds = dict.fromkeys(pending, 0.0)
    runs = dict.fromkeys(pending, 0)
    for kinds in _rounds(how):
        ended = _round(store, pending, kinds, how.jobs)
        for number, (outcome, took) in ended.items():
            seconds[number] += took
            runs[number] += 1
            other = _compared(store, steps[number], outcome, kinds)
            if other is None:
                continue
            found[number] = Replayed(
                recorded=steps[number],
                runs=runs[number],
                seconds=seconds[number],
                other=other if isinstance(other, Other) else None,
                gone=other if isinstance(other, str) else "",
            )
            doubtful += [number] if len(kinds) > 1 and isinstance(other, Other) else []
            del pending[number]
    for number in doubtful:
        found[number] = _explained(store, found[number])
    for number in pending:
        found[number] = Replayed(recorded=steps[number], runs=runs[number], seconds=seconds[number])
    store.cas.commit_objects()
    for number in sorted(found):
        tell(found[number])
    return [found[number] for number in sorted(found)]


def _rounds(how: How) -> Iterator[tuple[str, ...]]:
    """Yield what is perturbed in each round."""
    for _ in range(how.times):
        yield ()
        if how.perturb:
            yield how.perturb


def _round(
    store: Store, steps: Mapping[int, Recorded], kinds: tuple[str, ...], jobs: int
) -> dict[int, tuple[Outcome | str, float]]:
    """Run steps once; return of each what came out, or why it could not run, and seconds."""
    ended: dict[int, tuple[Outcome | str, float]] = {}
    executor: Executor = Perturbed(store, surroundings(kinds)) if kinds else PlainSandbox(store)

    async def one(number: int, step: Recorded) -> None:
        started = time.monotonic()
        outcome = await _run(store, executor, step)
        ended[number] = outcome, time.monotonic() - started

    try:
        with load(kinds):
            abreast((functools.partial(one, *item) for item in steps.items()), jobs)
    finally:
        executor.close()
    return ended


async def _run(store: Store, executor: Executor, step: Recorded) -> Outcome | str:
    """Run one step; where what it needs is gone, return that in words."""
    try:
        action = Action.decode(store.cas.get_bytes(step.action))
    except MissingBlob:
        return "its action is no longer in the store"
    if action.isolation != HERMETIC:
        return "it ran without isolation"
    limits = Limits(wall_seconds=max(DEFAULT_TIMEOUT, PATIENCE * step.seconds))
    request = ExecutionRequest(action=action, label=step.label, limits=limits)
    try:
        return await executor.execute(request)
    except MissingBlob as error:
        return f"not all that it needs is still in the store: {error.message}"


def _compared(
    store: Store, step: Recorded, outcome: Outcome | str, kinds: tuple[str, ...]
) -> Other | str | None:
    """Return what is other than recorded; a text where it cannot be told, None where nothing is."""
    if isinstance(outcome, str):
        return outcome
    if step.outputs is None:
        if outcome.outputs is None and outcome.exit_code == step.exit_code:
            return None
        became = "it succeeds" if outcome.outputs is not None else outcome.reason
        reason = f"it failed ({step.status}, exit code {step.exit_code}); now {became}"
        return _other(outcome, kinds, reason)
    if outcome.outputs == step.outputs:
        return None
    if outcome.outputs is None:
        return _other(outcome, kinds, outcome.reason)
    now = time.time()
    later = now + DAYS * 86400 if "time" in kinds else now
    began = (step.ended, later)
    words = (
        frozenset({HOST_NAME, surroundings(kinds).host_name}) if "host" in kinds else frozenset()
    )
    try:
        found = tuple(
            itertools.islice(
                differences(store.cas, step.outputs, outcome.outputs, began, words), 100
            )
        )
    except BnError as error:
        return f"it came out otherwise; what was recorded is no longer there: {error.message}"
    return _other(outcome, kinds, "", found)


def _other(
    outcome: Outcome, kinds: tuple[str, ...], reason: str, found: tuple[Difference, ...] = ()
) -> Other:
    other = Other(
        perturbed=kinds,
        outputs=outcome.outputs,
        exit_code=outcome.exit_code,
        reason=reason,
        differences=found,
        because=kinds if len(kinds) == 1 else (),
    )
    return _named(other)


def _explained(store: Store, replayed: Replayed) -> Replayed:
    """Run an action that came out otherwise in several other surroundings in each of them alone,
    and as usual once more, to say which of them it is."""
    step, other = replayed.recorded, replayed.other
    assert other is not None
    single: list[Collection[str]] = [(), *((kind,) for kind in other.perturbed)]
    because = []
    for kinds in single:
        (outcome, _) = _round(store, {0: step}, tuple(kinds), 1)[0]
        if isinstance(outcome, str):
            raise HostError(f"{step.label}: {outcome}")
        if outcome.outputs != step.outputs:
            because += list(kinds) or [""]
            if not kinds:
                break  # it does so by itself
    return evolve(replayed, other=_named(evolve(other, because=tuple(because))))


def _named(other: Other) -> Other:
    """Say what kind of difference it is where one of the surroundings tells it, not the bytes."""
    if len(other.because) != 1 or other.because[0] not in NAMES:
        return other
    name = NAMES[other.because[0]]
    found = (
        evolve(one, kind=name) if one.kind.startswith(UNKNOWN) else one for one in other.differences
    )
    return evolve(other, differences=tuple(found))
