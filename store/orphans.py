"""RAM disk directories of stores that are gone, found by the note of whose they are."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from store.store import Store, remove_tree
from store.tiers import RAM, State

OWNER: Final = "owner"
"""The file in a RAM disk's directory that holds the path of the store it belongs to."""


def tidy_ram(store: Store) -> None:
    """Note whose the store's RAM disk directory is and remove those of stores that are gone.

    Looked at are the directories beside it whose names begin alike (`bn-UID-`) and that this user
    owns. Where nothing is on the RAM disk, or the note is there already, nothing is done.
    """
    for tier in store.cas.tiers:
        prefix = f"bn-{os.getuid()}-"
        if tier.level != RAM or tier.state is State.ABSENT or not tier.root.name.startswith(prefix):
            continue
        with contextlib.suppress(OSError):
            if (tier.root / OWNER).exists():
                continue
            (tier.root / OWNER).write_text(str(store.root))
            for other in tier.root.parent.glob(f"{prefix}*"):
                if _is_orphan(other):
                    remove_tree(other)


def _is_orphan(directory: Path) -> bool:
    if directory.is_symlink() or directory.stat().st_uid != os.getuid():
        return False
    try:
        owner = (directory / OWNER).read_text()
    except FileNotFoundError:
        return False
    return not os.path.exists(owner)
