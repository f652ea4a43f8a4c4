"""Presence: whether many blobs are there, asked for all of them at once."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable
from typing import TypeAlias

from store.cas import Cas
from store.digest import Digest
from store.objects import Directory, Entry, File, Link
from store.tiers import EPOCH_NS

Blob: TypeAlias = tuple[Digest, int, bool]
"""A blob that has to be there: its digest, its size in bytes, whether it is an executable file.

The size of a tree's own blob is -1: whatever it is."""


def blobs_under(cas: Cas, entry: Entry) -> list[Blob]:
    """Return every blob that `entry` consists of, trees included, each once.

    Raises MissingBlob and IntegrityError as reading the trees does.
    """
    found: dict[Blob, None] = {}
    pending: list[Entry] = [entry]
    while pending:
        match pending.pop():
            case File(digest, size, executable):
                found[digest, size, executable] = None
            case Directory(digest):
                if (digest, -1, False) not in found:
                    found[digest, -1, False] = None
                    pending.extend(cas.get_tree(digest).entries.values())
            case Link():
                pass
    return list(found)


def is_whole(cas: Cas, tree: Digest) -> bool:
    """Say whether all of a tree is in the store's own tiers. Raises as reading the trees does."""
    return all(
        cas.is_here(digest, None if size < 0 else size)
        for digest, size, _ in blobs_under(cas, Directory(tree))
    )


def present(cas: Cas, blobs: Iterable[Blob], known: Container[Digest] = ()) -> bool:
    """Say whether all of `blobs` are in a durable tier, untouched; being asked for is a use.

    The same question as `Cas.complete` asks, with one stat(2) and no more for a file that lies in
    the primary tier and was used lately, and none for trees that are `known` to be there.
    """
    start = f"{cas.primary.root}/blobs/"
    recent, epoch, stat = cas.touch_before, EPOCH_NS[0], os.stat
    for digest, size, executable in blobs:
        if size < 0:
            if digest not in known and not cas.has(digest):
                return False
            continue
        try:
            status = stat(f"{start}{digest[:2]}/{digest[2:]}{'.x' if executable else ''}")
        except OSError:
            status = None
        if (
            status is None
            or status.st_mtime_ns != epoch
            or status.st_size != size
            or status.st_ctime < recent
        ) and not cas.complete(File(digest, size, executable)):
            return False
    return True
