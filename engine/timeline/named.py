"""Recorded builds by the names that users give them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from engine.timeline.log import builds, read_timeline
from store.errors import InputError

LAST: Final = "last"

_BACK: Final = re.compile(r"last(?:~(\d+))?")


def find_build(root: Path, text: str = LAST, spec: Path | None = None) -> str:
    """Return the build that `text` names in the store at `root`: its id or how it alone begins,
    `last`, or `last~2` for the second before it; with `spec`, among its builds.

    Raises InputError.
    """
    names = builds(root)
    if spec is not None:
        names = [name for name in names if spec_of(root, name) == str(spec)]
    if not names:
        of = f" of {spec}" if spec is not None else ""
        raise InputError(f"no build{of} is recorded", "bn build first")
    back = _BACK.fullmatch(text)
    if back is not None:
        number = int(back[1] or 0)
        if number >= len(names):
            raise InputError(f"build {text}: only {len(names)} are recorded", "bn timeline list")
        return names[number]
    found = [name for name in names if name == text] or [
        name for name in names if name.startswith(text)
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"build {text}: {len(found)} begin like that", f"one is {found[0]}")
    raise InputError(f"build {text}: not recorded", f"the last one is {names[0]}")


def spec_of(root: Path, build: str) -> str | None:
    """Return the spec that a recorded build was of."""
    spec = next(read_timeline(root, build), {}).get("spec")
    return None if spec is None else str(spec)
