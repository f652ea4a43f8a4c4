"""Kept results: one line of JSON for each run in `benchmark/results.jsonl` of the store.

They are in a file of the store and not in its index, because they outlive it: to lose the index
loses nothing that cannot be found again, and what a disk could do a year ago cannot.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from store.errors import host_error
from store.where import default_store

if TYPE_CHECKING:
    from engine.resources.benchmark.results import Run


def directory(store: Path | None = None) -> Path:
    """Return where results, and what benchmarks need, are kept."""
    return (store or default_store()) / "benchmark"


def keep(runs: Iterable[Run], store: Path | None = None) -> None:
    """Add runs to the history; raises HostError."""
    from attrs import asdict

    from engine.resources.benchmark.results import FORMAT

    lines = "".join(
        json.dumps({"format": FORMAT, **asdict(run)}, sort_keys=True) + "\n" for run in runs
    )
    path = directory(store) / "results.jsonl"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(lines.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise host_error(error, "cannot keep the results") from error


def history(store: Path | None = None) -> list[Run]:
    """Return all runs that are kept, oldest first; lines that cannot be read are left out."""
    from engine.resources.benchmark.results import runs_of

    found = []
    for line in _lines(store):
        try:
            found += runs_of({"format": line.get("format"), "runs": [line]})
        except (ValueError, AttributeError):
            continue
    return sorted(found, key=lambda run: run.time)


def speeds(store: Path | None = None, node: str | None = None) -> dict[str, float]:
    """Return the BPU of one core of a node (this one) as measured last, by kind of core; "" is the
    kind of a machine that has only one. Quick: reads no more than it has to, imports nothing."""
    here = node or os.uname().nodename
    found: dict[str, float] = {}
    for line in _lines(store):
        if line.get("kind") == "cpu" and line.get("node") == here:
            single = {
                one["name"].removeprefix("cpu.single").removeprefix("."): one["value"]
                for one in line.get("measures", ())
                if one.get("name", "").startswith("cpu.single")
            }
            found = single or found
    return found


def _lines(store: Path | None) -> Iterator[dict[str, Any]]:
    try:
        told = (directory(store) / "results.jsonl").read_bytes().splitlines()
    except OSError:
        return
    for line in told:
        try:
            value = json.loads(line)
        except ValueError:  # a line that a crash cut off
            continue
        if isinstance(value, dict):
            yield value
