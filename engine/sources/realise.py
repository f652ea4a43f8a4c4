"""Sources made real: what a spec's source names, as a tree in the store."""

from __future__ import annotations

import os
import posixpath
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import frozen

from engine.sources.exclusion import exclusion, local_exclusion
from engine.spec.model import SourceSpec
from store.digest import Digest, digest_bytes, is_digest
from store.encoding import TYPE_KEY, encode
from store.errors import InputError, IntegrityError, host_error
from store.index import Table, to_json
from store.ingest import Snapshot, ingest_directory, signature
from store.objects import Directory, File
from store.seen import Seen
from store.store import Store
from store.trees import build_tree

if TYPE_CHECKING:
    from engine.sources.http import Download, Patience, Progress, Web

UNPACK: Final = "unpack.1"
"""How archives are unpacked; another version wherever the same archive would give another tree."""

_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@frozen
class SourceTree:
    """A source's tree and, for a directory of this machine, what it was taken from."""

    tree: Digest
    snapshot: Snapshot | None = None


async def realise_source(
    store: Store,
    source: SourceSpec,
    base: Path,
    progress: Progress | None = None,
    patience: Patience | None = None,
) -> SourceTree:
    """Return the tree of `source`; paths are relative to `base`, the spec's directory.

    The network is touched only where the store does not hold the file of that SHA-256. Raises
    InputError, HostError and IntegrityError without a position: that is the caller's to add.
    """
    known = known_source(store, source, base)
    if known is not None:
        return known
    return _tree_of(store, source, await _fetched(store, source, progress, patience))


def known_source(store: Store, source: SourceSpec, base: Path) -> SourceTree | None:
    """Return the tree of `source` as `realise_source` does, None where it has to be fetched."""
    if source.path is not None:
        return _local(store, source, os.path.abspath(base / source.path))
    for kind, value in (("git", source.git), ("npm", source.npm)):
        if value is not None:
            raise InputError(f"sources of the kind {kind} are not supported yet", "use url = …")
    wanted = _wanted_sha256(source)
    file = None if wanted is None else _known_file(store, wanted)
    return None if file is None else _tree_of(store, source, file)


def _tree_of(store: Store, source: SourceSpec, file: File) -> SourceTree:
    """Return the tree that a fetched file makes."""
    if source.unpack:
        return SourceTree(_unpacked(store, source, file))
    name = _file_name(store, source, file)
    return SourceTree(build_tree(store.cas, {name: file}))


def _local(store: Store, source: SourceSpec, path: str) -> SourceTree:
    try:
        status = os.lstat(path)
        if stat.S_ISDIR(os.stat(path).st_mode):
            excluded = local_exclusion(str(store.root), source.exclude, path)
            snapshot = ingest_directory(store.cas, store.index, path, excluded)
            return SourceTree(snapshot.tree, snapshot)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"no such file or directory: {source.path}") from None
    except OSError as error:
        raise host_error(error, "cannot read") from error
    if not stat.S_ISREG(status.st_mode):
        raise InputError(
            f"{source.path} is neither a directory nor a regular file",
            "name the file itself, not a link to it",
        )
    return _single_file(store, path, status)


def _single_file(store: Store, path: str, status: os.stat_result) -> SourceTree:
    directory, name = os.path.split(path)
    mark = signature(status)
    try:
        file = store.cas.copy_in(path, status.st_size, bool(status.st_mode & stat.S_IXUSR))
        if signature(os.lstat(path)) != mark:
            raise InputError(f"{path}: changed while it was read", "run the build again")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {(error.strerror or '').lower()}") from error
    tree = build_tree(store.cas, {name: file})
    seen = Seen()
    seen.note(name, mark, file)
    return SourceTree(tree, Snapshot(directory, tree, seen))


async def _fetched(
    store: Store, source: SourceSpec, progress: Progress | None, patience: Patience | None
) -> File:
    """Return the file that `source` names, from where it is published."""
    from engine.sources.http import Web

    wanted = _wanted_sha256(source)
    target = store.cas.temporary()
    try:
        async with Web(patience) as web:
            download = await _download(web, source, wanted, target, progress)
        if wanted is not None and download.sha256 != wanted:
            raise IntegrityError(
                f"{_shown(source)}: the file that was fetched is not the one that was pinned\n"
                f"  expected sha256 {wanted}\n"
                f"  got      sha256 {download.sha256}",
                f'if the new file is the right one: sha256 = "{download.sha256}"',
            )
        file = store.cas.adopt(target, executable=False)
    finally:
        Path(target).unlink(missing_ok=True)
    # The blob is made durable before the entry that names it, so that a crash leaves no lie.
    store.cas.sync()
    alias = to_json([file.digest, file.size])
    store.index.write([(Table.ALIASES, download.sha256, alias)])
    if wanted is None:
        raise InputError(
            f"{_shown(source)}: sha256 is missing, so the file could change unnoticed",
            f'to pin the file as it is now: sha256 = "{download.sha256}"',
        )
    return file


async def _download(
    web: Web, source: SourceSpec, wanted: str | None, target: str, progress: Progress | None
) -> Download:
    from engine.sources import debian, pypi

    if source.pypi is not None:
        return await pypi.fetch(web, source.pypi, wanted, target, progress)
    if source.debian is not None:
        return await debian.fetch(web, source.debian, target, progress)
    if source.url is not None:
        return await web.download(source.url, target, progress)
    raise InputError("a source needs one of path, url, pypi and debian")


def _wanted_sha256(source: SourceSpec) -> str | None:
    # The form is checked even where the file is known: a spec is right or wrong by itself.
    if source.pypi is not None:
        from engine.sources import pypi

        pypi.parse(source.pypi)
    elif source.debian is not None:
        from engine.sources import debian

        debian.parse(source.debian)
    if source.sha256 is None:
        return None
    text = source.sha256.strip().lower()
    if _SHA256.fullmatch(text) is None:
        raise InputError(f"sha256 {source.sha256!r} is not 64 hexadecimal digits")
    return text


def _known_file(store: Store, sha256: str) -> File | None:
    match store.index.get_json(Table.ALIASES, sha256):
        case [str(digest), int(size)] if is_digest(digest):
            file = File(Digest(digest), size)
            return file if store.cas.complete(file) else None
    return None


def _unpacked(store: Store, source: SourceSpec, file: File) -> Digest:
    document = {
        TYPE_KEY: UNPACK,
        "blob": file.digest,
        "exclude": sorted(set(source.exclude)),
        "strip": source.strip,
    }
    key = digest_bytes(encode(document))
    known = Digest((store.index.get(Table.DERIVED, key) or b"").decode())
    if is_digest(known) and store.cas.complete(Directory(known)):
        return known
    from engine.sources.archive import unpack

    tree = unpack(store.cas, file, _shown(source), source.strip, exclusion(source.exclude))
    store.cas.sync()
    store.index.write([(Table.DERIVED, key, tree.encode())])
    return tree


def _file_name(store: Store, source: SourceSpec, file: File) -> str:
    """Return the name of a fetched file in its tree: by the spec and the content alone, because one
    mirror may call the same file otherwise than another."""
    if source.url is not None:
        from urllib.parse import unquote, urlsplit

        return posixpath.basename(unquote(urlsplit(source.url).path)) or "download"
    from engine.sources import debian, pypi
    from engine.sources.members import suffix_of

    with open(store.cas.path(file.digest), "rb") as content:
        suffix = suffix_of(content.read(8))
    if source.pypi is not None:
        name, version = pypi.parse(source.pypi)
        return f"{name}-{version}{suffix}"
    name, version = debian.parse(source.debian or "")
    return f"{name}_{version}.orig{suffix}"


def _shown(source: SourceSpec) -> str:
    if source.url is not None:
        from engine.sources.http import shown

        return shown(source.url)
    return source.pypi or source.debian or ""
