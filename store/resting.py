"""Tables at rest: whether an LMDB file was last changed by who should, and a check where not."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from store.epoch import EPOCH_NS
from store.errors import IntegrityError
from store.pages import DATA

_GLANCES: Final = 12
_GLANCE_SECONDS: Final = 0.003
"""How often, and after how long, tables that are just written to are looked at again."""


def at_rest(path: Path) -> bool:
    """Say whether the tables in `path` were last changed by an `Environment`, or are not there."""
    try:
        status = os.stat(path / DATA)
    except OSError as error:
        return error.errno == errno.ENOENT
    return status.st_mtime_ns == EPOCH_NS[0]


def comes_to_rest(path: Path) -> bool:
    """Say whether the tables in `path` are at rest, or are so in a moment: another process may be
    writing just now."""
    for _ in range(_GLANCES):
        if at_rest(path):
            return True
        with contextlib.suppress(OSError):
            if abs(time.time() - os.stat(path / DATA).st_mtime) > 1.0:
                break
        time.sleep(_GLANCE_SECONDS)
    return at_rest(path)


def check(path: Path, tables: Iterable[str], what: str, hint: str) -> None:
    """Read all tables in the directory `path`, in a child process because a damaged one can end it;
    raises IntegrityError where that fails."""
    import subprocess

    command = [sys.executable, "-I", "-m", "store.soundness", str(path), *tables]
    done = subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or [f"reading it ends with {done.returncode}"]
        raise corrupt(path, what, last[0], hint)


def corrupt(path: Path, what: str, why: str, hint: str) -> IntegrityError:
    """Return the error that says that the tables in `path` are damaged."""
    return IntegrityError(f"{path}: the {what} is corrupt: {why}", hint)
