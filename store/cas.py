"""The content-addressed store: blobs as files, named by their digest, over one or more tiers.

A blob lies at `blobs/ab/cdef…` (mode 0444) or, as an executable, at `blobs/ab/cdef….x` (0555), so
that a tree can be materialised with hard links alone. Every blob carries the same modification
time: one that somebody changed in place betrays itself by another and is put into quarantine.

::

    write ─▶ primary tier ──demote (cold)──▶ slower tiers, compressed
               ▲    └──copy (hot)──▶ RAM disk
               └──────promote, when something is staged or read from there
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from store.digest import MMAP_FROM, Digest, digest_bytes, digest_file
from store.durability import sync_file_system
from store.errors import BnError, IntegrityError, host_error
from store.objects import EMPTY_TREE, Directory, Entry, File, Tree
from store.tiers import EPOCH as EPOCH
from store.tiers import EPOCH_NS as EPOCH_NS
from store.tiers import NVME, Incident, State, Tier, TierSpec, discard, trouble

TOUCH_SECONDS: Final = 6 * 3600
"""A blob that is used has its change time renewed if it is older than this: the collector spares
what was used since the oldest running build began, less this."""

_TREES_KEPT: Final = 8192
_LINK_REFUSED: Final = (errno.EMLINK, errno.EXDEV, errno.EPERM, errno.EACCES)

P = ParamSpec("P")
Value = TypeVar("Value")


class MissingBlob(IntegrityError):
    """A blob that something refers to is not in the store (or was quarantined just now)."""

    def __init__(self, digest: Digest, why: str = "is not in the store") -> None:
        super().__init__(f"blob {digest} {why}", "run the build again: bn rebuilds what is missing")
        self.digest = digest


class Cas:
    """Blobs and trees by digest. Safe for several processes at once.

    `primary` is the fastest durable tier that can be written: what is new goes there, and actions
    run on its file system. `incidents` says which tiers dropped out while they were used.
    """

    def __init__(self, root: Path, tiers: Iterable[TierSpec] = ()) -> None:
        specs = sorted(tiers, key=lambda spec: spec.level)
        specs = specs or [TierSpec(name="store", path=root, level=NVME)]
        first = next((spec for spec in specs if spec.level > 0), specs[0])
        self.tiers = [Tier(spec, compress=spec.level >= 3 and spec != first) for spec in specs]
        self.incidents: list[Incident] = []
        self.uses: dict[Digest, int] = {}
        self._store_root = root
        self._trees: dict[Digest, Tree] = {}
        self._known: set[Digest] = set()
        self._unsynced: set[str] = set()
        self._touch_before = time.time() - TOUCH_SECONDS

    def create(self) -> None:
        """Make the directories of every tier; one that cannot be made drops out.

        Raises HostError where no durable tier is left.
        """
        last: OSError | None = None
        for tier in self.tiers:
            try:
                tier.create()
            except OSError as error:
                self._drop(tier, trouble(tier, error) or State.GONE, error)
                last = error
        if last is not None and not any(tier.durable and tier.readable for tier in self.tiers):
            raise host_error(last, "cannot open the store")

    @property
    def primary(self) -> Tier:
        """The tier that is written to."""
        durable = [tier for tier in self.tiers if tier.durable] or self.tiers
        plain = (tier for tier in durable if tier.writable and not tier.compress)
        writable = (tier for tier in durable if tier.writable)
        readable = (tier for tier in durable if tier.readable)
        return next(itertools.chain(plain, writable, readable, durable))

    @property
    def root(self) -> Path:
        """The primary tier's directory."""
        return self.primary.root

    @property
    def tmp(self) -> Path:
        """Where the primary tier's temporaries are."""
        return self.primary.tmp

    def path(self, digest: Digest, executable: bool = False) -> str:
        """Return where this variant of the blob lies in the first tier that has it, else where it
        would lie in the primary one."""
        tier = self._holder(digest) or self.primary
        return tier.path(digest, executable)

    def temporary(self) -> str:
        """Return a path on the primary tier's file system that nobody else uses."""
        return self.primary.temporary()

    # reading

    def has(self, digest: Digest) -> bool:
        """Say whether the blob is in some tier and untouched."""
        return self._holder(digest) is not None

    def get_bytes(self, digest: Digest) -> bytes:
        """Return the blob's bytes, checked. Raises MissingBlob, also where the check fails."""
        for tier in self._readable():
            data = self._attempt(tier, tier.read, digest)
            if data is None:
                continue
            if digest_bytes(data) == digest:
                return data
            self._quarantine(tier, digest)
        raise MissingBlob(digest)

    def get_tree(self, digest: Digest) -> Tree:
        """Return the tree of that digest. Raises MissingBlob or IntegrityError."""
        tree = self._trees.get(digest)
        if tree is None:
            tree = Tree.decode(self.get_bytes(digest))
            self._remember(digest, tree)
        return tree

    def complete(self, entry: Entry) -> bool:
        """Say whether every blob under `entry` is here, trees themselves included."""
        match entry:
            case File(digest, size):
                if digest not in self._known and self._holder(digest, size) is not None:
                    self._known.add(digest)
                return digest in self._known
            case Directory(digest):
                if digest in self._known:
                    return True
                try:
                    tree = self.get_tree(digest)
                except BnError:
                    return False
                if self.has(digest) and all(map(self.complete, tree.entries.values())):
                    self._known.add(digest)
                return digest in self._known
        return True

    def open(self, digest: Digest) -> int:
        """Return a file descriptor for reading the blob's bytes; what is open stays readable.

        A blob that is only in a slow tier is brought to the primary one first: that may block.
        Raises MissingBlob.
        """
        self._used(digest)
        for attempt in range(2):
            for tier in self._readable():
                for path in () if tier.compress else tier.variants(digest):
                    try:
                        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                    except OSError:
                        continue
            if attempt == 0:
                self.promote(digest)
        raise MissingBlob(digest)

    def is_near(self, digest: Digest) -> bool:
        """Say whether `open` will find the blob without bringing it from a slow tier."""
        return any(
            not tier.compress and any(map(os.path.exists, tier.variants(digest)))
            for tier in self._readable()
        )

    def local(self, digest: Digest, executable: bool = False, size: int | None = None) -> str:
        """Return the path of this variant in the primary tier, brought there if need be.

        Raises MissingBlob where no tier has it, or where it was changed in place.
        """
        if not self._intact(self.primary, digest, executable, size):
            self.promote(digest, executable, size)
        return self.primary.path(digest, executable)

    def promote(self, digest: Digest, executable: bool = False, size: int | None = None) -> None:
        """Bring a variant of a blob into the primary tier, checked. Raises MissingBlob."""
        for tier in self._readable():
            if self._holder(digest, size, [tier]) is None:
                continue
            temporary = self.primary.temporary()
            try:
                if not self._attempt(tier, tier.extract, digest, temporary):
                    continue
                length = os.stat(temporary).st_size
                if digest_file(temporary, length) == digest:
                    self._place(digest, temporary, length, executable)
                    return
                self._quarantine(tier, digest)
            finally:
                discard(temporary)
        raise MissingBlob(digest)

    # writing

    def put_bytes(self, data: bytes, executable: bool = False) -> Digest:
        """Store `data` and return its digest. Raises HostError where no tier can take it."""
        digest = digest_bytes(data)
        if self._holder(digest, len(data), variant=executable) is None:
            self._write(lambda tier: tier.write(digest, data, executable))
        return digest

    def put_tree(self, tree: Tree) -> Digest:
        """Store `tree` (its blobs must be there) and return its digest."""
        digest = self.put_bytes(tree.encode())
        self._remember(digest, tree)
        return digest

    def adopt(self, path: str, executable: bool) -> File:
        """Move the regular file at `path`, on the primary tier's file system, into the store.

        The caller makes sure that nobody has it open for writing.
        """
        try:
            size = os.stat(path).st_size
            digest = digest_file(path, size)
            if self._holder(digest, size, variant=executable) is None:
                self._place(digest, path, size, executable)
            else:
                os.unlink(path)
        except OSError as error:
            raise host_error(error, "cannot move into the store") from error
        return File(digest, size, executable)

    def copy_in(self, path: str, size: int, executable: bool) -> File:
        """Store a copy of the file at `path` (about `size` bytes); the copy is what is hashed.

        Raises OSError where `path` cannot be read, HostError where the store cannot be written.
        """
        if size < MMAP_FROM:
            with open(path, "rb", buffering=0) as file:
                data = file.readall()
            return File(self.put_bytes(data, executable), len(data), executable)
        while True:
            tier, temporary = self.primary, self.primary.temporary()
            try:
                shutil.copyfile(path, temporary)
                return self.adopt(temporary, executable)
            except OSError as error:
                state = trouble(tier, error)
                if state not in (State.FULL, State.READ_ONLY) or not os.access(path, os.R_OK):
                    raise
                self._drop(tier, state, error)
                if self.primary is tier:
                    raise host_error(error, "cannot write to the store") from error
            finally:
                discard(temporary)

    def link_out(self, file: File, target: str, copy: bool = False) -> None:
        """Put `file` at the path `target`, which must not exist: a hard link, or a private copy.

        Raises MissingBlob where the blob is gone or was changed in place.
        """
        self._used(file.digest)
        source = self.local(file.digest, file.executable, file.size)
        try:
            if not copy:
                os.link(source, target)
                return
        except OSError as error:
            if error.errno not in _LINK_REFUSED:
                raise
        shutil.copyfile(source, target)
        os.chmod(target, 0o755 if file.executable else 0o644)
        os.utime(target, ns=EPOCH_NS)

    def sync(self) -> None:
        """Make everything that was stored so far durable: one syncfs(2) a tier for all of it."""
        roots, self._unsynced = self._unsynced, set()
        for root in roots:
            sync_file_system(Path(root))

    def quarantine(self, digest: Digest, executable: bool) -> None:
        """Set a blob of the primary tier aside that is not what its name says."""
        self._quarantine(self.primary, digest, executable)

    def reconsider(self) -> bool:
        """Look at the primary tier again after something failed; say whether another one takes its
        place now, so that trying again makes sense."""
        tier = self.primary
        try:
            status = os.statvfs(tier.root)
            if status.f_flag & os.ST_RDONLY:
                self._drop(tier, State.READ_ONLY, OSError(errno.EROFS, os.strerror(errno.EROFS)))
            elif status.f_bavail * status.f_frsize < 2**20 or not status.f_favail:
                self._drop(tier, State.FULL, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
            elif not os.path.isdir(f"{tier.root}/blobs/ff"):
                self._drop(tier, State.GONE, OSError(errno.ENOENT, os.strerror(errno.ENOENT)))
        except OSError as error:
            self._drop(tier, State.GONE, error)
        return self.primary is not tier

    # inside

    def _readable(self) -> Iterator[Tier]:
        """Yield the tiers to read from: the primary one first, the others by speed."""
        primary = self.primary
        if primary.readable:
            yield primary
        for tier in self.tiers:
            if tier is not primary and tier.readable:
                yield tier

    def _holder(
        self,
        digest: Digest,
        size: int | None = None,
        tiers: Iterable[Tier] | None = None,
        variant: bool | None = None,
    ) -> Tier | None:
        """Return the first tier in which the blob is, untouched; `variant` asks for just that one
        of the primary tier (new data goes there), or for any compressed copy."""
        for tier in tiers if tiers is not None else self._readable():
            kinds = (False, True) if variant is None else (variant,)
            for executable in kinds[:1] if tier.compress else kinds:
                if self._intact(tier, digest, executable, size):
                    return tier if tier.durable or variant is None else None
        return None

    def _intact(self, tier: Tier, digest: Digest, executable: bool, size: int | None) -> bool:
        """Say whether this variant is there; quarantine it where it was changed in place."""
        status = self._attempt(tier, tier.status, digest, executable)
        if status is None:
            return False
        right_size = tier.compress or size in (None, status.st_size)
        if status.st_mtime_ns == EPOCH_NS[0] and right_size:
            if status.st_ctime < self._touch_before:
                self._attempt(tier, tier.touch, digest, executable)
            return True
        self._quarantine(tier, digest, executable)
        return False

    def _write(self, write: Callable[[Tier], None]) -> None:
        """Write to the primary tier; when that fails for the tier's sake, to the next one."""
        while True:
            tier = self.primary
            try:
                write(tier)
            except OSError as error:
                state = trouble(tier, error)
                if state is not None:
                    self._drop(tier, state, error)
                if state is None or self.primary is tier:
                    raise host_error(error, "cannot write to the store") from error
            else:
                self._unsynced.add(str(tier.root))
                return

    def _place(self, digest: Digest, path: str, size: int, executable: bool) -> None:
        """Move the file at `path` to its place in the primary tier, by copy where it must be."""

        def place(tier: Tier) -> None:
            if not tier.compress:
                try:
                    tier.adopt(digest, path, size, executable)
                except OSError as error:
                    if error.errno != errno.EXDEV:
                        raise
                else:
                    return
            tier.copy_in(digest, path, executable)

        self._write(place)
        discard(path)

    def _attempt(
        self, tier: Tier, action: Callable[P, Value], *args: P.args, **options: P.kwargs
    ) -> Value | None:
        """Return what `action` gives; None, and the tier dropped, where the tier fails."""
        try:
            return action(*args, **options)
        except OSError as error:
            state = trouble(tier, error)
            if state is None:
                raise host_error(error, "cannot read the store") from error
            if state is State.GONE:
                self._drop(tier, state, error)
            return None

    def _drop(self, tier: Tier, state: State, error: OSError) -> None:
        """Note that a tier cannot be used as before."""
        if tier.state is not state:
            tier.state = state
            reason = (error.strerror or str(error)).lower()
            self.incidents.append(Incident(tier.name, state, reason))
            self._known.clear()

    def _quarantine(self, tier: Tier, digest: Digest, executable: bool | None = None) -> None:
        for variant in (False, True) if executable is None else (executable,):
            self._attempt(tier, tier.quarantine, digest, variant)
        self._known.clear()
        self._trees.pop(digest, None)

    def _used(self, digest: Digest) -> None:
        self.uses[digest] = self.uses.get(digest, 0) + 1

    def _remember(self, digest: Digest, tree: Tree) -> None:
        if len(self._trees) >= _TREES_KEPT:
            self._trees.clear()
        self._trees[digest] = tree


def empty_tree(cas: Cas) -> Digest:
    """Store the tree without entries and return its digest."""
    return cas.put_tree(EMPTY_TREE)
