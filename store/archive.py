"""Archives: a closure as one file, tar in zstd, the same bytes every time.

::

    closure.json        roots, entries of the action cache, every blob with its size
    blobs/<digest>      in the order of their digests; mode 0444, times 1980-01-01, owner 0

`store.unarchive` takes them in.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import blake3
from attrs import field, frozen

from store import archived_entries
from store.action_cache import path_sets
from store.cas import Cas, MissingBlob
from store.closure import Closure, Kind, parse, read
from store.digest import Digest, is_digest
from store.encoding import TYPE_KEY, decode, encode
from store.errors import BnError, IntegrityError, host_error
from store.index import Table
from store.objects import ActionResult, Directory
from store.store import Store
from store.tiers import EPOCH

KIND: Final = "closure.1"
NAME: Final = "closure.json"
LEVEL: Final = 9
CHUNK: Final = 1 << 20

LONGEST: Final = 400
"""Bytes that the name of a root may have."""

_PARTS: Final = ("actions", "blobs", "observed", "realisations", "roots")


@frozen(kw_only=True)
class Contents:
    """What is in an archive: `roots` by name, entries by key, the size in bytes of each blob, cache
    entries by name space, kind and key."""

    roots: Mapping[str, Digest]
    blobs: Mapping[Digest, int]
    actions: Mapping[str, Digest] = field(factory=dict)
    realisations: Mapping[str, Digest] = field(factory=dict)
    observed: Mapping[str, list[Any]] = field(factory=dict)
    cached: Mapping[str, Any] = field(factory=dict)

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        cached = {"cached": dict(self.cached)} if self.cached else {}
        return encode(
            cached
            | {
                TYPE_KEY: KIND,
                "actions": dict(self.actions),
                "blobs": dict(self.blobs),
                "observed": dict(self.observed),
                "realisations": dict(self.realisations),
                "roots": dict(self.roots),
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Contents:
        """Return the contents in `data`; raises IntegrityError where they are malformed."""
        plain = decode(data, KIND)
        plain.pop(TYPE_KEY)
        if set(plain) - {"cached"} != set(_PARTS) or not all(
            isinstance(part, dict) for part in plain.values()
        ):
            raise IntegrityError("its list of contents is malformed")
        digests = [*plain["blobs"], *plain["actions"], *plain["realisations"], *plain["observed"]]
        for part in ("roots", "actions", "realisations"):
            digests += plain[part].values()
        if (
            not all(isinstance(digest, str) and is_digest(digest) for digest in digests)
            or not all(type(size) is int and size >= 0 for size in plain["blobs"].values())
            or any(len(name.encode(errors="replace")) > LONGEST for name in plain["roots"])
        ):
            raise IntegrityError("its list of contents is malformed")
        archived_entries.check(plain.get("cached", {}), plain["blobs"])
        return cls(**plain)


def closure_of(
    store: Store,
    roots: Mapping[str, Digest],
    results: Iterable[Digest] = (),
    all_: bool = False,
    name_spaces: Iterable[str] = (),
) -> Contents:
    """Return the contents of an archive of the trees `roots`, and of entries in `name_spaces`.

    `results` are actions whose results go with it; `all_` takes every result whose outputs are in
    the closure. Raises MissingBlob where something is not there.
    """
    if store.cas.upstream is not None:
        store.cas.upstream.bring(map(Directory, roots.values()))
    closure = Closure(store.cas, store.index)
    closure.mark((Kind.TREE, tree) for tree in roots.values())
    taken, actions, realisations = set(results), {}, {}
    for key, value in store.index.items(Table.ACTION_CACHE):
        digest, result = Digest(value.decode(errors="replace")), None
        if key in taken or all_:
            result = _result(store.cas, digest)
        if result is not None and (key in taken or closure.has_whole(result.outputs)):
            closure.mark([(Kind.RESULT, digest), (Kind.BLOB, result.action)])
    for key, value in store.index.items(Table.ACTION_CACHE):
        if closure.has_whole(Digest(value.decode(errors="replace"))):
            actions[key] = Digest(value.decode())
    for key, value in store.index.items(Table.REALISATIONS) if actions else ():
        digest = Digest(value.decode(errors="replace"))
        document = parse(read(store.cas, digest) or b"") or {}
        if closure.has_whole(document.get("outputs", "")):
            closure.mark([(Kind.BLOB, digest)])
            realisations[key] = digest
    observed = {}
    for key, value in store.index.items(Table.OBSERVED) if actions else ():
        rows = [[row[0], list(row[1])] for row in path_sets(value) if closure.has_whole(row[0])]
        if rows:
            observed[key] = rows
    for missing in closure.missing:
        raise MissingBlob(missing)
    cached = archived_entries.listed(store, name_spaces)
    live = closure.live.union(archived_entries.blobs_of(cached))
    return Contents(
        roots=roots,
        blobs={digest: _size(store.cas, digest) for digest in sorted(live)},
        actions=actions,
        realisations=realisations,
        observed=observed,
        cached=cached,
    )


def _result(cas: Cas, digest: Digest) -> ActionResult | None:
    try:
        return ActionResult.decode(read(cas, digest) or b"")
    except BnError:
        return None


def _size(cas: Cas, digest: Digest) -> int:
    data = cas.object(digest)
    if data is not None:
        return len(data)
    handle = cas.open(digest)
    try:
        return os.fstat(handle).st_size
    finally:
        os.close(handle)


def export(store: Store, contents: Contents, target: Path) -> int:
    """Write the archive to `target` and return its size in bytes; it appears when it is whole.

    Raises HostError, and MissingBlob where a blob is gone or not what its name says.
    """
    import zstandard

    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with open(temporary, "xb") as file:
            packer = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
            with packer.stream_writer(file, closefd=False) as writing:
                listed = contents.encode()
                writing.write(header(NAME, len(listed)) + listed + padding(len(listed)))
                for digest, size in contents.blobs.items():
                    writing.write(header(f"blobs/{digest}", size))
                    _copy(store.cas, digest, size, writing)
                    writing.write(padding(size))
                writing.write(bytes(2 * tarfile.BLOCKSIZE))
            file.flush()
            os.fsync(file.fileno())
            size = os.fstat(file.fileno()).st_size
        os.replace(temporary, target)
    except OSError as error:
        raise host_error(error, "cannot write the archive") from error
    finally:
        temporary.unlink(missing_ok=True)
    return size


def _copy(cas: Cas, digest: Digest, size: int, writing: Any) -> None:
    hasher, left = blake3.blake3(), size
    with os.fdopen(cas.open(digest), "rb", buffering=0) as file:
        while chunk := file.read(CHUNK):
            left -= len(chunk)
            hasher.update(chunk)
            writing.write(chunk)
    if left or hasher.hexdigest() != digest:
        raise MissingBlob(digest, "is not what its name says")


def header(name: str, size: int) -> bytes:
    """Return the one header that a file of that name and size has in an archive."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o444, EPOCH
    return info.tobuf(tarfile.GNU_FORMAT)


def padding(size: int) -> bytes:
    """Return what follows the bytes of a file of that size in an archive."""
    return bytes(-size % tarfile.BLOCKSIZE)
