"""The hermetic executors: a bubblewrap for every action, or one around a fork server."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Final

from executors import leaving
from executors.base import BASE_ENV, HERMETIC, SHELL, WORK, ExecutionRequest, Limits, Outcome
from executors.bubblewrap import Bubblewrap, command_line, find_bubblewrap, sandbox_failed
from executors.cells import Kind, Pool, Touched
from executors.channel import SetUpFailed
from executors.conclude import CANNOT_RUN, conclude
from executors.depfile import Observer
from executors.kernel import adopt_orphans, fix_addresses
from executors.limits import Limiter, require_space
from executors.process import (
    Command,
    Ended,
    read_status,
    run,
)
from executors.stage import Workspace, sandbox_root, stage
from executors.turnstile import Turnstile
from executors.waiting import pause
from executors.wall import Wall
from store.digest import Digest
from store.errors import HostError
from store.objects import Action
from store.records import evolve
from store.spans import span
from store.store import Store

LOOK_SECONDS: Final = 0.001
"""How often it is looked whether there is room for another bubblewrap."""

_SCRATCH: Final = ("/bn", "/dev", "/proc", "/tmp")
"""Where a path that a depfile names may lead to anything, /proc/self/cwd among it."""


class PlainSandbox:
    """Runs each action in a bubblewrap of its own, whose root file system is its toolchains."""

    isolation = HERMETIC

    def __init__(self, store: Store) -> None:
        """Make an executor over `store`. Whether this machine can run it shows in `check` or in the
        first action."""
        self._store = store
        self._limiter = Limiter()
        self._roots: dict[tuple[Digest, ...], Path] = {}
        fix_addresses()
        adopt_orphans()

    @cached_property
    def _bubblewrap(self) -> Bubblewrap:
        return find_bubblewrap()

    def check(self) -> str:
        """Return the version of the bubblewrap that makes sandboxes here; raises HostError, with
        what to do, where none can be made."""
        self._bubblewrap.check()
        return ".".join(map(str, self._bubblewrap.version))

    async def execute(self, request: ExecutionRequest) -> Outcome:
        """Run one action to its end. On cancellation everything that it started is killed.

        Raises HostError where the machine cannot run it and MissingBlob where an input is gone.
        """
        action = request.action
        root = self._root(action.toolchains)
        workspace = self._staged(action)
        try:
            ended = await self._run(request, root, workspace)
            observer = Observer(self._store.cas, action.input_root, WORK, _SCRATCH)
            return conclude(self._store, request, workspace, ended, observer)
        finally:
            workspace.remove()

    @contextlib.contextmanager
    def shell_command(self, action: Action, command: str | None = None) -> Iterator[list[str]]:
        """Stage the inputs of `action` and give the command line of a shell in its sandbox, for as
        long as the context lasts; with `command` the shell runs that and ends.

        It is to be run by this thread, with the user's terminal. Raises HostError and MissingBlob.
        """
        env = {**BASE_ENV, **action.env}
        if command is None:
            env["TERM"] = os.environ.get("TERM", "dumb")
        shell = [SHELL, "-c", command] if command is not None else [SHELL]
        root = self._root(action.toolchains)
        workspace = stage(self._store, action)
        try:
            argv = command_line(self._bubblewrap, root, workspace, env, shell, terminal=True)
            yield Limiter().fence(Limits(processes=None)).wrap(argv, workspace.seccomp)
        finally:
            workspace.remove()

    def close(self) -> None:
        """Nothing is kept between actions."""

    def _staged(self, action: Action) -> Workspace:
        return stage(self._store, action)

    async def _run(self, request: ExecutionRequest, root: Path, workspace: Workspace) -> Ended:
        """Run the command of a staged action to its end."""
        action, limits = request.action, request.limits
        env = {**BASE_ENV, **action.env}
        argv = command_line(
            self._bubblewrap, root, workspace, env, action.command, tmp_bytes=limits.memory
        )
        command = Command(
            argv=argv,
            env={},
            cwd=workspace.path,
            log=workspace.log,
            status=workspace.status,
            given=workspace.seccomp,
            cpus=request.cpus,
        )
        ended = await run(command, limits, self._limiter.fence(limits))
        return checked(ended, workspace)

    def _root(self, toolchains: tuple[Digest, ...]) -> Path:
        root = self._roots.get(toolchains)
        if root is None or not os.path.exists(root):
            root = self._roots[toolchains] = sandbox_root(self._store, toolchains)
        return root


class Sandbox(PlainSandbox):
    """Runs actions in cells that a fork server makes, behind one bubblewrap for all of them.

    What an action sees is the same as in a `PlainSandbox`. Where the fork server cannot start or
    cannot make cells, as in some containers, every action gets its own bubblewrap instead.
    """

    begins_ahead = True
    """It keeps to the `room` of requests."""

    def __init__(self, store: Store, wall: Wall | None = None) -> None:
        """Make an executor over `store`. The fork server starts with the first action if it was
        not started before: `wall` is then this executor's to end."""
        super().__init__(store)
        self._pools: dict[Path, Pool] = {}
        self._plain = False
        self._turnstile = Turnstile()
        if wall is not None:
            self._pools[wall.trees.parent] = Pool(wall, self._turnstile)

    def prepare(self, toolchains: tuple[Digest, ...], limits: Limits) -> None:
        """Begin to make a sandbox for an action with these toolchains, where the fork server was
        started before. Raises HostError and MissingBlob."""
        for pool in self._pools.values():
            root = self._root(toolchains)
            if root.parent == pool.trees:
                pool.prepare(Kind.of(root, limits), self._limiter)

    async def execute(self, request: ExecutionRequest) -> Outcome:
        """Run one action to its end. On cancellation everything that it started is killed.

        Raises HostError where the machine cannot run it and MissingBlob where an input is gone.
        """
        action = request.action
        pool, root = self._pool(), self._root(action.toolchains)
        if pool is None or root.parent != pool.trees:
            return await self._plainly(request)
        try:
            with span("wait for the wall"):
                pool.wall.ready()
            cell = await pool.take(Kind.of(root, request.limits), self._store, self._limiter)
        except (SetUpFailed, HostError) as error:
            if isinstance(error, HostError) and pool.wall.alive:
                raise
            self._plain = True  # the wall stays up for what still runs in it
            return await self._plainly(request)
        try:
            ended = await cell.run(request, {**BASE_ENV, **action.env})
            observer = Observer(self._store.cas, action.input_root, WORK, _SCRATCH)
            with span("take in", cell.name, step=request.label):
                outcome = conclude(self._store, request, cell.workspace, ended, observer)
        except Touched:  # it is not there any more
            await cell.discard()
            return await self.execute(request)
        except BaseException:
            await cell.discard()
            raise
        await pool.give_back(cell)
        return outcome

    async def _plainly(self, request: ExecutionRequest) -> Outcome:
        """Run an action in a bubblewrap of its own, when there is room for it."""
        way = self._turnstile.enter(lambda: None, request.share, request.room)
        try:
            while way.since is None:
                await pause(LOOK_SECONDS)
            return await super().execute(request)
        finally:
            self._turnstile.leave(way)

    def drop(self) -> None:
        """End the fork server, which was started for nothing."""
        for pool in self._pools.values():
            pool.wall.kill()
        self.leave()

    def close(self) -> None:
        """End the fork server."""
        while self._pools:
            self._pools.popitem()[1].close()

    def leave(self) -> None:
        """Do as `close` does, but leave what takes long for later (see `leaving`)."""
        pools, self._pools = list(self._pools.values()), {}
        for pool in pools:
            if not leaving.is_held():  # it ends while inputs are laid aside
                pool.wall.end()
            pool.lay_aside()
            leaving.leave(pool.remove)

    def _pool(self) -> Pool | None:
        """Return the cells behind a running wall that shows the store's work directory; None where
        none can be made."""
        if self._plain:
            return None
        place = self._store.cas.root
        pool = self._pools.get(place)
        if pool is not None and not pool.wall.alive:
            self._pools.pop(place).close()
            pool = None
        if pool is None:
            # where the store goes on in another tier, the old wall stays for what runs in it
            try:
                pool = self._pools[place] = Pool(
                    Wall(self._store.work(), self._store.trees()), self._turnstile
                )
            except HostError:
                self._plain = True
        return pool


def checked(ended: Ended, workspace: Workspace) -> Ended:
    """Return how the command ended; raise HostError where bubblewrap failed before it ran."""
    if ended.exceeded or "exit-code" in read_status(workspace.status):
        return ended
    said = workspace.log.read_text(errors="replace")
    if "bwrap: execvp " in said:
        return evolve(ended, exit_code=CANNOT_RUN)
    require_space(workspace.path)
    raise sandbox_failed(said)
