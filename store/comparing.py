"""Shown trees compared with what they should show."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from store.cas import Cas
from store.closure import read
from store.digest import Digest, digest_file
from store.errors import BnError
from store.objects import Directory, Entry, File, Link, Tree
from store.tiers import form_of


def differs(cas: Cas, path: Path, digest: Digest) -> str | None:
    """Return how the directory at `path` differs from a tree; None where it shows it."""
    data = read(cas, digest)
    try:
        tree = None if data is None else Tree.decode(data)
    except BnError:
        tree = None
    if tree is None:
        return "shows a tree that is not there"
    try:
        found = {item.name: item for item in os.scandir(path)}
        if found.keys() != tree.entries.keys():
            return f"other names than in its tree: {min(found.keys() ^ tree.entries.keys())}"
        for name, entry in tree.sorted():
            what = _entry_differs(cas, Path(found[name].path), entry)
            if what is not None:
                return what
    except OSError as error:
        return f"cannot be read: {(error.strerror or '').lower()}"
    return None


def _entry_differs(cas: Cas, path: Path, entry: Entry) -> str | None:
    status = os.lstat(path)
    match entry:
        case Link(target):
            same = stat.S_ISLNK(status.st_mode) and os.readlink(path) == target
            return None if same else f"{path.name} is another link"
        case Directory(digest):
            return (
                differs(cas, path, digest)
                if stat.S_ISDIR(status.st_mode)
                else f"{path.name} is no directory"
            )
        case File(digest, size, executable):
            kind = stat.S_ISREG(status.st_mode) and bool(status.st_mode & 0o111) == executable
            if not kind or status.st_size != size or not _is_blob(cas, path, status, entry):
                return f"{path.name} is another file"
    return None


def _is_blob(cas: Cas, path: Path, status: os.stat_result, file: File) -> bool:
    """Say whether a shown file is a blob's file, or has its bytes."""
    for tier in cas.tier_set.readable():
        blob = tier.status(file.digest, form_of(file.executable))
        if blob is not None and (blob.st_dev, blob.st_ino) == (status.st_dev, status.st_ino):
            return True
    return digest_file(path, status.st_size) == file.digest
