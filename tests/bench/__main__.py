"""The bench that anyone can run: bn and its peers in turn on the same workloads.

Run it: python -m tests.bench [--help]. It writes results.json, results.md and charts.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from attrs import evolve

from tests.bench.model import PHASES
from tests.bench.peers import BY_NAME, PEERS
from tests.bench.peers.base import Setting
from tests.bench.phases import Bench, DifferentBytesError, Plan
from tests.bench.render import charts, rewrite_readme, write
from tests.bench.results import Results, load, machine, together
from tests.bench.workloads import NAMES, SIZES, SMALL, known, make, parse_sizes

TOP = Path(__file__).resolve().parents[2]
CHARTS = Path(__file__).with_name("charts")


def names(context: click.Context, parameter: click.Parameter, text: str) -> list[str]:
    """Return a list of names that commas part."""
    return [one for one in text.split(",") if one]


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "-w",
    "--workloads",
    default=",".join(SIZES),
    callback=names,
    help=f"Of {', '.join(NAMES)} (default: all).",
)
@click.option(
    "-p",
    "--peers",
    default=",".join(peer.name for peer in PEERS),
    callback=names,
    help=f"Of {', '.join(BY_NAME)}; what is not installed is left out and named.",
)
@click.option("--without", default="", callback=names, help="Peers to leave out.")
@click.option("--phases", default="", callback=names, help=f"Of {', '.join(PHASES)}.")
@click.option("-r", "--rounds", default=5, type=click.IntRange(1), help="Rounds of each workload.")
@click.option("--slow-rounds", default=2, help="Rounds of bazel, nix and turbo.")
@click.option("--sizes", default="", help="As W1=500,W3=20x50x4,W5=100+1000,W6=64MiB.")
@click.option("--small", is_flag=True, help="Sizes that only show whether everything works.")
@click.option("--limits/--no-limits", default=True, help="Spare slow peers the large workloads.")
@click.option("--every", is_flag=True, help="W1: bn shows every output, not the end alone.")
@click.option("--sync/--no-sync", default=True, help="Let the disk settle before each run.")
@click.option("--timeout", default=900.0, help="Seconds for one run.")
@click.option("-j", "--jobs", default=len(os.sched_getaffinity(0)), help="Actions at a time.")
@click.option("--seed", default=0, help="Decides what changes where, and the shape of W3.")
@click.option("--program", "programs", multiple=True, metavar="NAME=PATH", help="As n2=/opt/n2.")
@click.option("--work", type=click.Path(path_type=Path), help="Directory to build in.")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default=Path("bench-results"),
    help="Directory for results.json, results.md and charts.",
)
@click.option(
    "--from",
    "given",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Run nothing and show what these results.json hold.",
)
@click.option("--readme", is_flag=True, help="Rewrite the README's section and its charts.")
def main(given: tuple[Path, ...], readme: bool, out: Path, **options: Any) -> None:
    """Run workloads with bn and each peer that is installed, in turn, and compare.

    All tools must leave the same bytes, or the bench fails. Builds go to a temporary directory,
    on the file system of $BN_BENCH_DIR or --work.
    """
    try:
        if given:
            results = together(load(json.loads(path.read_text())) for path in given)
        else:
            results = run(out=out, **options)
        images = charts(results)
        write(results, out, images)
        if readme:
            rewrite_readme(TOP / "README.md", results, images, CHARTS)
    except (ValueError, DifferentBytesError) as error:
        raise click.ClickException(str(error)) from None
    say(f"{out}/results.md")


def run(
    workloads: list[str],
    peers: list[str],
    without: list[str],
    phases: list[str],
    sizes: str,
    small: bool,
    every: bool,
    programs: tuple[str, ...],
    jobs: int,
    work: Path | None,
    out: Path,
    seed: int,
    **plan: Any,
) -> Results:
    """Run the bench and return what it found, which is also kept after each workload."""
    chosen = parse_sizes(sizes, SMALL if small else SIZES)
    known(workloads)
    unknown = [name for name in (*peers, *without) if name not in BY_NAME]
    unknown += [name for name in phases if name not in PHASES]
    if unknown:
        raise ValueError(f"there is no {', '.join(unknown)}")
    setting = Setting(programs=dict(_program(one) for one in programs), jobs=jobs)
    kinds = [BY_NAME[name] for name in peers if name not in without]
    missing = {kind.name: reason for kind in kinds if (reason := kind.missing(setting))}
    for name, reason in missing.items():
        say(f"{name} left out: {reason}")
    kinds = [kind for kind in kinds if kind.name not in missing]
    place = work or os.environ.get("BN_BENCH_DIR")
    if work:
        work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=place) as directory:
        bench = Bench(setting, Path(directory), Plan(phases=tuple(phases), seed=seed, **plan), say)
        results = Results(
            machine=machine(Path(directory)),
            options={"sizes": chosen, "jobs": jobs, "seed": seed, "phases": phases, **plan},
            versions={kind.name: kind.version(setting) for kind in kinds},
            notes={kind.name: kind.note for kind in kinds},
            titles={},
            samples=bench.samples,
            skipped=bench.skipped,
            missing=missing,
        )
        for name in workloads:
            for workload in make(name, chosen, seed, every, say):
                bench.run(workload, kinds)
                titles = {**results.titles, workload.name: workload.title}
                results = evolve(results, titles=titles, checked=bench.checked)
                _keep(results, out)
    return results


def _keep(results: Results, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(results.document(), indent=1) + "\n")


def _program(text: str) -> tuple[str, str]:
    name, found, path = text.partition("=")
    if not found or not os.access(path, os.X_OK):
        raise ValueError(f"--program {text}: not NAME=PATH of a program")
    return name, str(Path(path).resolve())


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that servers are ended
    main()
