"""`[resources]` and `[benchmark]` in the configuration: their form, and what they come to.

::

    [resources]
    strategy = "reserved"        # all, fixed, percentage or reserved
    cpus = 2                     # fixed: so many threads; reserved: so many are left to others
    memory = "4GB"               # likewise
    percent = 50                 # percentage: of threads and of memory

    [benchmark]
    automatic = false            # `bn watch` measures nothing by itself
    cpu_days = 30
    memory_days = 30
    storage_days = 7
    network_days = 1             # 0 is never
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import asdict, frozen

from engine.spec.faults import Fault, nearest
from engine.spec.model import documented
from engine.units import parse_size

if TYPE_CHECKING:
    from engine.config_form import ConfigFile
    from engine.resources.allocation import Share
    from engine.resources.benchmark.due import Schedule


@frozen(kw_only=True)
class ResourcesTable:
    """`[resources]`: what of this machine bn may use."""

    strategy: str | None = documented("all, fixed, percentage or reserved (all)", default=None)
    cpus: int | None = documented("threads used (fixed) or left to others (reserved)", default=None)
    memory: str | None = documented("memory used or left to others, as 4GB", default=None)
    percent: float | None = documented("share of threads and memory (percentage)", default=None)


@frozen(kw_only=True)
class BenchmarkTable:
    """`[benchmark]`: when this machine is measured again."""

    automatic: bool | None = documented("bn watch measures what is due (true)", default=None)
    cpu_days: float | None = documented("days between; 0 is never (30)", default=None)
    memory_days: float | None = documented("days between; 0 is never (30)", default=None)
    storage_days: float | None = documented("days between; 0 is never (7)", default=None)
    network_days: float | None = documented("days between; 0 is never (1)", default=None)


def faults(path: Path, resources: ResourcesTable, benchmark: BenchmarkTable) -> Iterator[Fault]:
    """Yield what is wrong with the tables of the file at `path`."""
    strategy = resources.strategy
    if strategy is not None:
        from engine.resources.allocation import STRATEGIES  # builds read no such thing

        if strategy not in STRATEGIES:
            message = f"unknown strategy {strategy!r}"
            yield Fault(path, ("resources", "strategy"), message, nearest(strategy, STRATEGIES))
    if resources.cpus is not None and resources.cpus < (1 if strategy == "fixed" else 0):
        yield Fault(path, ("resources", "cpus"), "too few")
    if resources.percent is not None and not 0 < resources.percent <= 100:
        yield Fault(path, ("resources", "percent"), "between 0 and 100")
    if strategy == "percentage" and resources.percent is None:
        yield Fault(path, ("resources", "strategy"), "percentage needs `percent`")
    if resources.memory is not None:
        try:
            parse_size(resources.memory)
        except ValueError as error:
            yield Fault(path, ("resources", "memory"), str(error))
    for name, value in asdict(benchmark).items():
        if name != "automatic" and value is not None and value < 0:
            yield Fault(path, ("benchmark", name), "less than 0 days")


def share(start: Path | None = None) -> Share:
    """Return what `[resources]` of the configuration says; raises InputError."""
    from engine.resources.allocation import Share

    tables = [file.resources for file in _files(start)]
    told = {
        key: value for table in tables for key, value in asdict(table).items() if value is not None
    }
    if "memory" in told:
        told["memory"] = parse_size(told["memory"])
    return Share(**told)


def schedule(start: Path | None = None) -> Schedule:
    """Return what `[benchmark]` of the configuration says; raises InputError."""
    from engine.resources.benchmark.due import Schedule

    tables = [file.benchmark for file in _files(start)]
    told = {
        key: value for table in tables for key, value in asdict(table).items() if value is not None
    }
    return Schedule(**told)


def _files(start: Path | None) -> Iterator[ConfigFile]:
    from engine.config import project_file, user_file
    from engine.config_form import read_file

    for path in (user_file(), project_file(start or Path.cwd())):
        if path is not None and path.exists():
            yield read_file(path)
