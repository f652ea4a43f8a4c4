"""Selectors (`artifact`, `artifact:glob`, `import:artifact:glob`) and their globs."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from store.records import frozen


@frozen
class Selector:
    """What to take from an artifact: all of it, or the files that `pattern` matches."""

    artifact: str
    pattern: str | None = None
    imported: str | None = None

    def __str__(self) -> str:
        """Return the text that it was parsed from."""
        return ":".join(part for part in (self.imported, self.artifact, self.pattern) if part)


def parse_selector(text: str, imports: Callable[[str], bool]) -> Selector:
    """Return the selector in `text`; the first part is an import where `imports` says so.

    Raises ValueError where it has an empty part or too many.
    """
    parts = text.split(":")
    if not all(parts):
        raise ValueError("a selector is artifact, artifact:glob or import:artifact:glob")
    if len(parts) > 1 and imports(parts[0]):
        _, artifact, *rest = parts
        return Selector(artifact, ":".join(rest) or None, parts[0])
    return Selector(parts[0], ":".join(parts[1:]) or None)


@lru_cache(maxsize=4096)
def matcher(pattern: str) -> Callable[[str], bool]:
    """Return the test whether a relative path matches `pattern`.

    `*` and `?` stay within one path component and do not match a leading dot, `**` crosses
    directories, `[…]` is a character class.
    """
    from wcmatch import glob  # most builds need no glob translated anew: it is not loaded for them

    positive, negative = glob.translate(pattern, flags=glob.GLOBSTAR | glob.FORCEUNIX)
    tests = [re.compile(text) for text in positive]
    excluded = [re.compile(text) for text in negative]
    if len(tests) == 1 and not excluded:
        test = tests[0].fullmatch
        return lambda path: test(path) is not None
    return lambda path: (
        any(test.fullmatch(path) for test in tests)
        and not any(test.fullmatch(path) for test in excluded)
    )


def may_match_below(pattern: str, directory: str) -> bool:
    """Say whether `pattern` could match a path below `directory`."""
    wanted = pattern.split("/")
    for number, part in enumerate(directory.split("/")):
        if number >= len(wanted) - 1 and "**" not in wanted:
            return False
        if number < len(wanted) and wanted[number] == "**":
            return True
        if number >= len(wanted) or not matcher(wanted[number])(part):
            return False
    return True
