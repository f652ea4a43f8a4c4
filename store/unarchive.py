"""Archives taken in: all of one, or nothing.

A file is taken only if it is exactly what an export writes: names, sizes, order and headers are
those that follow from `closure.json`, every digest is right, and the closure is whole. Blobs wait
in a temporary directory until all of that is known.
"""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Final

import blake3

from store import archived_entries
from store.action_cache import path_sets
from store.archive import CHUNK, NAME, Contents, header, padding
from store.digest import Digest
from store.encoding import HEAD
from store.errors import HostError, InputError, IntegrityError, host_error
from store.index import Table, Write, to_json
from store.object_table import LARGEST
from store.objects import KINDS, ActionResult, Directory, File, Realisation, Tree
from store.refused import read_refused
from store.roots import import_root
from store.store import Store

LONGEST_LIST: Final = 1 << 30
"""Bytes above which a list of contents is not believed."""

PACKED: Final = 1 << 14
"""Bytes that are unpacked at a time: even the densest archive cannot fill the memory."""

_ENTRIES: Final = {"actions": Table.ACTION_CACHE, "realisations": Table.REALISATIONS}


def import_(store: Store, source: Path) -> Contents:
    """Take in the archive at `source` and return what was in it; its roots are roots from now on.

    Raises InputError where there is no such file, IntegrityError where it is not exactly what an
    export writes: then nothing of it is kept.
    """
    import zstandard

    if store.read_only:
        raise HostError(f"{store.root}: the store is read-only", "make it writable to import")
    staging = Path(store.cas.temporary())
    try:
        staging.mkdir()
        with open(source, "rb") as file:
            reading = _Unpacking(file)
            contents = _take(reading, staging)
            reading.check_end()
        _check_closure(contents, staging)
        return _keep(store, contents, staging)
    except FileNotFoundError as error:
        if error.filename != str(source):
            raise host_error(error, "cannot import") from error
        raise InputError(f"{source}: there is no such file") from error
    except zstandard.ZstdError as error:
        raise _refused(source, f"it is damaged: {error}") from error
    except OSError as error:
        raise host_error(error, "cannot import") from error
    except IntegrityError as error:
        raise _refused(source, error.message) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _refused(source: Path, why: str) -> IntegrityError:
    return IntegrityError(f"{source}: not imported: {why}", "export it again, and copy it whole")


class _Unpacking:
    """The bytes of one zstd frame, which must be the whole file."""

    def __init__(self, file: IO[bytes]) -> None:
        import zstandard

        self._file = file
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._ready = memoryview(b"")

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most `size`; none at the end."""
        while not self._ready and not self._frame.eof:
            packed = self._file.read(PACKED)
            if not packed:
                break
            self._ready = memoryview(self._frame.decompress(packed))
        part, self._ready = self._ready[:size], self._ready[size:]
        return bytes(part)

    def check_end(self) -> None:
        """Raise IntegrityError where it does not end here."""
        if self.read(1) or self._frame.unused_data or self._file.read(1):
            raise IntegrityError("something stands behind its end")
        if not self._frame.eof:
            raise IntegrityError("it is cut off")


def _take(reading: _Unpacking, staging: Path) -> Contents:
    """Read the archive into `staging`, every blob under its digest."""
    first = _exactly(reading, tarfile.BLOCKSIZE)
    try:
        size = tarfile.TarInfo.frombuf(first, "utf-8", "strict").size
    except (tarfile.HeaderError, UnicodeDecodeError) as error:
        raise IntegrityError("it is no archive of bn") from error
    if not 0 <= size <= LONGEST_LIST or first != header(NAME, size):
        raise IntegrityError("it does not begin with its list of contents")
    contents = Contents.decode(_exactly(reading, size))
    _expect(reading, padding(size))
    for digest in sorted(contents.blobs):
        size = contents.blobs[digest]
        _expect(reading, header(f"blobs/{digest}", size))
        _take_blob(reading, digest, size, staging / digest)
        _expect(reading, padding(size))
    _expect(reading, bytes(2 * tarfile.BLOCKSIZE))
    return contents


def _take_blob(reading: _Unpacking, digest: Digest, size: int, target: Path) -> None:
    hasher = blake3.blake3()
    with open(target, "xb") as file:
        while size:
            chunk = _exactly(reading, min(CHUNK, size))
            size -= len(chunk)
            hasher.update(chunk)
            file.write(chunk)
    if hasher.hexdigest() != digest:
        raise IntegrityError(f"blob {digest} is not what its name says")


def _exactly(reading: _Unpacking, size: int) -> bytes:
    parts: list[bytes] = []
    while size:
        part = reading.read(min(CHUNK, size))
        if not part:
            raise IntegrityError("it is cut off")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _expect(reading: _Unpacking, wanted: bytes) -> None:
    if wanted and _exactly(reading, len(wanted)) != wanted:
        raise IntegrityError("it holds something that its list of contents does not say")


def _check_closure(contents: Contents, staging: Path) -> None:
    """Check that whatever is named is there, and that objects are what they are named as."""
    checked: set[Digest] = set()
    realised = (_object(contents, staging, one) for one in contents.realisations.values())
    trees = [*contents.roots.values(), *(Realisation.decode(one).outputs for one in realised)]
    for digest in contents.actions.values():
        result = ActionResult.decode(_object(contents, staging, digest))
        _object(contents, staging, result.log)
        trees.append(result.outputs)
    for rows in contents.observed.values():
        if not path_sets(to_json(rows)) or any(row[0] not in contents.blobs for row in rows):
            raise IntegrityError("its list of contents is malformed")
    while trees:
        digest = trees.pop()
        if digest not in checked:
            checked.add(digest)
            for entry in Tree.decode(_object(contents, staging, digest)).entries.values():
                match entry:
                    case File(blob, size) if contents.blobs.get(blob) != size:
                        raise IntegrityError(f"blob {blob} is missing in it, or of another size")
                    case Directory(below):
                        trees.append(below)


def _object(contents: Contents, staging: Path, digest: Digest) -> bytes:
    if digest not in contents.blobs:
        raise IntegrityError(f"blob {digest} is missing in it")
    return (staging / digest).read_bytes()


def is_object(path: Path) -> bool:
    """Say whether a file looks like a tree, an action, a result or a realisation."""
    with open(path, "rb") as file:
        return file.read(len(HEAD) + 16).startswith(tuple(HEAD + kind.encode() for kind in KINDS))


def _keep(store: Store, contents: Contents, staging: Path) -> Contents:
    """Move the blobs into the store, and only then write the entries that name them."""
    with store.lease("import"):
        for digest, size in contents.blobs.items():
            path = staging / digest
            if size <= LARGEST and is_object(path):
                store.cas.put_object(path.read_bytes())
            else:
                store.cas.adopt(str(path), executable=False)
        refused = read_refused(store.root)
        writes: list[Write] = [import_root(name, tree) for name, tree in contents.roots.items()]
        for name, table in _ENTRIES.items():
            rows: Mapping[str, Digest] = getattr(contents, name)
            writes += [(table, k, one.encode()) for k, one in rows.items() if one not in refused]
        for key, paths in contents.observed.items():
            mine = [list(row) for row in path_sets(store.index.get(Table.OBSERVED, key))]
            new = [row for row in paths if row not in mine and row[0] not in refused]
            writes.append((Table.OBSERVED, key, to_json([*new, *mine])))
        store.actions.commit_with(writes)
        archived_entries.keep(store, contents.cached)
    return contents
