"""Build records: what was looked at when a build was up to date, so that the next one can say so
without evaluating anything.

A record belongs to one command line in one directory. It holds the signatures of every file and
directory that the answer depended on; while all of them are the same, so is the answer. Nothing
heavy is imported here: this is the whole of an up-to-date `bn build`.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from blake3 import blake3

FORMAT = 1
RENEW_SECONDS = 86400
"""Age from which a record and its timeline are touched when they are used."""


def record_path(store: Path, arguments: Sequence[str]) -> Path:
    """Return where the record of a command line in the current directory lies."""
    name = blake3("\0".join([os.getcwd(), *arguments]).encode("utf-8", "surrogateescape"))
    return store / "records" / name.hexdigest()[:32]


def read_record(path: Path) -> dict[str, Any] | None:
    """Return the record at `path` if everything that it saw is still as it was, else None."""
    try:
        with open(path, "rb") as file:
            record = json.load(file)
        if record["format"] != FORMAT:
            return None
        for name, *seen in record["watched"]:
            status = os.lstat(name)
            now = [status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino]
            if now != seen:
                return None
        for link, target in record["links"]:
            if os.readlink(link) != target or not os.path.isdir(target):
                return None
        _renew(path, record.get("timeline"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record  # type: ignore[no-any-return]


def _renew(*paths: str | Path | None) -> None:
    """Note that the build is still current, so that the collector keeps what it is made of."""
    for path in paths:
        if path and time.time() - os.stat(path).st_mtime > RENEW_SECONDS:
            with contextlib.suppress(OSError):  # the store is read-only, say
                os.utime(path)


def write_record(
    path: Path,
    watched: Mapping[str, tuple[int, int, int, int]],
    links: Mapping[str, str],
    stdout: str,
    stderr: str,
    timeline: str | None = None,
) -> None:
    """Write a record: signatures by absolute path, links with their targets, what to print when
    nothing of that changed, and the path of the build's timeline."""
    record = {
        "format": FORMAT,
        "links": list(links.items()),
        "stderr": stderr,
        "stdout": stdout,
        "timeline": timeline,
        "watched": [[name, *mark] for name, mark in watched.items()],
    }
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(record, separators=(",", ":")))
    os.replace(temporary, path)
