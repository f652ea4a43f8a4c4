"""The simulated executor: actions that take virtual time and leave outputs made of their digests.

It runs nothing and only ever sleeps, so that under `trio.testing.MockClock` a build of thousands of
actions takes the time of its bookkeeping, and takes the same way every time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

import trio
from attrs import field, frozen

from executors.base import ExecutionRequest, Outcome, Status
from executors.physics import Attempt, World
from store.cas import Cas, MissingBlob
from store.digest import Digest
from store.objects import Directory, Entry, File
from store.trees import build_tree

SIMULATED: Final = "simulated.1"


@frozen(kw_only=True)
class Simulation:
    """How one execution goes: how many seconds it takes, whether it fails, what it leaves.

    Outputs that `contents` does not name hold the action's digest and their path, so that equal
    actions leave equal bytes. `error` is raised when the time is over; `peak_memory` is in bytes.
    """

    seconds: float = 1.0
    exit_code: int = 0
    contents: Mapping[str, bytes] = field(factory=dict)
    observed: tuple[str, ...] | None = None
    peak_memory: int = 0
    error: Exception | None = None
    inputs: tuple[tuple[str, int], ...] = ()
    """What has to be on its node: names and bytes."""
    spread: float = 0.0
    """By what share its seconds may differ, by chance."""


def succeed(request: ExecutionRequest) -> Simulation:
    """Return the simulation of an action that takes a second and succeeds."""
    return Simulation()


class Simulated:
    """An executor that does as `behave` says of each request.

    With a `world`, actions run on its nodes: as fast as these are by then, after their inputs were
    moved there; and what a node fails or takes with it is `Status.LOST`.
    """

    isolation = SIMULATED

    def __init__(
        self,
        cas: Cas,
        behave: Callable[[ExecutionRequest], Simulation] = succeed,
        world: World | None = None,
    ) -> None:
        self._cas = cas
        self._behave = behave
        self._world = world

    def close(self) -> None:
        """Nothing is kept between actions."""

    def is_there(self, node: str) -> bool:
        """Say whether a node can run actions."""
        return self._world is None or self._world.is_up(node, trio.current_time())

    async def execute(self, request: ExecutionRequest) -> Outcome:
        """Sleep for as long as the action takes and return what it gives."""
        root = request.action.input_root
        if not self._cas.complete(Directory(root)):
            raise MissingBlob(root)
        simulation = self._behave(request)
        began, limit = trio.current_time(), request.limits.wall_seconds
        took, lost = simulation.seconds, ""
        with trio.move_on_after(math.inf if limit is None else limit) as scope:
            if self._world is None or request.node not in self._world.bodies:
                await trio.sleep(simulation.seconds)
            else:
                lost = await self._run(self._world, request, simulation)
                took = trio.current_time() - began
        if scope.cancelled_caught and limit is not None:
            took = limit
            return self._failed(Status.KILLED, 137, f"timed out after {limit:g} s", took)
        if lost:
            return self._failed(Status.LOST, 137, lost, took)
        if simulation.error is not None:
            raise simulation.error
        if simulation.exit_code:
            reason = f"exited with {simulation.exit_code}"
            return self._failed(Status.FAILED, simulation.exit_code, reason, took)
        return Outcome(
            status=Status.SUCCEEDED,
            exit_code=0,
            log=self._cas.put_object(b""),
            outputs=self._outputs(request, simulation.contents),
            observed=simulation.observed,
            wall_seconds=took,
            cpu_seconds=took,
            peak_memory=simulation.peak_memory,
        )

    async def _run(self, world: World, request: ExecutionRequest, simulation: Simulation) -> str:
        """Run on a node of the world; return why the action was lost, nothing if it was not."""
        node, now = request.node, trio.current_time()
        if not world.is_up(node, now):
            return f"node {node} is not there"
        one = world.begin(
            node,
            request.label,
            simulation.seconds,
            now,
            simulation.inputs,
            request.share,
            simulation.spread,
        )
        try:
            await self._until_end(world, node, one)
        finally:
            if not one.lost:
                world.bodies[node].stop(one, trio.current_time())
        if one.lost:
            return f"node {node} dropped out"
        if one.fails:
            return f"node {node} failed"
        world.held.setdefault(request.label, set()).add(node)
        return ""

    async def _until_end(self, world: World, node: str, one: Attempt) -> None:
        """Sleep until the action ends, however its node's speed changes, or is lost with it."""
        body = world.bodies[node]
        while True:
            end, due = body.end_of(one), world.next(node)
            await trio.sleep_until(min(end, due))
            if end < due:
                return
            world.advance(node, due)
            if one.lost:
                return

    def _failed(self, status: Status, exit_code: int, reason: str, seconds: float) -> Outcome:
        return Outcome(
            status=status,
            exit_code=exit_code,
            log=self._cas.put_object(f"{reason}\n".encode()),
            reason=reason,
            wall_seconds=seconds,
            cpu_seconds=seconds,
        )

    def _outputs(self, request: ExecutionRequest, contents: Mapping[str, bytes]) -> Digest:
        """Store the declared outputs and return their tree."""
        entries: dict[str, Entry] = {}
        for path in request.action.outputs:
            data = contents.get(path, f"{request.action.digest()} {path}\n".encode())
            entries[path] = File(self._cas.put_bytes(data), len(data))
        return build_tree(self._cas, entries, new=True)
