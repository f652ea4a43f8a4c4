"""Verification: every blob read again, every entry followed, every shown tree compared.

::

    blobs (bytes, mode, time, name) ─▶ entries of the index (what they name) ─▶ shown trees

With repair, bad bytes go to quarantine (a good copy of another tier or form takes their place),
entries that name what is gone are dropped, and broken shown trees removed: then nothing is wrong,
and what was lost is built again when it is needed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from attrs import frozen

from store.cas import Cas
from store.census import recount
from store.closure import read
from store.comparing import differs
from store.digest import Digest, digest_bytes, digest_file, is_digest
from store.entry_rows import Row
from store.errors import BnError
from store.index import Table, check
from store.keep import alias, shown_trees
from store.objects import ActionResult, Directory, Entry, File, Realisation, Tree
from store.owners import mark
from store.packing import digest_of, opened
from store.roots import root_of
from store.store import Store, remove_tree
from store.tiers import EPOCH_NS, EXECUTABLE_MODE, FILE_MODE, FILES, Form, Held, Tier
from store.upstream import place

_BAD: Final = "its bytes are not what its name says"

THREADS: Final = 4
"""Files that are read at a time: it hides a disk's latency and costs little where there is none."""


@frozen
class Problem:
    """Something that is not as it should be: a blob, an entry, a shown tree or a stray file;
    `repaired` says what was done about it."""

    kind: str
    where: str
    what: str
    repaired: str | None = None


@frozen(kw_only=True)
class Report:
    """What was looked at and what is wrong; `bytes` are those that were hashed."""

    blobs: int
    bytes: int
    entries: int
    shown: int
    problems: tuple[Problem, ...]
    seconds: float

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong, or not any more."""
        return all(problem.repaired for problem in self.problems)


def verify(store: Store, *, repair: bool = False, sample: int = 1) -> Report:
    """Check the store; with `sample` only one blob in so many is hashed, others each time.

    Builds and collections may go on meanwhile. Raises IntegrityError where the index is corrupt.
    """
    started = time.monotonic()
    check(store.root / "index")
    if not store.read_only:
        store.cas.commit_objects()
    for tier in store.cas.tier_set.readable():
        if tier.table is not None:
            tier.table.check()
    if store.has_entries():
        store.entries().check()
    checker = _Checker(store, repair, sample)
    checker.all_blobs()
    checker.entries()
    checker.shown_trees()
    return Report(
        blobs=checker.blobs,
        bytes=checker.bytes,
        entries=checker.counted,
        shown=checker.shown,
        problems=tuple(checker.problems),
        seconds=time.monotonic() - started,
    )


@frozen
class _Finding:
    """What is wrong with one file; `bad` where its bytes are, else its mode or time."""

    what: str
    bad: bool


class _Checker:
    def __init__(self, store: Store, repair: bool, sample: int) -> None:
        self.problems: list[Problem] = []
        self.blobs = self.bytes = self.counted = self.shown = 0
        self._store = store
        self._cas: Cas = store.cas
        self._repair = repair
        self._sample = sample
        self._turn = secrets.randbelow(sample)
        self._good: dict[Digest, int | None] = {}
        self._complete: dict[Digest, bool] = {}

    def _add(self, kind: str, where: str, what: str, repair: Callable[[], str]) -> None:
        done = None
        if self._repair:
            with contextlib.suppress(OSError, BnError):
                done = repair()
        self.problems.append(Problem(kind, where, what, done))

    # blobs

    def all_blobs(self) -> None:
        """Check the files in every tier."""
        from concurrent.futures import ThreadPoolExecutor

        broken: list[tuple[Tier, Held, _Finding]] = []
        with ThreadPoolExecutor(THREADS) as pool:
            for tier in [tier for tier in self._cas.tiers if tier.readable]:
                self._strays(tier)
                files = list(tier.held())
                for held, found in zip(
                    files,
                    pool.map(lambda one, tier=tier: self._look(tier, one), files),
                    strict=True,
                ):
                    self.blobs += 1
                    self.bytes += held.size if self._is_sampled(held) else 0
                    if found is None or not found.bad:
                        plain = None if held.form is Form.PACKED else held.size
                        self._good[held.digest] = plain or self._good.get(held.digest)
                    if found is not None:
                        broken.append((tier, held, found))
        for tier, held, found in broken:
            mend = self._replace if found.bad else self._mend
            self._add(
                "blob", tier.path(held.digest, held.form), found.what, _call(mend, tier, held)
            )

    def _look(self, tier: Tier, held: Held) -> _Finding | None:
        """Return what is wrong with a form, None if nothing is or it is gone meanwhile."""
        if held.form is Form.OBJECT:
            data = tier.read_object(held.digest) if self._is_sampled(held) else None
            bad = data is not None and digest_bytes(data) != held.digest
            return _Finding(_BAD, bad=True) if bad else None
        path = tier.path(held.digest, held.form)
        try:
            if self._is_sampled(held) and _digest(path, held) != held.digest:
                return _Finding(_BAD, bad=True)
            status = os.lstat(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            return _Finding(f"cannot be read: {(error.strerror or '').lower()}", bad=True)
        mode = EXECUTABLE_MODE if held.form is Form.EXECUTABLE else FILE_MODE
        if not stat.S_ISREG(status.st_mode):
            return _Finding("is no file", bad=True)
        if stat.S_IMODE(status.st_mode) != mode:
            return _Finding(f"has mode {stat.S_IMODE(status.st_mode):04o}", bad=False)
        if status.st_mtime_ns != EPOCH_NS[0]:
            return _Finding("has a modification time that no blob has", bad=False)
        return None

    def _is_sampled(self, held: Held) -> bool:
        return int(held.digest[:8], 16) % self._sample == self._turn

    def _strays(self, tier: Tier) -> None:
        """Find what lies among the blobs and is none."""
        for directory in (tier.root / "blobs").iterdir():
            for item in os.scandir(directory) if directory.is_dir() else ():
                name, dot, form = item.name.partition(".")
                if is_digest(directory.name + name) and dot + form in FILES:
                    continue
                self._add("stray file", item.path, "is no blob", _call(_set_aside, tier, item.path))

    def _replace(self, tier: Tier, held: Held) -> str:
        """Set bad bytes aside, and take a good copy of the blob where there is one."""
        tier.quarantine(held.digest, held.form)
        if read(self._cas, held.digest) is None:
            self._good.pop(held.digest, None)
            return "quarantined; a build makes it again"
        if tier is self._cas.primary and held.form is not Form.OBJECT:
            self._cas.promote(held.digest, held.form is Form.EXECUTABLE)
        return "quarantined; another copy is good"

    def _mend(self, tier: Tier, held: Held) -> str:
        path = tier.path(held.digest, held.form)
        if _digest(path, held) != held.digest:
            return self._replace(tier, held)
        os.chmod(path, EXECUTABLE_MODE if held.form is Form.EXECUTABLE else FILE_MODE)
        os.utime(path, ns=EPOCH_NS)
        return "mended: its bytes are right"

    def _there(self, digest: Digest, size: int | None = None) -> bool:
        """Say whether a good blob is there (of `size`), also if it came or moved just now."""
        if digest not in self._good:
            return read(self._cas, digest) is not None
        known = self._good[digest]
        return size is None or known is None or known == size

    def _has_tree(self, digest: Digest) -> bool:
        """Say whether a tree and all below it is there."""
        known = self._complete.get(digest)
        if known is None:
            self._complete[digest] = False
            data = read(self._cas, digest)
            try:
                tree = None if data is None else Tree.decode(data)
            except BnError:
                tree = None
            known = tree is not None and all(map(self._has, tree.entries.values()))
            self._complete[digest] = known
        return known

    def _has(self, entry: Entry) -> bool:
        match entry:
            case File(digest, size):
                return self._there(digest, size) or self._is_upstream(digest, size)
            case Directory(digest):
                return self._has_tree(digest)
        return True

    def _is_upstream(self, digest: Digest, size: int | None = None) -> bool:
        """Say whether the blob is known to be at a remote, where it is fetched when it is needed;
        nobody is asked."""
        known = place(self._store.index.get(Table.REMOTE, digest))
        return known is not None and known.fits(size)

    # entries

    def entries(self) -> None:
        """Check that entries of the index name existing, complete things."""
        tests: Mapping[Table, Callable[[str, bytes], str | None]] = {
            Table.ACTION_CACHE: self._result,
            Table.REALISATIONS: self._realisation,
            Table.DERIVED: self._derived,
            Table.ALIASES: self._alias,
            Table.ROOTS: self._root,
        }
        for table, test in tests.items():
            for key, value in self._store.index.items(table):
                self.counted += 1
                what = test(key, value)
                if what is None or self._store.index.get(table, key) != value:
                    continue  # a collection may have removed it meanwhile
                self._add("entry", f"{table}/{key}", what, _call(self._forget, table, key, value))
        for *name, row in self._store.entries().all() if self._store.has_entries() else ():
            self.counted += 1
            if not self._there(row.digest, row.size):
                where, what = "/".join(["cache", *name]), "names a blob that is not there"
                self._add("entry", where, what, _call(self._drop, row))
        if self._repair and self.problems:
            recount(self._store.cas, self._store.index)

    def _forget(self, table: Table, key: str, value: bytes) -> str:
        self._store.index.edit(table, [key], lambda _, now: None if now == value else now)
        return "dropped"

    def _result(self, key: str, value: bytes) -> str | None:
        data = _named(self._cas, value)
        if data is None:
            return "names a result that is not there"
        try:
            result = ActionResult.decode(data)
        except BnError as error:
            return f"names what is no result: {error.message}"
        has_log = self._there(result.log) or self._is_upstream(result.log)
        if not self._has_tree(result.outputs) or not has_log:
            return "names a result whose outputs are not all there"
        return None

    def _realisation(self, key: str, value: bytes) -> str | None:
        data = _named(self._cas, value)
        if data is None:
            return "names a realisation that is not there"
        try:
            found = Realisation.decode(data)
        except BnError as error:
            return f"names what is no realisation: {error.message}"
        if found.recipe != key:
            return "names another recipe's realisation"
        return None if self._has_tree(found.outputs) else "its outputs are not all there"

    def _derived(self, key: str, value: bytes) -> str | None:
        digest = Digest(value.decode(errors="replace"))
        whole = is_digest(digest) and self._has_tree(digest)
        return None if whole else "names a tree that is not all there"

    def _alias(self, key: str, value: bytes) -> str | None:
        digest = alias(value)
        return None if digest and self._there(digest) else "names a download that is not there"

    def _root(self, key: str, value: bytes) -> str | None:
        root = root_of(key, value)
        if root is None:
            return "is damaged"
        whole = not root.live or self._has_tree(root.tree)
        return None if whole else "names a tree that is not all there"

    def _drop(self, row: Row) -> str:
        self._store.entries().remove([row])
        return "dropped"

    # shown trees

    def shown_trees(self) -> None:
        """Compare the directories that show trees with what they should show."""
        for path, _ in shown_trees(self._store):
            self.shown += 1
            what = differs(self._cas, path, Digest(path.name))
            if what is not None and path.exists():
                self._add("shown tree", str(path), what, _call(_remove, path))


def _digest(path: str, held: Held) -> Digest:
    if held.form is Form.PACKED:
        with opened(path, packed=True) as reading:
            return digest_of(reading)
    return digest_file(path, held.size)


def _named(cas: Cas, value: bytes) -> bytes | None:
    digest = Digest(value.decode(errors="replace"))
    return read(cas, digest) if is_digest(digest) else None


def _set_aside(tier: Tier, path: str) -> str:
    aside = tier.root / "quarantine"
    aside.mkdir(exist_ok=True)
    os.rename(path, aside / f"{os.path.basename(path)}.{os.getpid()}")
    return "moved to quarantine"


def _remove(path: Path) -> str:
    aside = path.parent.parent / "tmp" / f"{mark()}-broken-{path.name}"
    path.rename(aside)
    remove_tree(aside)
    return "removed; it is made again when it is needed"


def _call(action: Callable[..., str], *arguments: object) -> Callable[[], str]:
    return lambda: action(*arguments)
