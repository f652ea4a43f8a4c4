"""The words of `bn build` that are taken apart without the parser of options: to load that takes
longer than anything else in a small build."""

from __future__ import annotations

TYPE_CHECKING = False  # asked before typing is there
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_FLAGS = {"-k": "keep_going", "--keep-going": "keep_going", "--keep-failed": "keep_failed"}
_JOBS = ("-j", "--jobs")


def plain_words(words: Iterable[str]) -> tuple[list[str], dict[str, Any]] | None:
    """Return the names among the words of a command line, and the options as members of a request;
    None where there is another option, or one that is not as it has to be: that is told elsewhere.
    """
    names: list[str] = []
    options: dict[str, Any] = {}
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            names.append(word)
        elif word in _FLAGS:
            options[_FLAGS[word]] = True
        elif word.startswith(_JOBS):
            start = "--jobs=" if word.startswith("--") else "-j"
            jobs = next(rest, "") if word in _JOBS else word.removeprefix(start)
            if not (jobs.isascii() and jobs.isdigit() and 0 < int(jobs) < 1 << 31):
                return None
            options["jobs"] = int(jobs)
        else:
            return None
    return names, options
