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
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final, Self

from engine import __version__
from engine.ahead import last_kind
from engine.cli.asking import configured, split_spec
from engine.cli.words import plain_words
from engine.config import project_file, user_file
from engine.kept_graph import Evaluation
from engine.record import FIRST_READ, Record, Stale, changed_files, record_path
from engine.request import Prepared, Request, prepare_early
from engine.timeline.events import BuildStarted
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


PROGRAM: Final = "bn"

FIRST_EVENTS: Final = 64
"""Events of a timeline among which is that of the build's start."""


@frozen
class Command:
    """A command line, and the directory where it is run."""

    directory: str
    words: tuple[str, ...]

    @classmethod
    def of(cls, record: Path) -> Self:
        """Return what was asked for when a record was written. Raises OSError and ValueError where
        that is not known, or another bn was asked."""
        with open(record, "rb") as file:
            written = Record(file.read(FIRST_READ), file.read)
        with open(written.timeline, "rb") as lines:
            asked = next(filter(None, map(_asked, islice(lines, FIRST_EVENTS))), ())
        words = tuple(map(str, asked))
        name = record_path(record.parent.parent, [__version__, *words[1:]], written.directory)
        if words[:1] != ("build",) or name != str(record):
            raise ValueError("what was asked for is not known")
        return cls(written.directory, (PROGRAM, *words))


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


def work_out(record: Path | None) -> None:
    """Work out what there is to do for the command of a record, in place of what was worked out
    before."""
    global _now
    _now = None
    if record is not None:
        _now = _as_asked(record, lambda root: _worked_out(root, lambda: told(str(root))))


def rehearse(record: Path) -> None:
    """Read all that the command of a record reads where nothing changed, so that it is noted what
    of that it would be well to have at hand."""
    _as_asked(record, lambda root: _worked_out(root, lambda: _unchanged(record), _note_cell))


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


def _asked(line: bytes) -> Sequence[object]:
    """Return the command line of the event that a line of a timeline tells of, if it is of a
    build's start. Raises ValueError."""
    match json.loads(line):
        case {"event": BuildStarted.__name__, "command": [*words]}:
            return words
    return ()


def _as_asked(record: Path, work: Callable[[Path], Early | None]) -> Early | None:
    """Return what comes of some `work` for the command of a record, in its directory, given where
    the store is. What fails there fails again when somebody asks."""
    words, collecting = sys.argv, gc.isenabled()
    gc.disable()
    try:
        command = Command.of(record)
        os.chdir(command.directory)
        sys.argv = [*command.words]
        return work(record.parent.parent)
    except (BnError, OSError, ValueError):
        return None
    finally:
        sys.argv = words
        os.chdir("/")
        gc.freeze()
        if collecting:
            gc.enable()


def _worked_out(
    store_root: Path,
    find_stale: Callable[[], Stale | None],
    look: Callable[[Store, Request], None] = lambda store, request: None,
) -> Early | None:
    """Work out what there is to do for this process's command where what is stale is to be found
    so, and have a `look` at the store meanwhile."""
    plain = plain_words(sys.argv[2:])
    since, given = time.time(), tuple(_given())
    root, config = configured()
    if plain is None or root != store_root or (config.cache is not None and config.cache.remotes):
        return None
    stale = find_stale()
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
            look(store, request)
            store.sweep()
            state = store.rest()
            opened.pop_all()
            if not is_free(root):  # who collects now noted that before `state`, or is about to
                return None
    return Early(store, since, given, stale, ready, files, state)


def _unchanged(path: Path) -> Stale | None:
    """Return that of the record at `path` nothing is stale; None where something is. Raises OSError
    and ValueError."""
    record = Record(path.read_bytes())
    names, marks = record.body(lambda: b"")
    return None if changed_files(names, marks) else Stale(record, names, marks, ())


def _note_cell(store: Store, request: Request) -> None:
    kind = last_kind(store, request.spec)
    if kind is not None:
        kind.note()


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
