"""One execution as the build loop sees it: a request made, an outcome taken in, an event of it."""

from __future__ import annotations

from engine.crew import Ending
from engine.graph import Recipe
from engine.resolve import Resolved
from engine.timeline.events import StepFinished
from executors.base import ExecutionRequest, Executor, Limits, Outcome, Status
from store.cas import Cas
from store.digest import Digest
from store.errors import host_error
from store.records import evolve

DEFAULT_TIMEOUT = 3600.0
"""Seconds after which an action without `timeout` is killed."""


async def execute(
    cas: Cas,
    executor: Executor,
    recipe: Recipe,
    resolved: Resolved,
    keep_failed: bool,
    cpus: tuple[int, ...] = (),
    node: str = "",
    share: int = 1,
    room: int = 0,
) -> Ending:
    """Run an action to its end on a node, `share` of whose processors it holds (of `room`), pinned
    to `cpus` if there are any, again where another tier takes the place of one that failed.

    What is raised is part of the ending; so is a failure of the machine, as HostError.
    """
    request = ExecutionRequest(
        action=resolved.action,
        label=recipe.label,
        limits=limits_of(recipe),
        keep_failed=keep_failed,
        cpus=cpus,
        node=node,
        share=share,
        room=room,
    )
    outcome: Outcome | Exception
    while True:
        primary = cas.primary
        try:
            outcome = await executor.execute(request)
        except OSError as error:
            outcome = host_error(error, "cannot run an action")
        except Exception as error:
            outcome = error
        if isinstance(outcome, Outcome) and outcome.outputs is not None:
            break
        problem = outcome if isinstance(outcome, Exception) else None
        if cas.primary is primary and not cas.reconsider(problem):
            break
    return resolved.digest, outcome


def blame(outcome: Outcome | Exception | None) -> float:
    """Return how much of a failure of its node it is that an execution ended so.

    What was killed or lost counts as one; what ended by itself, badly, as a quarter: most often
    that is the action's own fault.
    """
    if isinstance(outcome, Exception):
        return 1.0
    if outcome is None or outcome.status is Status.SUCCEEDED:
        return 0.0
    return 1.0 if outcome.status in (Status.KILLED, Status.LOST) else 0.25


def limits_of(recipe: Recipe) -> Limits:
    """Return the limits under which a recipe's action runs."""
    return Limits(
        memory=recipe.resources.memory,
        wall_seconds=recipe.resources.timeout or DEFAULT_TIMEOUT,
    )


def unless_inputs_changed(recipe: Recipe, outcome: Outcome) -> Outcome:
    """Return the outcome, a failed one if an input changed on disk since it was taken."""
    if outcome.status is not Status.SUCCEEDED:
        return outcome
    for selection in recipe.selections:
        changed = selection.changed()
        if changed:
            reason = f"its input changed during the build: {changed}"
            return evolve(outcome, status=Status.FAILED, outputs=None, reason=reason)
    return outcome


def finished(label: str, action: Digest, outcome: Outcome) -> StepFinished:
    """Return the event of an execution that ended."""
    return StepFinished(
        label=label,
        action=action,
        status=outcome.status,
        exit_code=outcome.exit_code,
        reason=outcome.reason,
        log=outcome.log,
        outputs=outcome.outputs,
        kept=str(outcome.kept) if outcome.kept else None,
        seconds=outcome.wall_seconds,
        cpu_seconds=outcome.cpu_seconds,
        peak_memory=outcome.peak_memory,
    )
