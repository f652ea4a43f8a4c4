"""The simulated executor: actions that take virtual time and leave outputs made of their digests.

It runs nothing and only ever sleeps, so that under `trio.testing.MockClock` a build of thousands of
actions takes the time of its bookkeeping, and takes the same way every time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import trio
from attrs import field, frozen

from executors.base import ExecutionRequest, Outcome, Status
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


def succeed(request: ExecutionRequest) -> Simulation:
    """Return the simulation of an action that takes a second and succeeds."""
    return Simulation()


class Simulated:
    """An executor that does as `behave` says of each request."""

    isolation = SIMULATED

    def __init__(
        self, cas: Cas, behave: Callable[[ExecutionRequest], Simulation] = succeed
    ) -> None:
        self._cas = cas
        self._behave = behave

    def close(self) -> None:
        """Nothing is kept between actions."""

    async def execute(self, request: ExecutionRequest) -> Outcome:
        """Sleep for as long as the action takes and return what it gives."""
        root = request.action.input_root
        if not self._cas.complete(Directory(root)):
            raise MissingBlob(root)
        simulation = self._behave(request)
        limit = request.limits.wall_seconds
        if limit is not None and limit < simulation.seconds:
            await trio.sleep(limit)
            return self._failed(Status.KILLED, 137, f"timed out after {limit:g} s", limit)
        await trio.sleep(simulation.seconds)
        if simulation.error is not None:
            raise simulation.error
        if simulation.exit_code:
            reason = f"exited with {simulation.exit_code}"
            return self._failed(Status.FAILED, simulation.exit_code, reason, simulation.seconds)
        return Outcome(
            status=Status.SUCCEEDED,
            exit_code=0,
            log=self._cas.put_object(b""),
            outputs=self._outputs(request, simulation.contents),
            observed=simulation.observed,
            wall_seconds=simulation.seconds,
            cpu_seconds=simulation.seconds,
            peak_memory=simulation.peak_memory,
        )

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
