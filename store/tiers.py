"""Tiers: directories of blobs on disks of different speed, and what can go wrong with one."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
from enum import StrEnum
from pathlib import Path
from typing import Final

from attrs import frozen

from store.digest import Digest, digest_file

EPOCH: Final = 315_532_800
"""Seconds since 1970 of 1980-01-01T00:00:00Z, the oldest time that zip can tell: the modification
time of every stored and staged file, and SOURCE_DATE_EPOCH in actions."""

EPOCH_NS: Final = (EPOCH * 1_000_000_000, EPOCH * 1_000_000_000)

RAM, NVME, SSD, HDD, NETWORK = range(5)
LEVEL_NAMES: Final = ("RAM disk", "NVMe", "SATA SSD", "HDD", "network")

FILE_MODE: Final = 0o444
EXECUTABLE_MODE: Final = 0o555
ZSTD_LEVEL: Final = 3

_names = itertools.count()


class State(StrEnum):
    """What can be done with a tier now."""

    OK = "ok"
    FULL = "full"
    READ_ONLY = "read-only"
    GONE = "gone"
    ABSENT = "absent"
    """A RAM disk that nothing was put on yet; its directory is made when something is."""


@frozen(kw_only=True)
class TierSpec:
    """A tier as configured: `level` is 0 RAM disk, 1 NVMe, 2 SATA SSD, 3 HDD, 4 network.

    `max_size` is in bytes; `cleanup_policy` is lru (what was used longest ago goes first when the
    limit is reached), age (only what is older than `retention_days`) or none.
    """

    name: str
    path: Path
    level: int
    max_size: int | None = None
    auto_create: bool = True
    cleanup_policy: str = "lru"
    retention_days: float | None = None


@frozen
class Incident:
    """Something that happened to a tier while it was used; the work went on without it."""

    tier: str
    state: State
    reason: str


class Tier:
    """The blobs in one directory. Slow tiers (`compress`) keep them as zstd frames.

    OSErrors pass through: `Cas` decides what they mean for the tier.
    """

    def __init__(self, spec: TierSpec, *, compress: bool = False) -> None:
        self.spec = spec
        self.name = spec.name
        self.level = spec.level
        self.root = spec.path
        self.tmp = spec.path / "tmp"
        self.compress = compress
        self.state = State.OK
        self.added = 0
        """Bytes that this process put here since the count was last taken."""
        self._blobs = f"{spec.path}/blobs"

    @property
    def durable(self) -> bool:
        """Whether what is here survives the machine being switched off."""
        return self.level != RAM

    @property
    def readable(self) -> bool:
        """Whether blobs can be read from here."""
        return self.state not in (State.GONE, State.ABSENT)

    @property
    def writable(self) -> bool:
        """Whether blobs can be put here."""
        return self.state is State.OK

    def create(self, *, force: bool = False) -> None:
        """Make the directories that blobs and temporaries need, unless that is forbidden; those of
        a RAM disk only with `force`."""
        if self.level == RAM and not os.path.isdir(f"{self._blobs}/ff") and not force:
            self.state = State.ABSENT
            return
        if not self.spec.auto_create and not self.root.is_dir():
            raise FileNotFoundError(errno.ENOENT, "no such directory", str(self.root))
        self.tmp.mkdir(parents=True, exist_ok=True)
        if not os.path.isdir(f"{self._blobs}/ff"):
            for number in range(256):
                os.makedirs(f"{self._blobs}/{number:02x}", exist_ok=True)
        self.state = State.OK

    def temporary(self) -> str:
        """Return a path in this tier that nobody else uses."""
        return f"{self.tmp}/{os.getpid()}-{next(_names)}"

    def path(self, digest: Digest, executable: bool = False) -> str:
        """Return where a variant of the blob lies here, whether it is there or not."""
        suffix = ".zst" if self.compress else ".x" if executable else ""
        return f"{self._blobs}/{digest[:2]}/{digest[2:]}{suffix}"

    def variants(self, digest: Digest) -> tuple[str, ...]:
        """Return all the paths at which the blob could lie here."""
        if self.compress:
            return (self.path(digest),)
        return (self.path(digest), self.path(digest, True))

    def status(self, digest: Digest, executable: bool) -> os.stat_result | None:
        """Return the stat result of a variant; None where it is not there."""
        try:
            return os.stat(self.path(digest, executable))
        except FileNotFoundError:
            return None

    def touch(self, digest: Digest, executable: bool) -> None:
        """Renew the change time of a variant, which tells when it was used last."""
        os.utime(self.path(digest, executable), ns=EPOCH_NS)

    def read(self, digest: Digest) -> bytes | None:
        """Return the blob's bytes, not checked; None where it is not here."""
        for path in self.variants(digest):
            with contextlib.suppress(FileNotFoundError), open(path, "rb", buffering=0) as file:
                data = file.readall()
                return _decompressed(data) if self.compress else data
        return None

    def extract(self, digest: Digest, target: str) -> bool:
        """Write the blob's bytes, not checked, to the new file `target`; False if not here."""
        for path in self.variants(digest):
            try:
                if self.compress:
                    _decompress_file(path, target)
                else:
                    shutil.copyfile(path, target)
            except FileNotFoundError:
                continue
            return True
        return False

    def write(self, digest: Digest, data: bytes, executable: bool) -> None:
        """Put a blob here: a temporary, then a rename."""
        temporary = self.temporary()
        if self.compress:
            data = _compressed(data)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            handle = os.open(temporary, flags, FILE_MODE)
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(handle, view) :]
                os.fchmod(handle, EXECUTABLE_MODE if executable else FILE_MODE)
                os.utime(handle, ns=EPOCH_NS)
            finally:
                os.close(handle)
            os.rename(temporary, self.path(digest, executable))
        except BaseException:
            discard(temporary)
            raise
        self.added += len(data)

    def adopt(self, digest: Digest, path: str, size: int, executable: bool) -> None:
        """Move the file at `path`, on this tier's file system, to its place."""
        os.chmod(path, EXECUTABLE_MODE if executable else FILE_MODE)
        os.utime(path, ns=EPOCH_NS)
        os.rename(path, self.path(digest, executable))
        self.added += size

    def copy_in(self, digest: Digest, path: str, executable: bool) -> None:
        """Put a copy of the file at `path` here, checked against `digest` as it arrives.

        Raises ValueError where the bytes are others.
        """
        temporary = self.temporary()
        try:
            if self.compress:
                _compress_file(path, temporary)
                arrived = _digest_compressed(temporary)
            else:
                shutil.copyfile(path, temporary)
                arrived = digest_file(temporary, os.stat(temporary).st_size)
            if arrived != digest:
                raise ValueError(digest)
            self.adopt(digest, temporary, os.stat(temporary).st_size, executable)
        finally:
            discard(temporary)

    def remove(self, digest: Digest) -> int:
        """Remove the blob from here and return the bytes that this freed."""
        freed = 0
        for path in self.variants(digest):
            with contextlib.suppress(FileNotFoundError):
                size = os.stat(path).st_size
                os.unlink(path)
                freed += size
        self.added -= freed
        return freed

    def quarantine(self, digest: Digest, executable: bool) -> None:
        """Set a variant aside that is not what its name says."""
        aside = self.root / "quarantine"
        aside.mkdir(exist_ok=True)
        path = self.path(digest, executable)
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, aside / f"{digest}.{os.getpid()}-{next(_names)}")


def trouble(tier: Tier, error: OSError) -> State | None:
    """Return what an error says about a tier's state; None where it says nothing."""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return State.FULL
        case errno.EROFS:
            return State.READ_ONLY
        case errno.ESTALE | errno.ENOTCONN | errno.ENODEV | errno.EIO | errno.EHOSTDOWN:
            return State.GONE
        case errno.ENOENT | errno.ENOTDIR if not os.path.isdir(f"{tier.root}/blobs/ff"):
            return State.GONE
        case errno.EACCES | errno.EPERM:
            return State.READ_ONLY
    return None


def discard(path: str) -> None:
    """Remove a file if it is there."""
    with contextlib.suppress(OSError):
        os.unlink(path)


def _compressed(data: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(data)


def _decompressed(data: bytes) -> bytes:
    import zstandard

    try:
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    except zstandard.ZstdError:
        return b""  # whoever reads checks the digest


def _compress_file(source: str, target: str) -> None:
    import zstandard

    with open(source, "rb") as reading, open(target, "xb") as writing:
        zstandard.ZstdCompressor(level=ZSTD_LEVEL).copy_stream(reading, writing)


def _decompress_file(source: str, target: str) -> None:
    import zstandard

    checked_later = contextlib.suppress(zstandard.ZstdError)  # by the digest
    with open(source, "rb") as reading, open(target, "xb") as writing, checked_later:
        zstandard.ZstdDecompressor().copy_stream(reading, writing)


def _digest_compressed(path: str) -> Digest:
    import blake3
    import zstandard

    hasher = blake3.blake3()
    with open(path, "rb") as reading:
        for chunk in zstandard.ZstdDecompressor().read_to_iter(reading):
            hasher.update(chunk)
    return Digest(hasher.hexdigest())
