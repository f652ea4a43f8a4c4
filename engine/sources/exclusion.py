"""Exclusion globs: which relative paths are left out of a tree."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final

from wcmatch import glob

ALWAYS: Final = tuple(
    f"**/{name}" for name in (".git", ".hg", ".svn", ".bzr", ".venv", "__pycache__")
)
"""What no source directory means to hold: version control, a virtual environment, byte code."""

_FLAGS: Final = glob.GLOBSTAR | glob.DOTGLOB | glob.FORCEUNIX


def exclusion(globs: Iterable[str]) -> Callable[[str], bool]:
    """Return the test whether a relative path, or a directory that it lies in, matches a glob.

    `**` crosses directories and, unlike in selectors, `*` matches a leading dot too.
    """
    wanted = [pattern.strip("/") for pattern in globs]
    texts = glob.translate(wanted, flags=_FLAGS)[0] if wanted else []
    tests = [re.compile(text) for text in texts]
    if not tests:
        return lambda path: False

    def matches(path: str) -> bool:
        return any(test.fullmatch(path) for test in tests)

    @lru_cache(maxsize=4096)
    def directory(path: str) -> bool:
        parent = path.rpartition("/")[0]
        return matches(path) or (parent != "" and directory(parent))

    def excluded(path: str) -> bool:
        parent = path.rpartition("/")[0]
        return matches(path) or (parent != "" and directory(parent))

    return excluded
