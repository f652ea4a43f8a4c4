"""A store opened: the CAS, its index and its action cache under one directory."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from store.action_cache import ActionCache
from store.cas import Cas
from store.errors import BnError, HostError, host_error
from store.index import Index
from store.leases import Lease
from store.owners import is_abandoned
from store.policy import Policy
from store.spread import make_spread
from store.tiers import TierSpec

if TYPE_CHECKING:
    from store.entries import Entries

FORMAT: Final = "2"
"""The layout's version, in the file `format`; an unknown one is refused, never guessed at."""

_OLDER: Final = ("1", "1>2")
"""Versions that are brought up to date (`store.upgrade`)."""


class Store:
    """Everything under one directory; a context manager."""

    def __init__(
        self,
        root: Path,
        tiers: Iterable[TierSpec] = (),
        policy: Policy | None = None,
        *,
        sweep_later: bool = False,
    ) -> None:
        """Open the store at the absolute path `root`, made where it is not there.

        The index, records and timelines are there; blobs are in `tiers`, by default there, too.
        What processes that are gone left is removed now, or by `sweep`, or on closing. Raises
        HostError where the directory cannot be used or is of another format.
        """
        self.root = root
        self.policy = policy or Policy()
        self.cas = Cas(root, tiers)
        try:
            older = _format_of(root) != FORMAT
            root.mkdir(parents=True, exist_ok=True)
            self.read_only = not os.access(root, os.W_OK)
            if self.read_only and not (root / "format").exists():
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(root))
            self.cas.create()
            if older:
                self._upgrade()
            if not self.read_only:
                (root / "index").mkdir(exist_ok=True)
        except OSError as error:
            raise host_error(error, "cannot open the store") from error
        with contextlib.ExitStack() as opened:
            opened.callback(self.cas.close)
            self.cas.open_tables()
            self.index = Index(root / "index", readonly=self.read_only)
            opened.callback(self.index.close)
            # last: a store that has a format and no index is one whose index was lost
            if not (root / "format").exists():
                _note_format(root, FORMAT)
            opened.pop_all()
        self.index.before_write = self.cas.commit_objects
        self.actions = ActionCache(self.cas, self.index)
        self._entries: Entries | None = None
        self.closing = contextlib.ExitStack()
        """What must have ended before the tables are closed."""
        self._relaxed = False
        self._unswept = not self.read_only
        if not sweep_later:
            self.sweep()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # an error on the way is what is to be told, not what follows from it
        with contextlib.suppress(*[BnError] if kind else []):
            self.close()

    def close(self) -> None:
        """Commit the objects that were put, and close all tables."""
        self.closing.close()
        try:
            if self.cas.upstream is not None:
                self.cas.upstream.close()
            if not self.read_only:
                self.cas.commit_objects()
                self.sweep()
        finally:
            if self._entries is not None:
                self._entries.close()
            self.index.close()
            self.cas.close()

    def work(self) -> Path:
        """Return the directory, on the store's file system, under which actions run."""
        path = self.cas.root / "work"
        make_spread(str(path))
        return path

    def trees(self) -> Path:
        """Return the directory of the primary tier in which trees are shown as directories."""
        path = self.cas.root / "trees"
        make_spread(str(path))
        return path

    def entries(self) -> Entries:
        """Return what clients of the cache server stored; opened, and mended where its tables are
        damaged, when it is first asked for. Raises HostError."""
        if self._entries is None:
            if self.read_only:
                from store.entries import Entries

                self._entries = Entries(self.root, readonly=True)
            else:
                from store.entry_mending import opened

                self._entries = opened(self.root, relaxed=self._relaxed)
        return self._entries

    def relax(self) -> None:
        """Let commits of objects and entries cost no sync from now on: what was written survives
        this process, but not the machine before somebody syncs. To be called before anything is
        used. Only for a server that says so to its clients."""
        self._relaxed = True
        for tier in self.cas.tiers:
            if tier.table is not None:
                tier.table.relax()

    @property
    def is_relaxed(self) -> bool:
        """Whether commits of objects and entries are not synced."""
        return self._relaxed

    def has_entries(self) -> bool:
        """Say whether this store was used by a cache server."""
        return self._entries is not None or (self.root / "entries" / "data.mdb").exists()

    def lease(self, purpose: str, since: float | None = None) -> Lease:
        """Return a lease, to be entered at once, that keeps the collector from what is used now; or
        from what has been used `since` (seconds since 1970), where nothing was collected."""
        if since is None:
            self.cas.begin_use()
        return Lease(self.root, purpose, since=since)

    def rest(self) -> tuple[int, int]:
        """Commit what was put and let go of all files, until `wake`; return what the index's state
        is then."""
        self.cas.commit_objects()
        state = self.index.state()
        self.index.close()
        self.cas.close()
        return state

    def wake(self) -> None:
        """Use the store again after `rest`. Raises HostError and IntegrityError."""
        if _format_of(self.root) != FORMAT:
            raise HostError(f"{self.root}: the store was brought up to date meanwhile")
        self.index.open()

    def _upgrade(self) -> None:
        """Bring a store of an older format up to date."""
        from store.upgrade import BETWEEN, upgrade_store

        if self.read_only:
            raise HostError(
                f"{self.root}: the store was made by an older bn and is read-only",
                "make it writable for a moment, so that it can be brought up to date, "
                "or use another one with BN_STORE",
            )
        tables = [tier.table for tier in self.cas.tier_set.readable() if tier.table is not None]
        with self.cas.gate.closed():  # nobody comes meanwhile
            if _format_of(self.root) != FORMAT:
                upgrade_store(self.root, tables, lambda: _note_format(self.root, BETWEEN))
                _note_format(self.root, FORMAT)

    def sweep(self) -> None:
        """Remove what processes that are gone left unfinished, once."""
        if not self._unswept:
            return
        self._unswept = False
        tiers = [tier for tier in self.cas.tiers if tier.writable]
        places = [
            place
            for tier in tiers
            for place in (*tier.temporaries.directories(), f"{tier.root}/work")
        ]
        for place in places:
            with contextlib.suppress(OSError):  # whoever needs a tier that is gone will say it
                for name in os.listdir(place):
                    if is_abandoned(name):
                        remove_tree(f"{place}/{name}")


def remove_tree(path: str | Path) -> None:
    """Remove a file or a directory with all that is below it, locked directories included.

    What cannot be removed stays. Directories are moved up beside `path` before they are emptied:
    an action may leave them nested deeper than Python can recurse or a path can be long.
    """
    if os.path.islink(path) or not os.path.isdir(path):
        Path(path).unlink(missing_ok=True)
        return
    pending = [str(path)]
    moved = 0
    while pending:
        directory = pending.pop()
        with contextlib.suppress(OSError):
            os.chmod(directory, 0o700)
            for entry in list(os.scandir(directory)):
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.path)
                    continue
                # to move it, its own `..` is written
                os.chmod(entry.path, 0o700)
                aside = f"{path}~{moved}"
                moved += 1
                os.rename(entry.path, aside)
                pending.append(aside)
            os.rmdir(directory)


def _note_format(root: Path, version: str) -> None:
    """Write the format down, whole or not at all: the disk may be full. Raises HostError."""
    temporary = root / f"format.{os.getpid()}"
    try:
        temporary.write_text(f"{version}\n")
        os.replace(temporary, root / "format")
    except OSError as error:
        raise host_error(error, "cannot open the store") from error
    finally:
        temporary.unlink(missing_ok=True)


def _format_of(root: Path) -> str:
    """Return the format of the store at `root`, that of a new one where there is none. Raises
    HostError where it is not known."""
    try:
        found = (root / "format").read_text().strip()
    except FileNotFoundError:
        return FORMAT
    if found != FORMAT and found not in _OLDER:
        raise HostError(
            f"{root}: the store has format {found!r}, this bn knows {FORMAT!r}",
            "use the bn that made it, or another store with BN_STORE",
        )
    return found
