"""Cells as bn sees them: sandboxes that one action after another uses, each finding them as new.

::

    take or make ─ stage ─ run ─ (conclude) ─ reset ─┬─ as it was: kept for the next action
                                                     └─ anything else: ended and removed
"""

from __future__ import annotations

import contextlib
import marshal
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from executors.base import ExecutionRequest, Limits
from executors.channel import Channel, SetUpFailed, ask_for_cell, made
from executors.descendants import host_pid
from executors.inputs import Inputs
from executors.limits import Fence, Limiter
from executors.process import Ended, watch
from executors.stage import new_workspace, usual_umask
from executors.syscalls import keyring_filter
from executors.traces import clear, mark
from executors.turnstile import Pass, Turnstile
from executors.waiting import shielded
from executors.wall import Wall
from store import stock
from store.errors import HostError, host_error
from store.records import frozen
from store.spans import span
from store.store import Store, remove_tree

IDLE_KEPT: Final = 8
"""Cells that are kept while no action runs in them."""

KILLED: Final = 128 + 9
"""The exit code of what was killed, as shells have it."""

ROOM: Final = 64 << 20
"""Bytes of memory that a cell's own process never needs."""


@frozen
class Kind:
    """What a cell is made for: the root file system, and the limits that it has for life."""

    root: str
    memory: int | None
    processes: int | None
    cpu_seconds: int | None

    @classmethod
    def of(cls, root: Path, limits: Limits) -> Kind:
        """Return the kind that an action needs."""
        return cls(str(root), limits.memory, limits.processes, limits.cpu_seconds)

    def row(self) -> tuple[str | int | None, ...]:
        """Return all that it says."""
        return self.root, self.memory, self.processes, self.cpu_seconds

    def note(self) -> None:
        """Note that it would be well to have a cell of this kind."""
        stock.missed(stock.CELL, marshal.dumps(self.row()))

    def limits(self) -> Limits:
        """Return the limits of all that runs in such a cell."""
        return Limits(memory=self.memory, processes=self.processes, cpu_seconds=self.cpu_seconds)


class Touched(Exception):
    """What lay aside for an action, which has started with it, was touched: it is to run again."""


class Pool:
    """The cells behind one wall: those at rest, found again by kind."""

    def __init__(self, wall: Wall, turnstile: Turnstile) -> None:
        """Start with those that the wall has. Their commands go through the turnstile."""
        self.wall = wall
        self.trees = wall.trees
        """The directory of the roots that it shows."""
        self._idle: list[Cell] = []
        self._coming: list[Cell]
        self._coming, wall.cells = wall.cells, []
        self._noted = False
        self._turnstile = turnstile

    async def take(self, kind: Kind, store: Store, limiter: Limiter) -> Cell:
        """Return a cell of this kind that nobody else uses, made if need be.

        Raises SetUpFailed where none can be made, HostError where the wall is down.
        """
        self._note(kind)
        while (cell := self._pop(kind)) is not None:
            ready = False
            try:
                ready = await cell.is_ready()
            finally:  # nobody else knows of it, should the wait be cut short
                if not ready:
                    await cell.discard()
            if ready:
                break
        else:
            cell = self._begin(kind, limiter)
            await cell.made()
        if not cell.joined:
            try:
                cell.join(self._turnstile, Inputs(cell.path, store.cas))
            except OSError as error:
                await cell.discard()
                raise host_error(error, "cannot use a workspace") from error
        return cell

    def _pop(self, kind: Kind) -> Cell | None:
        """Return a cell of this kind that rests or was asked for; it is the caller's."""
        for cells in (self._idle, self._coming):
            for cell in reversed(cells):
                if cell.kind == kind:
                    cells.remove(cell)
                    return cell
        return None

    def prepare(self, kind: Kind, limiter: Limiter) -> None:
        """Have a cell of this kind made that will be asked for soon, unless one is. Where that
        fails, who asks for it hears of it."""
        self._note(kind)
        if any(cell.kind == kind and cell.is_as_asked() for cell in self._coming):
            return
        with contextlib.suppress(HostError):
            self._coming.append(self._begin(kind, limiter))

    def _begin(self, kind: Kind, limiter: Limiter) -> Cell:
        return Cell.begin(self.wall, kind, limiter.fence(kind.limits()))

    def _note(self, kind: Kind) -> None:
        """Note the kind of the first cell that is asked for: it would be well to have one."""
        if not self._noted:
            self._noted = True
            kind.note()

    async def give_back(self, cell: Cell) -> None:
        """Take a cell back from an action; one that is not as new any more ends."""
        with span("reset", cell.name):
            as_new = cell.reset()
        if not as_new:
            await cell.discard()
            return
        self._idle.append(cell)
        if len(self._idle) > IDLE_KEPT:
            await self._idle.pop(0).discard()

    def close(self) -> None:
        """End the wall and remove all cells that are at rest."""
        self.wall.end()
        self.lay_aside()
        self.remove()

    def lay_aside(self) -> None:
        """Lay aside what the next build can use; it is not there for an action any more."""
        with span("lay inputs aside"):
            for cell in self._idle:
                cell.lay_aside()

    def remove(self) -> None:
        """End the wall and remove the workspaces. The store may be closed by then."""
        with span("end the wall", "leaving"):
            self.wall.close()
        with span("remove workspaces", "leaving"):
            for cell in (*self._idle, *self._coming):
                cell.abandon()
        self._idle.clear()
        self._coming.clear()


class Cell:
    """One cell and its workspace; it runs actions once it has joined a pool."""

    _turnstile: Turnstile
    _inputs: Inputs

    def __init__(self, wall: Wall, kind: Kind, fence: Fence) -> None:
        """Make the workspace. Raises OSError and HostError."""
        self.kind = kind
        self.workspace = new_workspace(wall.work)
        self.name = f"cell {self.workspace.path.name.rpartition('-')[2]}"
        self._wall = wall
        self._fence = fence
        self._channel: Channel | None = None
        self.joined = False
        self._is_made = False
        self._rests = True
        self._cpu_seconds = 0.0
        self.path = path = str(self.workspace.path)
        with usual_umask():
            for name in ("in", "build", "io", "io/out", "aside"):
                os.mkdir(f"{path}/{name}")
            os.close(os.open(f"{path}/log", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        self._log = self.workspace.log
        self._watched = [
            os.open(f"{path}/{name}", os.O_RDONLY | os.O_CLOEXEC)
            for name in ("build", "io", "io/out", "log")
        ]
        self._root = -1
        """The root file system, which nothing else can have the inode of while this is open."""
        self._marks = list(map(mark, self._watched))
        build, above = (os.fstat(descriptor).st_size for descriptor in self._watched[:2])
        self._counts_names = build != above
        """Whether a directory's size tells what is in it (tmpfs, btrfs, XFS), and not, as ext4's,
        how much was in it once."""
        self._out = os.fstat(self._watched[2]).st_ino

    @classmethod
    def begin(cls, wall: Wall, kind: Kind, fence: Fence) -> Cell:
        """Have a cell made; `made` waits for it. Raises HostError; then nothing is left."""
        try:
            cell = cls(wall, kind, fence)
        except OSError as error:
            raise host_error(error, "cannot make a workspace") from error
        request = {
            "filter": keyring_filter(),
            "rlimits": [one for one in fence.resource_limits() if _for_life(one)],
            "root": f"/t/{os.path.basename(kind.root)}",
            "tmp_bytes": kind.memory,
            "workspace": cell.workspace.path.name,
        }
        try:
            cell._root = os.open(kind.root, os.O_PATH | os.O_CLOEXEC)
            cell._channel = ask_for_cell(wall, request, fence.entrances())
        except BaseException as error:
            cell.abandon()
            if isinstance(error, OSError):
                raise host_error(error, "cannot show the toolchains") from error
            raise
        return cell

    async def made(self) -> None:
        """Wait until the cell is made. Raises SetUpFailed and HostError; then nothing is left."""
        assert self._channel is not None
        try:
            with span("make", self.name):
                await made(self._channel)
            self._is_made = True
        except BaseException:
            self._channel = None
            with shielded():
                await self.discard()
            raise

    def is_as_asked(self) -> bool:
        """Say whether its root file system and its workspace, in which nothing ran yet, are still
        those that it was asked for with."""
        try:
            there = os.stat(self.kind.root)
            return os.path.samestat(there, os.fstat(self._root)) and self._is_as_new()
        except OSError:
            return False

    def descriptors(self) -> tuple[int, ...]:
        """Return the descriptors that it needs."""
        assert self._channel is not None
        return self._channel.fileno(), self._root, *self._watched

    def moved(self, channel: int, root: int, *watched: int) -> None:
        """Go on with other numbers for its descriptors; the ones before are somebody else's."""
        assert self._channel is not None
        self._channel.moved(channel)
        self._root, self._watched = root, [*watched]

    def join(self, turnstile: Turnstile, inputs: Inputs) -> None:
        """Run actions from now on, with `inputs` in the workspace, through a turnstile."""
        self._turnstile, self._inputs = turnstile, inputs
        self.joined = True

    async def is_ready(self) -> bool:
        """Wait until it is made and the last action's traces are gone; say whether that went well
        and it is still there."""
        if self._channel is None or not self._wall.alive:
            return False
        try:
            if not self._is_made:
                if not self.is_as_asked():
                    return False
                await self.made()
            while not self._rests:
                message = await self._channel.next()
                if "gone" in message:
                    return False
                self._rests = "ready" in message
            return self._channel.poll() is None  # at rest it says nothing but that it is gone
        except (SetUpFailed, HostError):
            return False

    async def run(self, request: ExecutionRequest, env: Mapping[str, str]) -> Ended:
        """Stage the inputs of an action and run its command to its end; nothing that it started is
        left when this returns or raises. Raises HostError, MissingBlob and Touched."""
        assert self._channel is not None
        self._rests = False
        with span("stage", self.name, step=request.label):
            mounts = self._inputs.put(request.action)
            if self._counts_names:
                self._marks[0] = mark(self._watched[0])
        message = {
            "command": request.action.command,
            "env": {**env, "PWD": "/build"},
            "mounts": mounts,
            "rlimits": [one for one in self._fence.resource_limits() if not _for_life(one)],
            "cpus": request.cpus,
        }
        channel, sent = self._channel, False

        def start() -> None:
            nonlocal sent
            sent = channel.send(message)

        way = self._turnstile.enter(start, request.share, request.room)
        try:
            with span("run", self.name, step=request.label):
                if not self._inputs.are_as_left():
                    raise Touched
                ended, exceeded = await self._watch(channel, request.limits, way)
        except OSError as error:
            raise HostError(f"a sandbox is gone: {error}", "run the build again") from error
        finally:
            self._turnstile.leave(way)
        if way.since is None or not sent:
            raise HostError("a sandbox is gone", "run the build again")
        return Ended(
            exit_code=ended["exit_code"],
            exceeded=exceeded,
            wall_seconds=time.monotonic() - way.since,
            cpu_seconds=ended["cpu_seconds"],
            peak_memory=ended["peak_memory"],
        )

    def reset(self) -> bool:
        """Remove what the last action left in the workspace; say whether the cell is as new."""
        if self._channel is None:
            return False
        try:
            if os.stat(f"{self.path}/io/out", follow_symlinks=False).st_ino != self._out:
                return False
            clear(f"{self.path}/io/out")
            clear(f"{self.path}/io", {"out"})
            clear(f"{self.path}/build", self._inputs.names())
            if os.fstat(self._watched[-1]).st_size:
                os.truncate(f"{self.path}/log", 0)
            return self._is_as_new()
        except OSError:
            return False

    async def discard(self) -> None:
        """End the cell and remove its workspace."""
        with shielded():
            if self._channel is not None:
                with contextlib.suppress(HostError):
                    await self._channel.end()
            self.abandon()
            await self._fence.remove()

    def lay_aside(self) -> None:
        """Lay large inputs aside for the next build; only for a cell at rest that is to go."""
        self._inputs.lay_aside()

    def abandon(self) -> None:
        """Remove the workspace of a cell that is gone."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        while self._watched:
            os.close(self._watched.pop())
        if self._root >= 0:
            os.close(self._root)
            self._root = -1
        self._fence.drop()
        remove_tree(self.path)

    def _is_as_new(self) -> bool:
        return list(map(mark, self._watched)) == self._marks

    async def _watch(
        self, channel: Channel, limits: Limits, way: Pass
    ) -> tuple[dict[str, Any], str]:
        """Wait for the end of an action; return how it ended and the limit that it was over."""
        exceeded = ""
        ended: dict[str, Any] = {}
        try:
            exceeded = await watch(
                channel.fileno(),
                lambda: host_pid(self._wall.pid, channel.inner),
                self._log,
                limits,
                self._fence,
                lambda: way.since,
            )
            if not exceeded:
                ended = await channel.next()
        finally:
            if not ended:
                with shielded():
                    ended = await channel.end()
        if "gone" in ended:
            channel.close()
            self._channel = None
            code = -ended["gone"]
            spent = ended["cpu_seconds"] - self._cpu_seconds
            ended |= {"exit_code": 128 + code if code > 0 else KILLED, "cpu_seconds": spent}
        self._cpu_seconds += ended["cpu_seconds"]
        return ended, exceeded or self._fence.overrun()


def _for_life(limit: tuple[str, int, int]) -> bool:
    """Say whether the cell's own process can have a resource limit that its actions have."""
    name, soft, _ = limit
    return name != "RLIMIT_CPU" and (name != "RLIMIT_DATA" or soft >= ROOM)
