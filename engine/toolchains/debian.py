"""Installed Debian packages as a toolchain: just their files, and the alternatives among them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from engine.sources.exclusion import exclusion
from engine.toolchains.closure import closure
from engine.toolchains.dpkg import (
    Alternative,
    Choice,
    Package,
    admin_directory,
    alternatives,
    installed_packages,
    listed_files,
)
from engine.toolchains.layout import Layout
from engine.toolchains.memory import mark_of
from store.errors import HostError
from store.ingest import Signature

LEFT_OUT: Final = (
    # For people to read; no program's behaviour depends on it, and LANG=C needs no catalogues.
    *(
        f"usr/share/{name}"
        for name in ("bug", "doc", "doc-base", "info", "lintian", "locale", "man")
    ),
    # This machine's configuration and state: other machines with the same packages have another.
    # What a tool needs of it can be named with `paths`.
    "etc",
    "var",
    # Made anew by the sandbox, or none of a package's business.
    *("boot", "dev", "home", "media", "mnt", "proc", "root", "run", "srv", "sys", "tmp"),
    # Byte code that Python writes on installation, with times in it.
    "**/__pycache__",
)
"""Paths in the tree that are not taken from packages."""

_left_out = exclusion(LEFT_OUT)


def take_packages(
    layout: Layout, names: Iterable[str], installed: Iterable[Package]
) -> list[Package]:
    """Put the files of `installed` packages and of all that they depend on into `layout`.

    Files that packages make when they are installed are not taken, but links of alternatives are
    made. Raises InputError where packages are missing, HostError where there is no dpkg.
    """
    packages = closure(installed, names)
    listings = listed_files(packages)
    if len(listings) != len(packages):
        raise HostError("dpkg-query lists other packages than it was asked for", "run it again")
    present = {package.name for package in packages}
    for item in itertools.chain.from_iterable(listings):
        if _left_out(layout.host.canonical(item.path).lstrip("/")):
            continue
        if item.diverted_to is None:
            layout.take(item.path, public=True)
        elif item.diverted_by in present:
            layout.take(item.diverted_to, public=True)
        else:
            # The package that moved it aside is not in the closure: here it is not moved either.
            layout.take(item.path, content=item.diverted_to, public=True)
    for alternative in alternatives():
        _choose(layout, alternative)
    return packages


def packages_now() -> tuple[dict[str, Signature], list[Package]]:
    """Return all installed packages, after the signatures of what changes whenever packages,
    diversions or alternatives do, by path. Raises HostError where there is no dpkg."""
    directory = Path(admin_directory())
    watched = [str(directory / name) for name in ("alternatives", "diversions", "status")]
    return {path: mark_of(path) for path in watched}, installed_packages()


def _choose(layout: Layout, alternative: Alternative) -> None:
    """Link an alternative to its best choice in the tree, whatever this machine's choice is."""
    choices = [choice for choice in alternative.choices if _has(layout, choice.path)]
    if not choices:
        return
    best = min(choices, key=_rank)
    layout.link(alternative.link, best.path)
    for link, target in sorted(best.slaves.items()):
        layout.link(link, target)


def _rank(choice: Choice) -> tuple[int, str]:
    return (-choice.priority, choice.path)


def _has(layout: Layout, path: str) -> bool:
    return layout.resolve(layout.host.canonical(path).lstrip("/")) is not None
