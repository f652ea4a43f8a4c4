"""The content-addressed store: blobs by digest, over one or more tiers.

A file lies at `blobs/ab/cdef…` (mode 0444) or, as an executable, at `blobs/ab/cdef….x` (0555), so
that a tree can be materialised with hard links alone. Every one carries the same modification
time: one that somebody changed in place betrays itself by another and is put into quarantine.
Objects (trees, actions, results, short logs) lie in a table instead, where this process sees them
at once and others after `commit_objects` or `sync`.

::

    write ─▶ primary tier ──demote (cold)──▶ slower tiers, compressed
               ▲    └──copy (hot)──▶ RAM disk
               └──────promote, when something is staged or read from there

Behind the tiers may be an `upstream`: what it is known to have counts as here, and is fetched when
somebody needs the bytes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Final

from store import stock
from store.blob_files import TOUCH_SECONDS as TOUCH_SECONDS
from store.blob_files import BlobFiles
from store.blob_files import MissingBlob as MissingBlob
from store.digest import Digest, digest_bytes
from store.errors import BnError
from store.object_store import Objects
from store.objects import EMPTY_TREE, Directory, Entry, File, Tree
from store.packed_entries import PackedEntries
from store.tiers import EPOCH as EPOCH
from store.tiers import EPOCH_NS as EPOCH_NS
from store.tiers import Form, Tier, TierSpec, form_of
from store.upstream import UNKNOWN, Upstream

_USES_KEPT: Final = 16384
"""Blobs whose uses are counted; of more the counts of those that were used least are dropped, as
only the most used ones are noted (`store.heat`)."""
_TREES_KEPT: Final = 4096
_ENTRIES_KEPT: Final = 32768
"""Trees, and entries of trees, up to which they are kept in memory."""

_PACKED: Final = 4
"""Packed entries in the room of another one."""

_KNOWN_KEPT: Final = 16384
"""Digests of which it is remembered that all below them is here."""

_LINK_REFUSED: Final = (errno.EMLINK, errno.EXDEV, errno.EPERM, errno.EACCES)


class Cas(BlobFiles):
    """Blobs and trees by digest. Safe for several processes at once.

    `primary` is the fastest durable tier that can be written: what is new goes there, and actions
    run on its file system.
    """

    def __init__(self, root: Path, tiers: Iterable[TierSpec] = ()) -> None:
        super().__init__(root, tiers)
        self.uses: dict[Digest, int] = {}
        self.upstream: Upstream | None = None
        self.settled: Callable[[], object] = int
        """Waits for what is made durable beside all else, for who relies on it; raises what made
        that fail."""
        self._trees: dict[Digest, Tree] = {}
        self._entries = 0
        self._known: set[Digest] = set()
        self._objects = Objects(self.tier_set, self.gate, self._touch_before)

    def open_tables(self) -> None:
        """Open the tables of objects. Raises IntegrityError where one is damaged."""
        for tier in self.tier_set.readable():
            if tier.table is not None:
                self.tier_set.attempt(tier, tier.table.open)

    def mend_tables(self) -> None:
        """Make damaged tables of objects again from what is good in them. Nobody else may use the
        store."""
        for tier in self.tier_set.readable():
            if tier.table is not None:
                aside = tier.root / "quarantine" / f"objects.{time.time_ns()}"
                self.tier_set.attempt(tier, tier.table.mend, aside)

    def close(self) -> None:
        """Close the tables of objects; one opens again when it is asked for."""
        for tier in self.tiers:
            if tier.table is not None:
                tier.table.close()

    def path(self, digest: Digest, executable: bool = False) -> str:
        """Return where this variant of the blob lies in the first tier that has it, else where it
        would lie in the primary one. An object becomes a file for that."""
        form = form_of(executable)
        there = (tier.path(digest, form) for tier in self.tier_set.readable())
        found = next(filter(os.path.exists, there), None)
        anywhere = (tier.find(digest) for tier in self.tier_set.readable())
        found = found or next(filter(None, anywhere), None)
        if found is None and self.object(digest) is not None:
            with contextlib.suppress(BnError):
                return self.promote(digest, executable)
        return found or self.primary.path(digest, form)

    @property
    def touch_before(self) -> float:
        """The change time (seconds since 1970) from which on a blob counts as used lately."""
        return self._touch_before

    def begin_use(self) -> None:
        """Forget what is known to be here, and when: what is used from now on shows it."""
        self._touch_before = self._objects.touch_before = time.time() - TOUCH_SECONDS
        self._forget()

    def digests(self, prefix: str) -> set[Digest]:
        """Return the digests that begin with `prefix` (two hexadecimal digits at least) of what
        lies in the primary tier."""
        found = self.tier_set.attempt(self.primary, lambda: list(self.primary.held(prefix)))
        return {*(held.digest for held in found or ()), *self._objects.all_waiting(prefix)}

    # reading

    def has(self, digest: Digest) -> bool:
        """Say whether the blob is in some durable tier and untouched, waits for being committed, or
        is upstream; one that only the RAM disk has left is brought back from there."""
        return self.is_here(digest) or self._is_upstream(digest)

    def is_here(self, digest: Digest, size: int | None = None) -> bool:
        """Say the same as `has`, of this store's own tiers alone."""
        return self._objects.has(digest, size) or self._kept(digest, size)

    def recent_objects(self, digests: Collection[Digest]) -> set[Digest]:
        """Return those of `digests` that are known at one look to be objects here and to have been
        used lately; of the others `has` tells."""
        return self._objects.recent(digests)

    def waiting(self, digest: Digest) -> bytes | None:
        """Return an object that is not committed yet."""
        return self._objects.waiting(digest)

    def object(self, digest: Digest) -> bytes | None:
        """Return an object's bytes, checked; None where it is none."""
        return self._objects.get(digest)

    def get_bytes(self, digest: Digest, *, again: bool = True) -> bytes:
        """Return the blob's bytes, checked. Raises MissingBlob, also where the check fails."""
        data = self._objects.get(digest)
        if data is not None:
            return data
        self._used(digest)
        for tier in self.tier_set.reading(digest):
            data = self.tier_set.attempt(tier, tier.read, digest)
            if data is None:
                continue
            if digest_bytes(data) == digest:
                return data
            self._quarantine(tier, digest)
        if again and self._fetched(digest):
            return self.get_bytes(digest, again=False)
        raise MissingBlob(digest)

    def get_tree(self, digest: Digest) -> Tree:
        """Return the tree of that digest. Raises MissingBlob or IntegrityError."""
        tree = self._trees.get(digest)
        if tree is None:
            data = self.get_bytes(digest)
            tree = stock.made(stock.TREE, digest, data, lambda: Tree.decode(data))
            self._remember(digest, tree)
        return tree

    def knows_tree(self, digest: Digest) -> bool:
        """Say whether a tree is at hand."""
        return digest in self._trees

    def know_tree(self, digest: Digest, tree: Tree) -> None:
        """Take over what `get_tree` would read, from who has it written down elsewhere."""
        self._remember(digest, tree)

    def complete(self, entry: Entry) -> bool:
        """Say whether every blob under `entry` is here, trees themselves included."""
        match entry:
            case File(digest, size):
                if digest not in self._known and (
                    self._kept(digest, size)
                    or self._objects.has(digest, size)
                    or self._is_upstream(digest, size)
                ):
                    self._note_known(digest)
                return digest in self._known
            case Directory(digest):
                if digest in self._known:
                    return True
                try:
                    tree = self.get_tree(digest)
                except BnError:
                    return False
                if self.has(digest) and all(map(self.complete, tree.entries.values())):
                    self._note_known(digest)
                return digest in self._known
        return True

    def open(self, digest: Digest) -> int:
        """Return a file descriptor for reading the blob's bytes; what is open stays readable.

        A blob that is only in a slow tier is brought to the primary one first: that may block. An
        object is a file in memory. Raises MissingBlob.
        """
        self._used(digest)
        for attempt in range(2):
            if (data := self.object(digest)) is not None:
                return _in_memory(data)
            for tier in self.tier_set.reading(digest):
                for form in (Form.PLAIN, Form.EXECUTABLE):
                    try:
                        return os.open(tier.path(digest, form), os.O_RDONLY | os.O_CLOEXEC)
                    except OSError:
                        continue
            if attempt == 0:
                self.promote(digest)
        raise MissingBlob(digest)

    def is_near(self, digest: Digest) -> bool:
        """Say whether `open` will find the blob without bringing it from a slow tier."""
        return self.waiting(digest) is not None or any(
            tier.has_object(digest) or os.path.exists(tier.path(digest, form))
            for tier in self.tier_set.readable()
            for form in (Form.PLAIN, Form.EXECUTABLE)
        )

    def local(self, digest: Digest, executable: bool = False, size: int | None = None) -> str:
        """Return the path of this variant in the primary tier, brought there if need be.

        Raises MissingBlob where nobody has it, or where it was changed in place.
        """
        primary, form = self.primary, form_of(executable)
        if self._intact(primary, digest, form, size):
            return primary.path(digest, form)
        return self.promote(digest, executable, size)

    def promote(self, digest: Digest, executable: bool = False, size: int | None = None) -> str:
        """Bring a variant of a blob into the primary tier, checked, and return its path there.

        An object becomes a file. Raises MissingBlob, and HostError where no tier can take it.
        """
        for _ in range(2):
            data = self.object(digest)
            if data is not None and size in (None, len(data)):
                return self._write_file(digest, data, executable)
            for tier in self.tier_set.readable():
                if self._holder(digest, size, [tier]) is None:
                    continue
                try:
                    path = self.tier_set.copy(tier, self._copy, digest, executable)
                except ValueError:
                    self._quarantine(tier, digest)
                    continue
                if path is not None:
                    return path
            if not self._fetched(digest, executable, size):
                break
        raise MissingBlob(digest)

    # writing

    def put_object(self, data: bytes, *, new: bool = False) -> Digest:
        """Store the bytes of an object, or of a log, and return their digest. Short ones go to the
        table of objects, when they are committed. Raises HostError where no tier can take it.

        One that is `new`, which this is not the place to find out, is not looked for before.
        """
        digest = digest_bytes(data)
        return digest if self._objects.put(digest, data, new=new) else self.put_bytes(data)

    def put_tree(self, tree: Tree, *, new: bool = False) -> Digest:
        """Store `tree` (its blobs must be there) and return its digest."""
        data = tree.encode()
        digest = self.put_object(data, new=new)
        stock.missed(stock.TREE, data)
        self._remember(digest, tree)
        return digest

    def link_out(self, file: File, target: str, copy: bool = False) -> None:
        """Put `file` at the path `target`, which must not exist: a hard link, or a private copy.

        Raises MissingBlob where the blob is gone or was changed in place.
        """
        self._used(file.digest)
        try:
            self._link(file, target, copy)
        except FileNotFoundError:
            if not os.path.isdir(os.path.dirname(target)):
                raise
            self._link(file, target, copy)  # it moved to a slower tier just now

    def commit_objects(self) -> None:
        """Let others see the objects that were put, durably; nothing where there are none.

        Raises HostError where no tier can take them.
        """
        self._objects.commit()

    def sync(self) -> bool:
        """Make everything that was stored so far durable; False where some of it was lost."""
        return self._objects.sync()

    def quarantine(self, digest: Digest, executable: bool) -> None:
        """Set a blob of the primary tier aside that is not what its name says."""
        self.commit_objects()
        self._objects.quarantine(self.primary, digest)
        self._quarantine(self.primary, digest, form_of(executable))

    # inside

    def _kept(self, digest: Digest, size: int | None = None) -> bool:
        """Say whether a durable tier has the blob, if need be after bringing it there."""
        tier = self._holder(digest, size)
        if tier is not None and not tier.durable:
            try:
                self.promote(digest, size=size)
            except MissingBlob:
                return False
        return tier is not None

    def _is_upstream(self, digest: Digest, size: int | None = None) -> bool:
        return self.upstream is not None and self.upstream.has(digest, size)

    def _fetched(self, digest: Digest, executable: bool = False, size: int | None = None) -> bool:
        """Say whether it was worth while to ask upstream for a blob: it may be here now."""
        if self.upstream is None or not self.upstream.has(digest, size):
            return False
        self.upstream.bring([File(digest, UNKNOWN if size is None else size, executable)])
        return True

    def _link(self, file: File, target: str, copy: bool) -> None:
        source = self.local(file.digest, file.executable, file.size)
        try:
            if not copy:
                os.link(source, target)
                return
        except OSError as error:
            if error.errno not in _LINK_REFUSED:
                raise
        import shutil

        shutil.copyfile(source, target)
        os.chmod(target, 0o755 if file.executable else 0o644)
        os.utime(target, ns=EPOCH_NS)

    def _quarantine(self, tier: Tier, digest: Digest, form: Form | None = None) -> None:
        super()._quarantine(tier, digest, form)
        self._trees.pop(digest, None)

    def forget_known(self) -> None:
        """Look again for what was known to be complete: something that counted is gone."""
        self._known.clear()

    def _forget(self) -> None:
        """A tier dropped out: what was known to be there may not be."""
        self._known.clear()
        self._objects.forget()

    def _used(self, digest: Digest) -> None:
        self.uses[digest] = self.uses.get(digest, 0) + 1
        if len(self.uses) > _USES_KEPT:
            self.uses = dict(most_used(self.uses, _USES_KEPT // 4))

    def _remember(self, digest: Digest, tree: Tree) -> None:
        if digest in self._trees:
            return
        if len(self._trees) >= _TREES_KEPT or self._entries >= _ENTRIES_KEPT:
            self._trees.clear()
            self._entries = 0
        packed = isinstance(tree.entries, PackedEntries)
        room = len(tree.entries) // (_PACKED if packed else 1)
        if packed or room < _ENTRIES_KEPT:  # else it is read packed when it is wanted
            self._trees[digest] = tree
            self._entries += room

    def _note_known(self, digest: Digest) -> None:
        if len(self._known) >= _KNOWN_KEPT:
            self._known.clear()
        self._known.add(digest)


def most_used(uses: Mapping[Digest, int], number: int) -> list[tuple[Digest, int]]:
    """Return the blobs that were used most, with how often."""
    return sorted(uses.items(), key=lambda item: (-item[1], item[0]))[:number]


def empty_tree(cas: Cas) -> Digest:
    """Store the tree without entries and return its digest."""
    return cas.put_tree(EMPTY_TREE)


def _in_memory(data: bytes) -> int:
    """Return a descriptor of a file in memory that looks like a blob's."""
    handle = os.memfd_create("bn-object", os.MFD_CLOEXEC)
    with os.fdopen(handle, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(handle, 0, os.SEEK_SET)
    os.utime(handle, ns=EPOCH_NS)
    return handle
