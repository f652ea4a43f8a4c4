"""Members of an archive, as tar and zip files tell them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import IO, BinaryIO, Final, cast

from attrs import frozen

from store.errors import InputError, IntegrityError, host_error


class Kind(StrEnum):
    """What a member is."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "symbolic link"
    HARD_LINK = "hard link"
    OTHER = "device or pipe"


@frozen
class Member:
    """One member by its name in the archive; `size` in bytes, `target` for links.

    `open` gives its content, for a hard link that of what it links to; it must be called before the
    next member is asked for, so that compressed archives are read in one pass.
    """

    name: str
    kind: Kind
    size: int
    executable: bool
    target: str
    open: Callable[[], IO[bytes]]


_SUFFIXES: Final = (
    (b"\x1f\x8b", ".tar.gz"),
    (b"BZh", ".tar.bz2"),
    (b"\xfd7zXZ\0", ".tar.xz"),
    (b"PK\x03\x04", ".zip"),
    (b"PK\x05\x06", ".zip"),
)
_FORMATS: Final = "tar, tar.gz, tar.bz2, tar.xz, zip"
_BUFFER: Final = 1 << 18
_DAMAGE: Final = (
    EOFError,
    OSError,
    lzma.LZMAError,
    zlib.error,
    tarfile.TarError,
    zipfile.BadZipFile,
)


def suffix_of(head: bytes) -> str:
    """Return the usual file name suffix of an archive that begins with `head`; else ".tar"."""
    return next((suffix for magic, suffix in _SUFFIXES if head.startswith(magic)), ".tar")


def members(file: BinaryIO) -> Iterator[Member]:
    """Yield the members of the archive in `file` in order; to be used inside `reading`."""
    suffix = suffix_of(file.read(8))
    file.seek(0)
    yield from _zip(file) if suffix == ".zip" else _tar(file, suffix)


@contextmanager
def reading(shown: str) -> Iterator[None]:
    """Turn what goes wrong while an archive is read into bn's errors; `shown` names it there.

    Raises IntegrityError where it is damaged, InputError where it is of no known format.
    """
    try:
        yield
    except _UnknownFormatError as error:
        raise InputError(f"{shown}: {error}", f"known archives: {_FORMATS}") from None
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise host_error(error, "cannot read the archive") from error
        raise IntegrityError(
            f"{shown}: the archive is truncated or corrupt: {error}",
            "fetch it again from where its author publishes it",
        ) from error


class _UnknownFormatError(Exception):
    """An archive, if it is one, of a kind that cannot be read here."""


def _tar(file: BinaryIO, suffix: str) -> Iterator[Member]:
    plain = _decompressed(file, suffix)
    try:
        archive = tarfile.TarFile(fileobj=plain)
    except tarfile.ReadError:
        if suffix == ".tar":
            raise _UnknownFormatError("no archive of a known format") from None
        raise
    with archive:
        while (info := archive.next()) is not None:
            # tarfile keeps every member for look-ups by name; hard links need them.
            yield _tar_member(archive, info)
        # tarfile takes a damaged header for the end of the archive.
        plain.seek(archive.offset)
        block = plain.read(tarfile.BLOCKSIZE)
        if block.strip(b"\0") or len(block) not in (0, tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"bad header at byte {archive.offset}")


def _decompressed(file: BinaryIO, suffix: str) -> BinaryIO:
    match suffix:
        case ".tar.gz":
            stream: io.BufferedIOBase = gzip.GzipFile(fileobj=file)
        case ".tar.bz2":
            stream = bz2.BZ2File(file)
        case ".tar.xz":
            stream = lzma.LZMAFile(file)  # noqa: SIM115
        case _:
            return file
    return cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, stream), _BUFFER))


def _tar_member(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    def content() -> IO[bytes]:
        try:
            file = archive.extractfile(info)
        except KeyError:
            file = None
        if file is None:
            raise tarfile.ReadError(f"{info.name}: its content is not in the archive")
        return file

    if info.isreg():
        kind = Kind.FILE
    elif info.isdir():
        kind = Kind.DIRECTORY
    elif info.issym():
        kind = Kind.LINK
    elif info.islnk():
        kind = Kind.HARD_LINK
    else:
        kind = Kind.OTHER
    return Member(
        info.name, kind, info.size, bool(info.mode & stat.S_IXUSR), info.linkname, content
    )


def _zip(file: BinaryIO) -> Iterator[Member]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            yield _zip_member(archive, info)


def _zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    mode = info.external_attr >> 16
    target = ""
    if info.is_dir():
        kind = Kind.DIRECTORY
    elif stat.S_ISLNK(mode):
        kind = Kind.LINK
        if info.file_size > 4096:
            raise zipfile.BadZipFile(f"{info.filename}: a link of {info.file_size} bytes")
        with _open_zipped(archive, info) as content:
            target = content.read().decode("utf-8", "surrogateescape")
    elif stat.S_IFMT(mode) in (0, stat.S_IFREG):
        kind = Kind.FILE
    else:
        kind = Kind.OTHER
    return Member(
        info.filename,
        kind,
        info.file_size,
        bool(mode & stat.S_IXUSR),
        target,
        lambda: _open_zipped(archive, info),
    )


def _open_zipped(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    try:
        return archive.open(info)
    except RuntimeError as error:  # encrypted, or packed by a method that zipfile does not know
        raise _UnknownFormatError(
            f"member {info.filename!r} cannot be unpacked: {error}"
        ) from error
