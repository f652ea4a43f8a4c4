"""What a bench found: kept as JSON, reckoned as medians, spreads and ratios."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from attrs import asdict, evolve, field, frozen

from tests.bench.measure import Usage
from tests.bench.model import PHASES
from tests.bench.phases import Sample, Skipped

FORMAT: Final = 1
BASE: Final = "ninja"


@frozen(kw_only=True)
class Results:
    """Everything about one bench, or about several that were put together."""

    machine: Mapping[str, Any]
    options: Mapping[str, Any]
    versions: Mapping[str, str]
    notes: Mapping[str, str]
    titles: Mapping[str, str]
    samples: Sequence[Sample] = field(repr=False)
    skipped: Sequence[Skipped] = field(factory=list)
    missing: Mapping[str, str] = field(factory=dict)
    checked: int = 0

    def document(self) -> dict[str, Any]:
        """Return the JSON form, with the summary that the tables show."""
        summary = [
            {"workload": name, "phase": phase, "peer": peer, **asdict(self.cell(name, phase, peer))}
            for name in self.titles
            for phase in self.phases(name)
            for peer in self.peers(name)
            if self.runs(name, phase, peer)
        ]
        return {"format": FORMAT, **asdict(self), "summary": summary}

    def runs(self, workload: str, phase: str, peer: str) -> dict[int, Usage]:
        """Return the runs of a phase by round."""
        key = (workload, phase, peer)
        return {s.round: s.usage for s in self.samples if (s.workload, s.phase, s.peer) == key}

    def phases(self, workload: str) -> list[str]:
        """Return the phases that were run, in order."""
        found = {sample.phase for sample in self.samples if sample.workload == workload}
        return [phase for phase in PHASES if phase in found]

    def peers(self, workload: str) -> list[str]:
        """Return the tools that took part, in order."""
        found = dict.fromkeys(s.peer for s in self.samples if s.workload == workload)
        known = [name for name in self.versions if name in found]
        return [*known, *(name for name in found if name not in known)]

    def cell(self, workload: str, phase: str, peer: str) -> Cell:
        """Return the summary of the runs of a phase by a tool, of which there is at least one."""
        runs = self.runs(workload, phase, peer)
        base = self.runs(workload, phase, BASE)
        seconds = [usage.seconds for usage in runs.values()]
        pairs = [
            usage.seconds / base[number].seconds for number, usage in runs.items() if number in base
        ]
        return Cell(
            median=statistics.median(seconds),
            least=min(seconds),
            most=max(seconds),
            runs=len(seconds),
            ratio=statistics.median(pairs) if pairs else None,
            cpu=statistics.median(usage.cpu for usage in runs.values()),
            memory=max(usage.memory for usage in runs.values()),
        )


@frozen
class Cell:
    """Seconds of wall time (median, least, most), the median of the ratios to ninja in the same
    round, median seconds of processor time, most bytes of memory."""

    median: float
    least: float
    most: float
    runs: int
    ratio: float | None
    cpu: float
    memory: int


def load(document: Mapping[str, Any]) -> Results:
    """Return the results that `Results.document` wrote; raises ValueError for another format."""
    if document.get("format") != FORMAT:
        raise ValueError("not results of this bench")
    samples = [Sample(**{**one, "usage": Usage(**one["usage"])}) for one in document["samples"]]
    skipped = [Skipped(**one) for one in document["skipped"]]
    kept = {k: v for k, v in document.items() if k not in ("format", "summary")}
    return Results(**{**kept, "samples": samples, "skipped": skipped})


def together(parts: Iterable[Results]) -> Results:
    """Return results as one: of a workload that is in several, those of the last one."""
    first, *rest = parts
    for part in rest:
        samples = [one for one in first.samples if one.workload not in part.titles]
        skipped = [one for one in first.skipped if one.workload not in part.titles]
        first = evolve(
            part,
            versions={**first.versions, **part.versions},
            notes={**first.notes, **part.notes},
            titles={**first.titles, **part.titles},
            missing={**first.missing, **part.missing},
            samples=[*samples, *part.samples],
            skipped=[*skipped, *part.skipped],
            checked=first.checked + part.checked,
        )
    return first


def machine(directory: Path) -> dict[str, Any]:
    """Return what of this machine decides the times."""
    with open("/proc/meminfo") as file:
        memory = int(file.readline().split()[1]) * 1024
    return {
        "processors": len(os.sched_getaffinity(0)),
        "memory": memory,
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "file_system": _file_system(directory),
        "root": os.getuid() == 0,
    }


def _file_system(directory: Path) -> str:
    """Return the type of the file system that `directory` is on."""
    found, longest = "?", -1
    here = f"{directory.resolve()}/"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, kind, *_ = line.split()
        if here.startswith(f"{point.rstrip('/')}/") and len(point) >= longest:
            found, longest = kind, len(point)
    return found
