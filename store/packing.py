"""Packed blobs: zstd frames in which slow tiers keep what they hold."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final, Protocol

import blake3

from store.digest import Digest, digest_file

ZSTD_LEVEL: Final = 3
CHUNK: Final = 1 << 20


class Reading(Protocol):
    """Something that gives bytes, at most so many at a time, and none at its end."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes."""


class Readable(Protocol):
    """A file that is open for reading, whatever its kind."""

    def read(self, size: int, /) -> bytes | None:
        """Return the next bytes."""


class SourceFailed(Exception):
    """What was to be copied could not be read."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class Source:
    """A file's plain bytes, with errors that cannot be taken for those of where they go."""

    def __init__(self, reading: Readable, *damage: type[Exception]) -> None:
        """Read from `reading`, whose errors of the kinds `damage` are the contents' fault."""
        self._reading = reading
        self._damage = damage

    def read(self, size: int, /) -> bytes:
        try:
            return self._reading.read(size) or b""
        except OSError as error:
            raise SourceFailed(error) from error
        except self._damage:
            return b""  # the digest of what came until here is another one


@contextlib.contextmanager
def opened(path: str, packed: bool) -> Iterator[Reading]:
    """Give the plain bytes of the file at `path`. Raises OSError where it cannot be opened; its
    `read` raises SourceFailed."""
    with open(path, "rb") as file:
        if not packed:
            yield Source(file)
            return
        import zstandard

        with zstandard.ZstdDecompressor().stream_reader(file) as reading:
            yield Source(reading, zstandard.ZstdError)


def write_file(source: Reading, target: str, packed: bool) -> tuple[Digest, int]:
    """Write all that `source` gives to the new file `target`; return the digest of that, and the
    bytes on disk."""
    hasher = blake3.blake3()
    with open(target, "xb") as file:
        if packed:
            import zstandard

            with zstandard.ZstdCompressor(level=ZSTD_LEVEL).stream_writer(
                file, closefd=False
            ) as packing:
                _pump(source, packing.write, hasher)
        else:
            _pump(source, file.write, hasher)
        file.flush()
        size = os.fstat(file.fileno()).st_size
    return Digest(hasher.hexdigest()), size


def copy_file(source: BinaryIO, target: str, size: int) -> tuple[Digest, int]:
    """Write all that is in `source` to the new file `target`; return the digest of the copy, and
    its bytes. The system copies (about `size` bytes), and all processors hash, where they can."""
    try:
        with open(target, "xb", buffering=0) as file:
            while os.copy_file_range(source.fileno(), file.fileno(), max(size, CHUNK)):
                pass
            length = os.fstat(file.fileno()).st_size
        if length >= size:
            return digest_file(target, length), length
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EEXIST):
            raise
    with contextlib.suppress(FileNotFoundError):
        os.unlink(target)  # another way tells which of the two failed
    source.seek(0)
    return write_file(Source(source), target, packed=False)


def digest_of(source: Reading) -> Digest:
    """Return the digest of all that `source` gives."""
    hasher = blake3.blake3()
    _pump(source, lambda chunk: None, hasher)
    return Digest(hasher.hexdigest())


def _pump(source: Reading, write: Callable[[bytes], object], hasher: blake3.blake3) -> None:
    while chunk := source.read(CHUNK):
        hasher.update(chunk)
        write(chunk)


def pack(data: bytes) -> bytes:
    """Return `data` as one zstd frame."""
    import zstandard

    return zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(data)


def unpack(data: bytes) -> bytes:
    """Return the bytes in a zstd frame, none where it is damaged: the digest will tell."""
    import zstandard

    try:
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    except zstandard.ZstdError:
        return b""
