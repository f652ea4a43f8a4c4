"""Cells as bn sees them: sandboxes that one action after another uses, each finding them as new.

::

    take or make ─ stage ─ run ─ (conclude) ─ reset ─┬─ as it was: kept for the next action
                                                     └─ anything else: ended and removed
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from executors.base import ExecutionRequest, Limits
from executors.channel import Channel, ask_for_cell, made
from executors.descendants import host_pid
from executors.kernel import replaces_in_place
from executors.limits import Fence, Limiter
from executors.process import Ended, watch
from executors.restage import Grown, Stage
from executors.stage import new_workspace, usual_umask
from executors.syscalls import keyring_filter
from executors.traces import clear, mark
from executors.waiting import shielded
from executors.wall import Wall
from store.cas import EPOCH_NS
from store.digest import Digest, digest_bytes
from store.errors import HostError, host_error
from store.objects import Action, Directory, Entry, Link
from store.records import frozen
from store.shelf import Shelf
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


class Pool:
    """The cells behind one wall: those at rest, found again by kind."""

    def __init__(self, wall: Wall) -> None:
        """Start with none."""
        self.wall = wall
        self._idle: list[Cell] = []
        self._coming: list[Cell] = []

    async def take(self, kind: Kind, store: Store, limiter: Limiter) -> Cell:
        """Return a cell of this kind that nobody else uses, made if need be.

        Raises SetUpFailed where none can be made, HostError where the wall is down.
        """
        for cell in reversed(self._idle):
            if cell.kind == kind:
                self._idle.remove(cell)
                ready = False
                try:
                    ready = await cell.is_ready()
                finally:  # nobody else knows of it, should the wait be cut short
                    if not ready:
                        await cell.discard()
                return cell if ready else await self.take(kind, store, limiter)
        for cell in self._coming:
            if cell.kind == kind:
                self._coming.remove(cell)
                break
        else:
            cell = self._begin(kind, store, limiter)
        await cell.made()
        return cell

    def prepare(self, kind: Kind, store: Store, limiter: Limiter) -> None:
        """Have a cell of this kind made that will be asked for soon. Where that fails, who asks
        for it hears of it."""
        with contextlib.suppress(HostError):
            self._coming.append(self._begin(kind, store, limiter))

    def _begin(self, kind: Kind, store: Store, limiter: Limiter) -> Cell:
        limits = Limits(memory=kind.memory, processes=kind.processes, cpu_seconds=kind.cpu_seconds)
        return Cell.begin(self.wall, kind, store, limiter.fence(limits))

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
        self.lay_aside()
        self.remove()

    def lay_aside(self) -> None:
        """Tell the wall to end, and lay aside what the next build can use; `remove` does the rest
        of what `close` does."""
        self.wall.end()
        with span("lay inputs aside"):
            for cell in self._idle:
                cell.lay_aside()

    def remove(self) -> None:
        """Wait for the wall's end and remove the workspaces."""
        with span("end the wall", "leaving"):
            self.wall.close()
        with span("remove workspaces", "leaving"):
            for cell in (*self._idle, *self._coming):
                cell.abandon()
        self._idle.clear()
        self._coming.clear()


class Cell:
    """One cell and its workspace."""

    def __init__(self, wall: Wall, kind: Kind, store: Store, fence: Fence) -> None:
        """Make the workspace. Raises OSError."""
        self.kind = kind
        self.workspace = new_workspace(store)
        self.name = f"cell {self.workspace.path.name.rpartition('-')[2]}"
        self._wall = wall
        self._fence = fence
        self._channel: Channel | None = None
        self._rests = True
        self._cpu_seconds = 0.0
        self._shown: tuple[tuple[str, Digest | None], ...] = ()
        self._trees: dict[str, Digest] = {}
        path = str(self.workspace.path)
        with usual_umask():
            for name in ("in", "build", "io", "io/out", "aside"):
                os.mkdir(f"{path}/{name}")
            os.close(os.open(f"{path}/log", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        self._path = path
        self._watched = [
            os.open(f"{path}/{name}", os.O_RDONLY | os.O_CLOEXEC)
            for name in ("build", "io", "io/out", "log")
        ]
        self._marks = list(map(mark, self._watched))
        self._out = os.fstat(self._watched[2]).st_ino
        aside = f"{path}/aside"
        self._stage = Stage(store.cas, aside, os.stat(aside).st_size, replaces_in_place(aside))
        self._shelf = Shelf(store.cas, aside)
        self._keys: dict[str, str] = {}
        """Where the large ones among the inputs lie on the shelf later."""

    @classmethod
    def begin(cls, wall: Wall, kind: Kind, store: Store, fence: Fence) -> Cell:
        """Have a cell made; `made` waits for it. Raises HostError; then nothing is left."""
        try:
            cell = cls(wall, kind, store, fence)
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
            cell._channel = ask_for_cell(wall, request, fence.entrances())
        except BaseException:
            cell.abandon()
            raise
        return cell

    async def made(self) -> None:
        """Wait until the cell is made. Raises SetUpFailed and HostError; then nothing is left."""
        assert self._channel is not None
        try:
            with span("make", self.name):
                await made(self._channel)
        except BaseException:
            self._channel = None
            with shielded():
                await self.discard()
            raise

    async def is_ready(self) -> bool:
        """Wait until the last action's traces are gone; say whether that went well."""
        if self._channel is None or not self._wall.alive:
            return False
        try:
            while not self._rests:
                message = await self._channel.next()
                if "gone" in message:
                    return False
                self._rests = "ready" in message
        except HostError:
            return False
        return True

    async def run(self, request: ExecutionRequest, env: Mapping[str, str]) -> Ended:
        """Stage the inputs of an action and run its command to its end; nothing that it started is
        left when this returns or raises. Raises HostError and MissingBlob."""
        assert self._channel is not None
        started = time.monotonic()
        self._rests = False
        with span("stage", self.name, step=request.label):
            mounts = self._put_inputs(request.action)
        message = {
            "command": request.action.command,
            "env": {**env, "PWD": "/build"},
            "mounts": mounts,
            "rlimits": [one for one in self._fence.resource_limits() if not _for_life(one)],
            "cpus": request.cpus,
        }
        try:
            with span("run", self.name, step=request.label):
                await self._channel.send(message)
                ended, exceeded = await self._watch(self._channel, request.limits)
        except OSError as error:
            raise HostError(f"a sandbox is gone: {error}", "run the build again") from error
        return Ended(
            exit_code=ended["exit_code"],
            exceeded=exceeded,
            wall_seconds=time.monotonic() - started,
            cpu_seconds=ended["cpu_seconds"],
            peak_memory=ended["peak_memory"],
        )

    def reset(self) -> bool:
        """Remove what the last action left in the workspace; say whether the cell is as new."""
        if self._channel is None:
            return False
        try:
            if os.stat(f"{self._path}/io/out", follow_symlinks=False).st_ino != self._out:
                return False
            clear(f"{self._path}/io/out")
            clear(f"{self._path}/io", {"out"})
            clear(f"{self._path}/build", {name for name, _ in self._shown})
            if os.fstat(self._watched[-1]).st_size:
                os.truncate(f"{self._path}/log", 0)
            return list(map(mark, self._watched)) == self._marks
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
        for name, key in self._keys.items():
            self._shelf.put(key, f"{self._path}/in/{name}", self._trees[name])

    def abandon(self) -> None:
        """Remove the workspace of a cell that is gone."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        while self._watched:
            os.close(self._watched.pop())
        self._fence.drop()
        remove_tree(self._path)

    async def _watch(self, channel: Channel, limits: Limits) -> tuple[dict[str, Any], str]:
        """Wait for the end of an action; return how it ended and the limit that it was over."""
        exceeded = ""
        ended: dict[str, Any] = {}
        try:
            exceeded = await watch(
                channel.fileno(),
                lambda: host_pid(self._wall.pid, channel.inner),
                self.workspace.log,
                limits,
                self._fence,
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

    def _put_inputs(self, action: Action) -> list[str]:
        """Put the inputs of an action in their places; return the names to be mounted anew."""
        entries = list(self._stage.cas.get_tree(action.input_root).sorted())
        shown = tuple(
            (name, None if isinstance(entry, Directory) else entry.digest)
            for name, entry in entries
            if not isinstance(entry, Link)
        )
        path, mounts = self._path, []
        try:
            with usual_umask():
                try:
                    if len(shown) < len(entries) or not self._shows(shown):
                        raise Grown
                    for name, entry in entries:
                        if isinstance(entry, Directory):
                            self._put_tree(action, name, entry.digest)
                except Grown:
                    self._put_anew(action, entries)
                    self._shown = shown
                    mounts = [name for name, _ in shown]
                _make_parents(f"{path}/io/out", action.outputs)
                for name in ("build", "io/out", "io"):
                    os.utime(f"{path}/{name}", ns=EPOCH_NS)
        except OSError as error:
            raise host_error(error, "cannot stage an action") from error
        return mounts

    def _shows(self, wanted: tuple[tuple[str, Digest | None], ...]) -> bool:
        """Say whether inputs of these names are mounted; a single directory is just renamed.

        What is mounted in the cell goes along with the two directories.
        """
        match self._shown, wanted:
            case ((before, None),), ((name, None),) if before != name:
                for place in ("in", "build"):
                    os.rename(f"{self._path}/{place}/{before}", f"{self._path}/{place}/{name}")
                self._trees[name] = self._trees.pop(before)
                self._keys.pop(before, None)
                self._shown = wanted
        return self._shown == wanted

    def _put_anew(self, action: Action, entries: list[tuple[str, Entry]]) -> None:
        """Put inputs in their places after removing all that were there."""
        self._take_inputs_away()
        for name, entry in entries:
            point = f"{self._path}/build/{name}"
            if isinstance(entry, Link):
                os.symlink(entry.target, point)
                os.utime(point, ns=EPOCH_NS, follow_symlinks=False)
            elif isinstance(entry, Directory):
                self._put_tree(action, name, entry.digest)
                os.mkdir(point)
            else:
                self._stage.cas.link_out(entry, f"{self._path}/in/{name}")
                os.close(os.open(point, os.O_WRONLY | os.O_CREAT, 0o644))

    def _put_tree(self, action: Action, name: str, digest: Digest) -> None:
        """Make an input directory hold a tree. Raises Grown where it cannot remain the same
        directory, or need not because one that is nearly right lies aside."""
        place, held = f"{self._path}/in/{name}", self._trees.get(name)
        aside = None
        if held != digest:
            self._keys.pop(name, None)
        if held != digest and self._shelf.is_large(digest):
            key = self._keys[name] = _key(action, name)
            if held is None:
                aside = self._shelf.take(key, digest, place)
            elif self._shelf.has(key) and not self._stage.alike(held, digest):
                raise Grown
        try:
            self._stage.restage(place, held or aside, digest)
        except Grown:
            if aside is None:
                raise
            remove_tree(place)
            self._stage.restage(place, None, digest)
        self._trees[name] = digest

    def _take_inputs_away(self) -> None:
        """Remove all inputs and their mount points; that unmounts them in the cell, too."""
        for name, digest in self._shown:
            point = f"{self._path}/build/{name}"
            if digest is None:
                os.rmdir(point)
            else:
                os.unlink(point)
            remove_tree(f"{self._path}/in/{name}")
        self._trees.clear()
        self._keys.clear()
        self._shown = ()


def _key(action: Action, name: str) -> str:
    """Return where inputs of this name lie aside for the next action that is the same but for the
    contents of its inputs."""
    return digest_bytes(repr((name, action.command, action.outputs)).encode())


def _for_life(limit: tuple[str, int, int]) -> bool:
    """Say whether the cell's own process can have a resource limit that its actions have."""
    name, soft, _ = limit
    return name != "RLIMIT_CPU" and (name != "RLIMIT_DATA" or soft >= ROOM)


def _make_parents(out: str, outputs: tuple[str, ...]) -> None:
    """Make the directories above the declared outputs, sorted, at EPOCH."""
    parents = {
        parent
        for output in outputs
        if "/" in output
        for parent in itertools.accumulate(output.split("/")[:-1], lambda a, b: f"{a}/{b}")
    }
    for parent in sorted(parents):
        os.mkdir(f"{out}/{parent}")
    for parent in sorted(parents, reverse=True):
        os.utime(f"{out}/{parent}", ns=EPOCH_NS)
