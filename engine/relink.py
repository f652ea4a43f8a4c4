"""The link to a result made again where only the link is gone."""

from __future__ import annotations

import os
from pathlib import Path

from store.digest import Digest, is_digest
from store.errors import BnError
from store.gate import Gate
from store.index import Index
from store.leases import Lease
from store.roots import link_root
from store.tiers import EPOCH_NS


def relink(store: str, link: str, target: str) -> bool:
    """Make `link` lead to the shown tree `target`, as a build does; say whether that was done.

    It is left to the build where something else is in the way, the tree is gone, or the store
    cannot be written to.
    """
    tree = os.path.basename(target)
    if not is_digest(tree) or (os.path.lexists(link) and not os.path.islink(link)):
        return False
    root = Path(store)
    temporary = f"{os.path.dirname(link)}/.{os.path.basename(link)}.{os.getpid()}"
    try:
        with Lease(root, "link"):
            with Gate(root).passing():
                os.utime(target, ns=EPOCH_NS)  # its change time tells the collector of the use
            index = Index(root / "index")
            try:
                index.write([link_root(Path(link), Digest(tree))])
            finally:
                index.close()
            os.symlink(target, temporary)
            os.replace(temporary, link)
    except (OSError, BnError):
        return False
    return True
