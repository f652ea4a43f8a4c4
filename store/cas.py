"""The content-addressed store: blobs as files, named by their digest.

A blob lies at `blobs/ab/cdef…` (mode 0444) or, as an executable, at `blobs/ab/cdef….x` (0555), so
that a tree can be materialised with hard links alone. Every blob carries the same modification
time: one that somebody changed in place betrays itself by another and is put into quarantine.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
from pathlib import Path
from typing import Final

from store.digest import MMAP_FROM, Digest, digest_bytes, digest_file
from store.errors import BnError, IntegrityError, host_error
from store.objects import EMPTY_TREE, Directory, Entry, File, Tree

EPOCH: Final = 315_532_800
"""Seconds since 1970 of 1980-01-01T00:00:00Z, the oldest time that zip can tell: the modification
time of every stored and staged file, and SOURCE_DATE_EPOCH in actions."""

EPOCH_NS: Final = (EPOCH * 1_000_000_000, EPOCH * 1_000_000_000)

_FILE_MODE: Final = 0o444
_EXECUTABLE_MODE: Final = 0o555
_TREES_KEPT: Final = 8192


class MissingBlob(IntegrityError):
    """A blob that something refers to is not in the store (or was quarantined just now)."""

    def __init__(self, digest: Digest, why: str = "is not in the store") -> None:
        super().__init__(f"blob {digest} {why}", "run the build again: bn rebuilds what is missing")
        self.digest = digest


class Cas:
    """Blobs and trees by digest, in one directory. Safe for several processes at once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tmp = root / "tmp"
        self._blobs = str(root / "blobs")
        self._names = itertools.count()
        self._trees: dict[Digest, Tree] = {}
        self._known: set[Digest] = set()
        self._unsynced = False

    def create(self) -> None:
        """Make the directories that blobs and temporaries need."""
        self.tmp.mkdir(parents=True, exist_ok=True)
        for number in range(256):
            (self.root / "blobs" / f"{number:02x}").mkdir(parents=True, exist_ok=True)

    def path(self, digest: Digest, executable: bool = False) -> str:
        """Return where this variant of the blob lies, whether it is there or not."""
        return f"{self._blobs}/{digest[:2]}/{digest[2:]}{'.x' if executable else ''}"

    def temporary(self) -> str:
        """Return a path on the store's file system that nobody else uses."""
        return f"{self.tmp}/{os.getpid()}-{next(self._names)}"

    # reading

    def has(self, digest: Digest) -> bool:
        """Say whether the blob is here and untouched, in one variant or the other."""
        return self._intact(digest, False) or self._intact(digest, True)

    def get_bytes(self, digest: Digest) -> bytes:
        """Return the blob's bytes, checked. Raises MissingBlob, also where the check fails."""
        for executable in (False, True):
            try:
                with open(self.path(digest, executable), "rb", buffering=0) as file:
                    data = file.readall()
            except FileNotFoundError:
                continue
            if digest_bytes(data) == digest:
                return data
            self.quarantine(digest, executable)
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
                return digest in self._known or self._check(digest, size)
            case Directory(digest):
                if digest in self._known:
                    return True
                try:
                    tree = self.get_tree(digest)
                except BnError:
                    return False
                if self.has(digest) and all(map(self.complete, tree.entries.values())):
                    self._known.add(digest)
                    return True
                return False
        return True

    def open(self, digest: Digest) -> int:
        """Return a file descriptor for reading the blob's bytes; what is open stays readable.

        Raises MissingBlob.
        """
        for executable in (False, True):
            if self._intact(digest, executable):
                try:
                    return os.open(self.path(digest, executable), os.O_RDONLY | os.O_CLOEXEC)
                except FileNotFoundError:
                    continue
        raise MissingBlob(digest)

    # writing

    def put_bytes(self, data: bytes, executable: bool = False) -> Digest:
        """Store `data` and return its digest. Raises HostError where the disk is full or fails."""
        digest = digest_bytes(data)
        if not self._intact(digest, executable):
            temporary = self.temporary()
            try:
                self._write(temporary, data, executable)
                os.rename(temporary, self.path(digest, executable))
            except OSError as error:
                _discard(temporary)
                raise host_error(error, "cannot write to the store") from error
            self._unsynced = True
        return digest

    def put_tree(self, tree: Tree) -> Digest:
        """Store `tree` (its blobs must be there) and return its digest."""
        digest = self.put_bytes(tree.encode())
        self._remember(digest, tree)
        return digest

    def adopt(self, path: str, executable: bool) -> File:
        """Move the regular file at `path`, on the store's file system, into the store.

        The caller makes sure that nobody has it open for writing.
        """
        try:
            size = os.stat(path).st_size
            digest = digest_file(path, size)
            if self._intact(digest, executable):
                os.unlink(path)
            else:
                os.chmod(path, _EXECUTABLE_MODE if executable else _FILE_MODE)
                os.utime(path, ns=EPOCH_NS)
                os.rename(path, self.path(digest, executable))
                self._unsynced = True
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
        temporary = self.temporary()
        try:
            shutil.copyfile(path, temporary)
            return self.adopt(temporary, executable)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise host_error(error, "cannot write to the store") from error
            raise
        finally:
            _discard(temporary)

    def link_out(self, file: File, target: str, copy: bool = False) -> None:
        """Put `file` at the path `target`, which must not exist: a hard link, or a private copy.

        Raises MissingBlob where the blob is gone or was changed in place.
        """
        source = self.path(file.digest, file.executable)
        if not self._intact(file.digest, file.executable, file.size):
            self._make_variant(file)
        try:
            if not copy:
                os.link(source, target)
                return
        except OSError as error:
            if error.errno not in (errno.EMLINK, errno.EXDEV, errno.EPERM, errno.EACCES):
                raise
        shutil.copyfile(source, target)
        os.chmod(target, 0o755 if file.executable else 0o644)
        os.utime(target, ns=EPOCH_NS)

    def sync(self) -> None:
        """Make everything that was stored so far durable: one syncfs(2) for all of it."""
        if self._unsynced:
            self._unsynced = False
            sync_file_system(self.root)

    def quarantine(self, digest: Digest, executable: bool) -> None:
        """Set a blob aside that is not what its name says."""
        aside = self.root / "quarantine"
        aside.mkdir(exist_ok=True)
        name = f"{digest}{'.x' if executable else ''}"
        with_suffix = aside / f"{name}.{os.getpid()}-{next(self._names)}"
        try:
            os.rename(self.path(digest, executable), with_suffix)
        except FileNotFoundError:
            return
        self._known.clear()
        self._trees.pop(digest, None)

    # inside

    def _intact(self, digest: Digest, executable: bool, size: int | None = None) -> bool:
        """Say whether this variant is there; quarantine it where it was changed in place."""
        try:
            status = os.stat(self.path(digest, executable))
        except FileNotFoundError:
            return False
        if status.st_mtime_ns == EPOCH_NS[0] and size in (None, status.st_size):
            return True
        self.quarantine(digest, executable)
        return False

    def _check(self, digest: Digest, size: int) -> bool:
        if self._intact(digest, False, size) or self._intact(digest, True, size):
            self._known.add(digest)
            return True
        return False

    def _make_variant(self, file: File) -> None:
        """Make the wanted variant of a blob from the other one."""
        if not self._intact(file.digest, not file.executable, file.size):
            raise MissingBlob(file.digest)
        temporary = self.temporary()
        try:
            shutil.copyfile(self.path(file.digest, not file.executable), temporary)
            if self.adopt(temporary, file.executable).digest != file.digest:
                self.quarantine(file.digest, not file.executable)
                raise MissingBlob(file.digest, "is corrupt")
        finally:
            _discard(temporary)

    def _write(self, path: str, data: bytes, executable: bool) -> None:
        mode = _EXECUTABLE_MODE if executable else _FILE_MODE
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(handle, view) :]
            os.fchmod(handle, mode)
            os.utime(handle, ns=EPOCH_NS)
        finally:
            os.close(handle)

    def _remember(self, digest: Digest, tree: Tree) -> None:
        if len(self._trees) >= _TREES_KEPT:
            self._trees.clear()
        self._trees[digest] = tree


def empty_tree(cas: Cas) -> Digest:
    """Store the tree without entries and return its digest."""
    return cas.put_tree(EMPTY_TREE)


def sync_file_system(path: Path) -> None:
    """Flush the file system that holds `path` (syncfs(2)); raises HostError where that fails."""
    import ctypes

    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if library.syncfs(handle) != 0:
            number = ctypes.get_errno()
            error = OSError(number, os.strerror(number), str(path))
            raise host_error(error, "cannot make the store durable")
    finally:
        os.close(handle)


def _discard(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
