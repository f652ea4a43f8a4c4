"""What the next build will have to do, worked out as soon as a file has changed, by the worker that
waits for its client.

It is what that build works out itself, by the same functions, from the same files, and it is used
only where that would come to the same: while the command, the directory, the configuration, the
index and all files are as they were; of those that changed, the contents are compared. Nothing is
started, fetched or run for it, and nothing of the store is open or in use before the build begins.

::

    file changed ─▶ worked out ─▶ at rest ──same command──▶ woken ──all as it was──▶ built
                        │            │                        └──────else────▶ worked out anew
                        └─▶ nothing  └──changed again──▶ worked out anew
"""

from __future__ import annotations

import contextlib
import gc
import marshal
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

from engine import __version__
from engine.cli.asking import configured, split_spec
from engine.cli.words import plain_words
from engine.config import project_file, user_file
from engine.kept_graph import Evaluation
from engine.record import Stale, record_path
from engine.request import Prepared, Request, prepare_early
from engine.watch.told import told
from store import stock
from store.alone import is_free
from store.digest import Digest, digest_bytes
from store.errors import BnError, HostError
from store.ingest import MOST_REREAD, MOST_UNWRITTEN, RACY_NS, Signature, signature
from store.records import define, evolve, field, frozen
from store.store import Store
from store.where import default_store

VARIABLES: Final = ("HOME", "DPKG_ADMINDIR")
"""Of the environment, what an evaluation depends on besides where store and configuration are."""


@frozen
class Command:
    """A command line, the directory where it is run, and the name of its record."""

    directory: str
    words: tuple[str, ...]
    record: str

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Read what `note` wrote. Raises ValueError, EOFError and TypeError where it is none."""
        directory, record, *words = marshal.loads(data)
        return cls(directory, tuple(words), record)


@define(eq=False)
class Early:
    """What was worked out for a build, in a store that is at rest, and all that it stands on."""

    store: Store
    since: float
    """When that was begun, in seconds since 1970."""
    _given: tuple[object, ...]
    _stale: Stale
    _ready: Prepared
    _files: dict[str, _File]
    _state: tuple[int, int]
    _woken_ns: int = field(default=0, init=False)

    def wake(self) -> None:
        """Open the store, which the caller closes. Raises BnError, also where it is another one."""
        self._woken_ns = time.time_ns()
        self.store.wake()
        if self.store.index.state() != self._state:
            self.store.close()
            raise HostError(f"{self.store.root}: changed meanwhile")

    def prepared(self, stale: Stale | None) -> Prepared | None:
        """Return what there is to do for a build that has its lease, where what is `stale` and all
        else is as it was when that was worked out; else None."""
        try:
            if (
                stale is None
                or stale.identity != self._stale.identity
                or self.store.index.state() != self._state
                or not all(file.is_same(path) for path, file in self._files.items())
            ):
                return None
        except OSError:
            return None
        stock.missed(stock.EARLY, b"")
        # all that it was worked out from was looked at after the store was woken
        evaluation = evolve(self._ready.evaluation, taken_ns=self._woken_ns)
        return evolve(self._ready, evaluation=evaluation)


@frozen
class _File:
    """What a file looked like, and the digest of its contents; none where its times tell of every
    later change."""

    mark: Signature
    contents: Digest | None

    def is_same(self, path: str) -> bool:
        """Say whether the file at `path` is as it was. Raises OSError."""
        if signature(os.lstat(path)) != self.mark:
            return False
        return self.contents is None or _contents(path) == self.contents


_now: Early | None = None


def note() -> None:
    """Note the command of this process as what the next one will probably be asked for."""
    if sys.argv[1:2] == ["build"]:
        with contextlib.suppress(OSError):  # the directory is gone
            stock.missed(stock.COMMAND, marshal.dumps((os.getcwd(), _record(), *sys.argv)))


def work_out(command: Command | None) -> None:
    """Work out what there is to do for a command, in place of what was worked out before."""
    global _now
    _now = None
    if command is None:
        return
    words, sys.argv = sys.argv, [*command.words]
    collecting = gc.isenabled()
    gc.disable()
    try:
        os.chdir(command.directory)
        _now = _worked_out()
    except (BnError, OSError):
        pass
    finally:
        sys.argv = words
        os.chdir("/")
        gc.freeze()
        if collecting:
            gc.enable()


def take() -> Early | None:
    """Return what was worked out for this process's command, with its store open; None where there
    is nothing, or something else is asked for."""
    global _now
    found, _now = _now, None
    with contextlib.suppress(BnError, OSError):
        if found is not None and found._given == tuple(_given()):
            found.wake()
            return found
    return None


def _worked_out() -> Early | None:
    plain = plain_words(sys.argv[2:])
    since, given = time.time(), tuple(_given())
    root, config = configured()
    if plain is None or (config.cache is not None and config.cache.remotes):
        return None
    stale = told(str(root))
    if stale is None or len(stale.paths()) > MOST_UNWRITTEN:
        return None
    spec, targets = split_spec(plain[0])
    request = Request(spec=spec, targets=targets, **plain[1])
    with contextlib.ExitStack() as opened:
        store = opened.enter_context(Store(root, config.tiers, config.policy, sweep_later=True))
        with store.lease("build"):
            began = time.time_ns()
            ready = prepare_early(store, request, stale)
            files = None if ready is None else _files(stale, ready.evaluation, began)
            if ready is None or files is None:
                return None
            store.sweep()
            state = store.rest()
            opened.pop_all()
            if not is_free(root):  # who collects now noted that before `state`, or is about to
                return None
    return Early(store, since, given, stale, ready, files, state)


def _files(stale: Stale, evaluation: Evaluation, began: int) -> dict[str, _File] | None:
    """Return what tells whether the files that have changed are as an evaluation saw them that
    `began` then, in nanoseconds since 1970; None where that cannot be told, or costs too much."""
    found = {}
    size = 0
    for path in stale.paths():
        mark, source = evaluation.watched.get(path), evaluation.file(path)
        if mark is None or (source is None and max(mark[:2]) >= began - RACY_NS):
            return None
        size += 0 if source is None else source.size
        if size > MOST_REREAD:
            return None
        found[path] = _File(mark, None if source is None else source.digest)
    return found


def _contents(path: str) -> Digest:
    with open(path, "rb", buffering=0) as file:
        return digest_bytes(file.readall())


def _given() -> Iterator[object]:
    """Yield what is asked for, and what says in which store and how. Raises OSError."""
    yield (os.getcwd(), sys.argv[1:], str(default_store()))
    yield [os.environ.get(name) for name in VARIABLES]
    for file in (user_file(), project_file(Path.cwd())):
        there = file is not None and os.path.lexists(file)
        yield (file, signature(os.stat(file)) if file is not None and there else None)


def _record() -> str:
    return os.path.basename(record_path(default_store(), [__version__, *sys.argv[2:]]))
