"""The unisolated executor: an action among the host's own files, with the host's tools."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from attrs import frozen

from executors import descendants
from executors.base import BASE_ENV, DEPFILE, NATIVE, OUT, WORK, ExecutionRequest, Outcome
from executors.conclude import conclude
from executors.depfile import Observer
from executors.kernel import adopt_orphans, fix_addresses
from executors.limits import Fence, Limiter
from executors.process import Command, run
from executors.stage import Workspace, stage
from store.store import Store

_MARK: Final = "BN_ACTION"
"""A variable that every process of an action inherits: so those are found that went elsewhere."""


class Native:
    """Runs actions without isolation. Inputs are private copies, so that nothing can write into the
    store; what an action reads besides them is not known, and its results are kept apart."""

    isolation = NATIVE

    def __init__(self, store: Store) -> None:
        """Make an executor over `store`."""
        self._store = store
        self._limiter = Limiter()
        fix_addresses()
        adopt_orphans()

    def close(self) -> None:
        """Nothing is kept between actions."""

    async def execute(self, request: ExecutionRequest) -> Outcome:
        """Run one action to its end. On cancellation everything that it started is killed.

        Raises HostError where the machine cannot run it and MissingBlob where an input is gone.
        """
        action = request.action
        workspace = stage(self._store, action, private=True)
        try:
            places = _Places.of(workspace)
            fence = self._limiter.fence(request.limits)
            command = _command(request, workspace, places, fence)
            ended = await run(command, request.limits, fence)
            scratch = (places.out, places.depfile, places.tmp, "/proc", "/dev")
            observer = Observer(self._store.cas, action.input_root, places.work, scratch)
            return conclude(self._store, request, workspace, ended, observer)
        finally:
            workspace.remove()


@frozen
class _Places:
    """The real paths that stand for those of a sandbox, free of symbolic links."""

    work: str
    out: str
    depfile: str
    tmp: str

    @classmethod
    def of(cls, workspace: Workspace) -> _Places:
        here = os.path.realpath(workspace.path)
        tmp = f"{here}/tmp"
        Path(tmp).mkdir()
        return cls(f"{here}/build", f"{here}/io/out", f"{here}/io/depfile", tmp)

    def put_into(self, text: str) -> str:
        """Return `text` with the sandbox's paths replaced.

        /build is taken for a path only at the start of a word or after a one-letter option, as it
        may well be a part of another path.
        """
        text = re.sub(rf"{DEPFILE}(?![\w.-])", lambda _: self.depfile, text)
        text = re.sub(rf"{OUT}(?![\w.-])", lambda _: self.out, text)
        start = r"(?:(?<![\w/.~+-])|(?<=^-[A-Za-z]))"
        return re.sub(rf"{start}{WORK}(?![\w.-])", lambda _: self.work, text)


def _command(
    request: ExecutionRequest, workspace: Workspace, places: _Places, fence: Fence
) -> Command:
    env = _environment(request.action.env, places)
    mark = f"{_MARK}={env[_MARK]}".encode()

    def strays() -> Iterable[int]:
        found = fence.members() if fence.contains else descendants.marked(mark)
        return [pid for pid in found if descendants.alive(pid)]

    return Command(
        argv=[places.put_into(word) for word in request.action.command],
        env=env,
        cwd=Path(places.work),
        log=workspace.log,
        strays=strays,
        cpus=request.cpus,
    )


def _environment(more: Mapping[str, str], places: _Places) -> dict[str, str]:
    """Return the clean environment, with the host's search path."""
    host = {name: os.environ[name] for name in ("PATH",) if name in os.environ}
    env = {**BASE_ENV, "HOME": places.tmp, "TMPDIR": places.tmp, **host}
    env |= more
    env = {name: places.put_into(value) for name, value in env.items()}
    return {**env, "PWD": places.work, _MARK: os.path.basename(os.path.dirname(places.work))}
