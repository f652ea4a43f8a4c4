"""Exclusion globs: which relative paths are left out of a tree."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final

ALWAYS: Final = tuple(
    f"**/{name}" for name in (".git", ".hg", ".svn", ".bzr", ".venv", "__pycache__")
)
"""What no source directory means to hold: version control, a virtual environment, byte code."""

_NAME: Final = r"[A-Za-z0-9_.+-]+"
_PATH: Final = r"[A-Za-z0-9_+-][A-Za-z0-9_.+-]*(?:/[A-Za-z0-9_+-][A-Za-z0-9_.+-]*)*"
"""What stands for itself alone in a glob: a name, a path."""


def exclusion(globs: Iterable[str]) -> Callable[[str], bool]:
    """Return the test whether a relative path, or a directory that it lies in, matches a glob.

    `**` crosses directories and, unlike in selectors, `*` matches a leading dot too.
    """
    wanted = [pattern.strip("/") for pattern in globs]
    names = {one[3:] for one in wanted if one.startswith("**/") and re.fullmatch(_NAME, one[3:])}
    paths = {one for one in wanted if re.fullmatch(_PATH, one)}
    others = sorted({*wanted} - paths - {f"**/{name}" for name in names})
    matches = _matcher(others)
    if not wanted:
        return lambda path: False

    def excluded(path: str) -> bool:
        parent, _, name = path.rpartition("/")
        if name in names or path in paths or matches(path):
            return True
        return parent != "" and directory(parent)

    directory = lru_cache(maxsize=4096)(excluded)
    return excluded


def local_exclusion(store: str, globs: Iterable[str], root: str) -> Callable[[str], bool]:
    """Return the test for a source that is the directory `root`, with the store's path `store`."""
    excluded = exclusion([*ALWAYS, *globs])
    own = os.path.relpath(store, root)
    if own.startswith("../"):
        return excluded
    # A store that lies in the source would take itself in, and grow with each build.
    return lambda path: path == own or excluded(path)


def _matcher(globs: list[str]) -> Callable[[str], object]:
    if not globs:
        return lambda path: None
    from wcmatch import glob

    texts = glob.translate(globs, flags=glob.GLOBSTAR | glob.DOTGLOB | glob.FORCEUNIX)[0]
    return re.compile("|".join(f"(?:{text})" for text in texts)).fullmatch
