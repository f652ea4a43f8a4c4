"""Trees put on disk: CAS → directory."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from store.cas import EPOCH_NS, Cas
from store.digest import Digest
from store.errors import HostError, host_error
from store.objects import Directory, File, Link
from store.spread import make_spread


def materialise(cas: Cas, tree: Digest, target: str, copy: bool = False) -> None:
    """Make the directory `target` (which must not exist) with what `tree` holds.

    Files are hard links to read-only blobs, or private writable copies with `copy`. Entries are
    made in sorted order, because some file systems list them in an order that depends on it. All
    times are `EPOCH`. Raises HostError and MissingBlob; what was made is then left to the caller.
    """
    try:
        os.mkdir(target)
        for name, entry in cas.get_tree(tree).sorted():
            path = f"{target}/{name}"
            match entry:
                case File():
                    cas.link_out(entry, path, copy)
                case Directory(digest):
                    materialise(cas, digest, path, copy)
                case Link(to):
                    os.symlink(to, path)
                    os.utime(path, ns=EPOCH_NS, follow_symlinks=False)
        os.utime(target, ns=EPOCH_NS)
    except OSError as error:
        raise host_error(error, "cannot materialise") from error


def materialised(cas: Cas, tree: Digest) -> Path:
    """Return the shared directory under the store that shows `tree`, made on first use.

    Where a tier fails meanwhile it is made in the next one. Raises HostError and MissingBlob.
    """
    while True:
        found = _shown(cas, tree)
        if found is not None:
            return found
        try:
            return _show(cas, tree)
        except HostError as error:
            if not cas.reconsider(error):
                raise


def _shown(cas: Cas, tree: Digest) -> Path | None:
    """Return the directory that shows `tree` already, in whatever tier."""
    for tier in cas.tier_set.readable():
        shown = tier.root / "trees" / tree
        try:
            with cas.gate.passing():
                os.utime(shown, ns=EPOCH_NS)  # its change time tells the collector of the use
        except OSError as error:
            if error.errno != errno.EROFS or not shown.is_dir():
                continue
        return shown
    return None


def _show(cas: Cas, tree: Digest) -> Path:
    target = cas.root / "trees" / tree
    temporary = cas.temporary()
    try:
        make_spread(str(target.parent))
        if cas.upstream is not None:
            cas.upstream.bring([Directory(tree)])
        materialise(cas, tree, temporary)
        cas.commit_objects()  # what is shown names the tree
        cas.settled()  # and is not looked at again
        os.rename(temporary, target)
    except OSError as error:
        if not target.exists():
            raise host_error(error, "cannot materialise") from error
    finally:
        if os.path.lexists(temporary):
            import shutil

            shutil.rmtree(temporary, ignore_errors=True)
    return target
