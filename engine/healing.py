"""The store opened, and its index made again from the files where it is damaged or lost."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from engine.config import Config
from engine.record import links_of
from store.digest import Digest, is_digest
from store.errors import IntegrityError
from store.index import DATA, Write
from store.roots import link_root
from store.store import Store


def open_healed(
    root: Path, config: Config, tell: Callable[[str], None], *, sweep_later: bool = False
) -> Store:
    """Open the store; where its index is gone or corrupt, make it again and `tell` so.

    The damaged one is moved aside. Raises HostError where another process uses the store then.
    """
    if not _is_lost(root):
        with contextlib.suppress(IntegrityError):
            return Store(root, config.tiers, config.policy, sweep_later=sweep_later)
    with _alone(root):
        if not _is_lost(root):
            try:
                return Store(root, config.tiers, config.policy)
            except IntegrityError as error:
                tell(error.message)
        tell(rebuild_index(root, config))
    return Store(root, config.tiers, config.policy)


def rebuild_index(root: Path, config: Config) -> str:
    """Make the index again from the files and return a line that says what came of it."""
    from store.cas import Cas
    from store.rebuild import rebuild

    cas = Cas(root, config.tiers)
    cas.create()
    report = rebuild(root, cas, linked(root))
    aside = f"; the old one is {report.aside}" if report.aside else ""
    return f"the index was made again from the files: {report.results} results{aside}"


def linked(root: Path) -> Iterator[Write]:
    """Yield the links to results, as roots, that the records of command lines tell of."""
    for path in sorted((root / "records").glob("*")):
        try:
            for link, target in links_of(path):
                tree = os.path.basename(target)
                if is_digest(tree) and os.readlink(link) == target:
                    yield link_root(Path(link), Digest(tree))
        except (OSError, ValueError):
            continue


def _is_lost(root: Path) -> bool:
    """Say whether there is a store whose index is not there."""
    writable = os.access(root, os.W_OK)
    return writable and (root / "format").exists() and not (root / "index" / DATA).exists()


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Let one process at a time look at a damaged index."""
    handle = os.open(root / "index.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
